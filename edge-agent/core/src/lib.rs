//! The Agent machine.
