//! Apply → Ready of two sides in alternation: single pods, then bursts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::BenchError;
use crate::pods::Cluster;
use crate::round::{self, Round};
use crate::side::Side;
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
    /// `false` when the limit cut it short.
    pub is_complete: bool,
}

/// Measures all sides in turn: A B A B … of every kind.
///
/// # Errors
/// As [`round::run`].
pub async fn measure(cluster: &Cluster, sides: &[Side], plan: &ApplyPlan) -> Result<Vec<Series>, BenchError> {
    let mut bench = Bench {
        cluster,
        sides,
        watch: PodWatch::start(cluster.pods()),
        deadline: Instant::now() + plan.limit,
        next_name: 0,
    };
    eprintln!("warming up");
    bench.series(1, WARM_UP).await?;
    let mut all = Vec::new();
    if plan.singles > 0 {
        all.push(bench.series(1, plan.singles).await?);
    }
    for size in &plan.bursts {
        all.push(bench.series(*size, plan.repeat).await?);
    }
    Ok(all)
}

struct Bench<'a> {
    cluster: &'a Cluster,
    sides: &'a [Side],
    watch: PodWatch,
    deadline: Instant,
    next_name: u32,
}

impl Bench<'_> {
    async fn series(&mut self, size: u32, count: u32) -> Result<Series, BenchError> {
        let mut series = Series {
            size,
            rounds: BTreeMap::new(),
            is_complete: true,
        };
        let mut told = Instant::now();
        for turn in 1..=count {
            if Instant::now() >= self.deadline {
                eprintln!("out of time after {} of {count} rounds of {size}", turn - 1);
                series.is_complete = false;
                break;
            }
            for side in self.sides {
                let names = self.names(side.name, size);
                let round = round::run(self.cluster, &mut self.watch, side, names).await?;
                if told.elapsed() >= PROGRESS || size > 1 || turn == count {
                    eprintln!(
                        "{turn:>4}/{count} × {size:>3} {:<10} ready after {:.2?}",
                        side.name, round.all_ready
                    );
                    told = Instant::now();
                }
                series.rounds.entry(side.name).or_default().push(round);
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(series)
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
