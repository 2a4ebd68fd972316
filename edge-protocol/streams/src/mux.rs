//! Streams of one connection, whatever carries them.
//!
//! * `table`: every stream's state, buffers and turns; decides, does no IO and waits for nothing.
//! * `shared`: the table behind a lock, and the waiting.
//! * `stream`: the handles that users hold.
//! * `connection`: the owner of the tasks that read and write a connection; its end is theirs.
//! * `writing`: the writing task of those that are bytes.
//!
//! SPDY sessions, WebSocket channels and commands' pipes bring the two tasks; what a stream is, and how it is held back, is the same for all.

mod connection;
mod entry;
mod shared;
mod stream;
mod table;
mod writing;

pub(crate) use connection::Connection;
pub use connection::{Activity, Gone};
pub(crate) use shared::Shared;
pub use stream::{ReadHalf, Stream, WriteHalf};
pub(crate) use table::{Direction, Next, Word};
pub(crate) use writing::{Carrier, write_words};
