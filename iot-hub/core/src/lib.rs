//! Fleet and Device machines.
