//! outrigger-agent.

fn main() {}
