//! Fleet and Device machines.

pub mod io;

pub use io::*;
