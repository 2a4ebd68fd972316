//! `simulation --from A --seeds N` runs the `N` seeds from `A` on; `simulation --seed N` replays one with its trace.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};
use simulation::{Kind, Outcome, Path, Tally, simulate};

/// More failures than this say nothing new.
const ENOUGH: usize = 10;
const USAGE: &str = "usage: simulation [[--from N] --seeds N | --seed N]";

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| {
        text.parse::<u64>()
            .with_context(|| format!("{text:?} is no number; {USAGE}"))
    };
    match args.as_slice() {
        [] => Ok(many(0, 500)),
        ["--seeds", count] => Ok(many(0, number(count)?)),
        ["--from", first, "--seeds", count] => Ok(many(number(first)?, number(count)?)),
        ["--seed", seed] => Ok(replay(number(seed)?)),
        _ => bail!(USAGE),
    }
}

fn replay(seed: u64) -> ExitCode {
    let outcome = simulate(seed, true);
    print!("{}", outcome.trace);
    println!("{}", line(&outcome));
    code(outcome.failure.is_none())
}

/// What one thread did, and with others' all of it.
#[derive(Debug, Default)]
struct Part {
    failed: Vec<u64>,
    events: u64,
    tally: Tally,
}

impl Part {
    fn with(mut self, other: Self) -> Self {
        self.failed.extend(other.failed);
        self.events += other.events;
        self.tally.merge(&other.tally);
        self
    }
}

/// Each seed is a world of its own, so they may run side by side.
fn many(first: u64, count: u64) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let failures = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let run = || {
        let mut part = Part::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let seed = first + number;
            if number >= count || failures.load(Ordering::Relaxed) >= ENOUGH {
                return part;
            }
            let outcome = simulate(seed, false);
            part.events += outcome.events;
            part.tally.add(&outcome.coverage);
            if outcome.failure.is_some() {
                println!("{}", line(&outcome));
                failures.fetch_add(1, Ordering::Relaxed);
                part.failed.push(seed);
            }
        }
    };
    let Part {
        mut failed,
        events,
        tally,
    } = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().fold(Part::default(), |whole, thread| {
            whole.with(thread.join().expect("a broken law is an outcome, not a panic"))
        })
    });
    show(&tally);
    failed.sort_unstable();
    println!(
        "{} of {count} seeds, {events} events in {:.1} s: {} failed{}",
        next.into_inner().min(count),
        begun.elapsed().as_secs_f64(),
        failed.len(),
        failed
            .first()
            .map_or(String::new(), |seed| format!("; replay with --seed {seed}"))
    );
    code(failed.is_empty())
}

/// What the seeds met, so that what they never met is seen.
fn show(tally: &Tally) {
    let heads = [
        (Kind::Fault, "faults"),
        (Kind::Law, "what the laws judged"),
        (Kind::Rare, "paths"),
        (Kind::Exemption, "exemptions"),
    ];
    for (kind, head) in heads {
        println!("{head}:");
        for path in Path::ALL.iter().filter(|path| path.kind() == kind) {
            let (words, times, seeds) = (path.words(), tally.times(*path), tally.seeds(*path));
            match times {
                0 => println!("  {words:<40} NEVER"),
                _ => println!("  {words:<40} {times:>9} times in {seeds} seeds"),
            }
        }
    }
}

fn line(outcome: &Outcome) -> String {
    format!(
        "seed {}: {} after {} events, {} virtual seconds",
        outcome.seed,
        outcome.failure.as_deref().unwrap_or("all laws held"),
        outcome.events,
        outcome.virtual_ms / 1_000
    )
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
