//! outrigger-hub.

fn main() {}
