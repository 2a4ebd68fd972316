//! Logs of containers: told to whoever asks, and kept from growing for ever. The runtime writes them.
//!
//! It knows directories and attempts, and neither workloads nor the runtime: `cri/logs.rs` has the layout, and says which containers run.
//!
//! - `files`: the names of a log's files; `line`: the form of a line. [`source`](source::Source): one file, compressed or not.
//! - `reader`: from file to file, in turns without waiting; `place`: where it is in one; `start`: where it begins; `teller`: what of the lines is told, as frames.
//! - [`stream`](LogStream): the same for somebody who waits, with [`watch`](Watcher) to be woken.
//! - [`rotate`](Rotation): another file when one is large.

mod files;
mod line;
mod place;
mod reader;
mod rotate;
mod source;
mod start;
mod stream;
mod teller;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use files::attempt;
pub(crate) use rotate::Rotated;
pub use rotate::Rotation;
pub use stream::{LogCaps, LogFault, LogStream, Standing};
pub(crate) use watch::Watcher;
