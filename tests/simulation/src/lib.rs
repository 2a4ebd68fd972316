//! The cores of provider, hub and agents on virtual time, in a world where everything that can go wrong does.
//!
//! One seed drives all of it: [`simulate`] has no clock, no thread and no other source of chance, so a failing seed replays. Reading order:
//!
//! * `world`: the loop. `event` and `queue`: what can happen, and when. `chance`: the seed, and how bad a seed's weather is.
//! * `pods`: the API server and what people ask of it. `users` and `misfortune`: what happens to it.
//! * `bridge`, `hub`, `device`: each process with its machine, and a pump that does what the real pump does: effects in order, a
//!   commit reported when it is on disk, a crash after any effect.
//! * `objects`: config maps and secrets, from their edits to the files in a pod's volumes.
//! * `disk`, `runtime`, `steps`, `wire`: what outlives a process, and what lies between two.
//! * `laws`: what must hold at every event. `settled`: what must hold once the storm is over. Both read runtime, wire and disk, never
//!   a machine's own view; `ledger` is what they remember.
//! * `exemptions`: what the judges let pass, and why.
//! * `coverage`: how often each fault, law and rare path was met.
//!
//! It must not know how a machine decides. What it knows of each is its `step` and its documented contract with the pump.

mod bridge;
mod chance;
mod coverage;
mod device;
mod disk;
mod event;
mod exemptions;
mod hub;
mod laws;
mod ledger;
mod misfortune;
mod objects;
mod order;
mod pods;
mod queue;
mod runtime;
mod settled;
mod steps;
mod trace;
mod users;
mod wire;
mod world;

use edge_protocol::Digest;

pub use coverage::{Coverage, Kind, Path, Tally};

/// How one seed went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub seed: u64,
    /// Events that happened.
    pub events: u64,
    /// How much virtual time went by.
    pub virtual_ms: u64,
    /// The law that was broken, if one was.
    pub failure: Option<String>,
    /// Every event in words; empty unless it was asked for.
    pub trace: String,
    /// Of the trace.
    pub digest: Digest,
    pub coverage: Coverage,
}

/// Runs one seed to its end. The same seed gives the same outcome, with or without a trace.
pub fn simulate(seed: u64, trace: bool) -> Outcome {
    let mut world = world::World::new(seed, trace);
    world.run();
    Outcome {
        seed,
        events: world.events,
        virtual_ms: world.now,
        digest: world.trace.digest(),
        trace: world.trace.text().to_owned(),
        failure: world.failure,
        coverage: world.coverage,
    }
}
