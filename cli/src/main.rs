//! outrigger.

fn main() {}
