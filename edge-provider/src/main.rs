//! outrigger-kubelet.

fn main() {}
