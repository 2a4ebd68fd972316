//! A quick selection of seeds, that a seed replays, and that planted faults are found.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failure")]

mod plants;

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use simulation::simulate;

/// Seeds in the quick selection; CI runs many more with `cargo xtask sim`.
const QUICK: u64 = 40;

#[test]
fn the_laws_hold() {
    let next = AtomicU64::new(0);
    let run = || {
        let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let outcomes = seeds
            .take_while(|seed| *seed < QUICK)
            .map(|seed| simulate(seed, false));
        outcomes
            .filter_map(|outcome| Some(format!("seed {}: {}", outcome.seed, outcome.failure?)))
            .collect::<Vec<String>>()
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let failed: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_seed_replays() {
    for seed in [3, 17, 101] {
        let (first, second) = (simulate(seed, true), simulate(seed, true));
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert_eq!(first, second);
        let silent = simulate(seed, false);
        assert_eq!(
            (silent.events, silent.virtual_ms),
            (first.events, first.virtual_ms),
            "looking changes seed {seed}"
        );
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(simulate(1, true).digest, simulate(2, true).digest);
}

#[test]
fn a_trace_tells_who_did_what_when() {
    let outcome = simulate(5, true);
    for word in ["user", "api", "bridge", "hub", "dev-0", "RUNS", "sends", "commit"] {
        assert!(outcome.trace.contains(word), "{word}");
    }
}
