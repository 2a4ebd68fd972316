//! Apply → Ready of two sides in alternation: single pods, then bursts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::BenchError;
use crate::pods::Cluster;
use crate::round::{self, Round};
use crate::side::Side;
use crate::statistics::{Summary, milliseconds};
use crate::watch::PodWatch;

/// What each side leaves running after its pods are gone (cgroups, namespaces) shall not be in the other's figure.
const PAUSE: Duration = Duration::from_millis(300);
/// First pods pay for caches and connections; they are not counted.
const WARM_UP: u32 = 3;
const PROGRESS: Duration = Duration::from_secs(10);

/// What to measure.
#[derive(Clone, Debug)]
pub struct ApplyPlan {
    /// Single pods per side.
    pub singles: u32,
    /// Sizes of bursts.
    pub bursts: Vec<u32>,
    /// How often each burst is measured per side.
    pub repeat: u32,
    /// When it is over no further round begins; what was measured until then is the result.
    pub limit: Duration,
}

/// All rounds of one kind, by side.
#[derive(Debug)]
pub struct Series {
    /// Pods per round.
    pub size: u32,
    pub rounds: BTreeMap<&'static str, Vec<Round>>,
    /// `false` when the limit or an error cut it short.
    pub is_complete: bool,
}

/// Measures all sides in turn: A B A B … of every kind. What was measured is in `all` also when it fails half way.
///
/// # Errors
/// [`BenchError::NoRoom`], and those of [`round::run`].
pub async fn measure(
    cluster: &Cluster,
    sides: &[Side],
    plan: &ApplyPlan,
    all: &mut Vec<Series>,
) -> Result<(), BenchError> {
    let most = plan.bursts.iter().copied().max().unwrap_or(1);
    for side in sides {
        cluster.wait_for_room(&side.node, most).await?;
    }
    let mut bench = Bench {
        cluster,
        sides,
        watch: PodWatch::start(cluster.pods()),
        deadline: Instant::now() + plan.limit,
        next_name: 0,
    };
    eprintln!("warming up");
    bench.series(&mut Series::new(1), WARM_UP).await?;
    let singles = (1, plan.singles);
    let bursts = plan.bursts.iter().map(|size| (*size, plan.repeat));
    for (size, count) in std::iter::once(singles).chain(bursts) {
        let mut series = Series::new(size);
        let outcome = bench.series(&mut series, count).await;
        if !series.rounds.is_empty() {
            all.push(series);
        }
        outcome?;
    }
    Ok(())
}

impl Series {
    fn new(size: u32) -> Self {
        Self {
            size,
            rounds: BTreeMap::new(),
            is_complete: false,
        }
    }
}

struct Bench<'a> {
    cluster: &'a Cluster,
    sides: &'a [Side],
    watch: PodWatch,
    deadline: Instant,
    next_name: u32,
}

impl Bench<'_> {
    async fn series(&mut self, series: &mut Series, count: u32) -> Result<(), BenchError> {
        let size = series.size;
        let begun = Instant::now();
        let mut told = begun;
        for turn in 1..=count {
            if Instant::now() >= self.deadline {
                eprintln!("out of time after {} of {count} rounds of {size}", turn - 1);
                return Ok(());
            }
            for side in self.sides {
                let names = self.names(side.name, size);
                let round = round::run(self.cluster, &mut self.watch, side, names).await?;
                series.rounds.entry(side.name).or_default().push(round);
                tokio::time::sleep(PAUSE).await;
            }
            if told.elapsed() >= PROGRESS || size > 1 || turn == count {
                let left = begun.elapsed() / turn * (count - turn);
                eprintln!(
                    "{turn:>4}/{count} × {size:>3}{}; {left:.0?} left",
                    series.progress()
                );
                told = Instant::now();
            }
        }
        series.is_complete = true;
        Ok(())
    }

    /// New ones each time: the watch tells pods apart by name.
    fn names(&mut self, side: &str, size: u32) -> Vec<String> {
        let first = self.next_name;
        self.next_name += size;
        (first..self.next_name)
            .map(|number| format!("{side}-{number}"))
            .collect()
    }
}

impl Series {
    /// Of each side the last round, the median so far, and what failed.
    fn progress(&self) -> String {
        let of_side = |(side, rounds): (&&str, &Vec<Round>)| {
            let last = rounds.last().map_or(Duration::ZERO, |round| round.all_ready);
            let so_far = Summary::of(rounds.iter().flat_map(Round::ready));
            let median = so_far.map_or_else(String::new, |so_far| format!(" (p50 {:.0})", so_far.p50));
            let failed: usize = rounds.iter().map(|round| round.failed.len()).sum();
            let failed = match failed {
                0 => String::new(),
                failed => format!(", {failed} FAILED"),
            };
            format!("  {side} {:.0} ms{median}{failed}", milliseconds(last))
        };
        self.rounds.iter().map(of_side).collect()
    }
}
