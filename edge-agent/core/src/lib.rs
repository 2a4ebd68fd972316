//! The Agent machine: everything an edge device decides, and nothing it does.
//!
//! Inputs go in, effects come out; the pump in `edge-agent` executes them and decides nothing. Reading order:
//!
//! * [`io`]: the seam to the pump: what goes in, what comes out, what the store must keep.
//! * [`step`]: the seam to a container runtime: what may be asked of it and what is seen there.

pub mod io;
pub mod step;

pub use edge_protocol::Now;
pub use io::{Effect, Input, Note, Restored, TrustedSet, Tx, Write};
pub use step::{
    Observed, ObservedContainer, ObservedSandbox, ObservedState, SandboxSpec, StartContainer, Step, StepId,
    StepOutcome,
};
