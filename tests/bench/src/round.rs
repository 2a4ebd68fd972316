//! One measurement: create pods, wait until all are Ready, delete them, wait until all are gone.
//!
//! A pod that does not get there is told at once and counted. It ends its round, not the measurement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::BenchError;
use crate::pods::Cluster;
use crate::side::{CpuTimes, Side};
use crate::watch::{Change, PodWatch};

const READY: &str = "Ready";
/// Requests in flight while a burst is created or deleted.
const CONCURRENCY: usize = 16;
/// How long a round may go without one more pod getting there. A burst may take its time as long as it goes on.
const PATIENCE: Duration = Duration::from_mins(1);
/// While nothing is seen, the side's processes are looked at this often.
const LIFE_SIGN: Duration = Duration::from_secs(2);

/// What one round found.
#[derive(Clone, Debug)]
pub struct Round {
    /// Per pod and condition, the time from sending the pod to the watch event that showed the condition true.
    pub pods: BTreeMap<String, BTreeMap<String, Duration>>,
    /// Pods that were not Ready, or not gone, in time.
    pub failed: BTreeSet<String>,
    /// From sending the first pod to the last one's Ready.
    pub all_ready: Duration,
    /// From sending the first deletion until no object was left.
    pub all_gone: Duration,
    /// The side's CPU time from the first creation to the last Ready, for all pods together.
    pub cpu_to_ready: CpuTimes,
    /// The same until no object was left.
    pub cpu_to_gone: CpuTimes,
}

impl Round {
    /// Creation to Ready of every pod that became Ready.
    pub fn ready(&self) -> impl Iterator<Item = Duration> {
        self.pods
            .values()
            .filter_map(|conditions| conditions.get(READY).copied())
    }

    /// Whether every pod got there. Otherwise the figures of the round as a whole mean nothing.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Pods that are Ready and still there.
#[derive(Debug)]
pub struct Standing {
    names: Vec<String>,
    pods: BTreeMap<String, BTreeMap<String, Duration>>,
    failed: BTreeSet<String>,
    all_ready: Duration,
    cpu_before: CpuTimes,
    cpu_to_ready: CpuTimes,
}

impl Standing {
    /// Pods that were not Ready in time.
    pub fn failed(&self) -> &BTreeSet<String> {
        &self.failed
    }
}

/// Runs a round of these pods on one side. Names must be new, and nothing else may happen in the namespace.
///
/// # Errors
/// [`BenchError::NotRunning`] when a process of the side has ended, [`BenchError::WatchEnded`], and [`BenchError::Cluster`] when pods cannot be
/// deleted.
pub async fn run(
    cluster: &Cluster,
    watch: &mut PodWatch,
    side: &Side,
    names: Vec<String>,
) -> Result<Round, BenchError> {
    let standing = raise(cluster, watch, side, names).await?;
    lower(cluster, watch, side, standing).await
}

/// The first half of a round: creates the pods and returns when all are Ready, or none became Ready for a while.
///
/// # Errors
/// As [`run`].
pub async fn raise(
    cluster: &Cluster,
    watch: &mut PodWatch,
    side: &Side,
    names: Vec<String>,
) -> Result<Standing, BenchError> {
    let cpu_before = side.cpu_times()?;
    let begun = Instant::now();
    let created = create(cluster, side, &names).await;
    let mut pods: BTreeMap<String, BTreeMap<String, Duration>> = BTreeMap::new();
    let ready = Wait::new(cluster, side, created.keys())
        .for_all(watch, READY, |pod, change, at| {
            let (Change::Condition(condition), Some(sent)) = (change, created.get(pod)) else {
                return false;
            };
            let after = at.saturating_duration_since(*sent);
            pods.entry(pod.to_owned())
                .or_default()
                .insert(condition.clone(), after);
            condition == READY
        })
        .await?;
    let refused = names.iter().filter(|name| !created.contains_key(*name)).cloned();
    Ok(Standing {
        failed: ready.missing.into_iter().chain(refused).collect(),
        names,
        pods,
        all_ready: ready.last.saturating_duration_since(begun),
        cpu_to_ready: side.cpu_times_since(&cpu_before)?,
        cpu_before,
    })
}

/// The second half: deletes the pods and returns when none is left, or none went for a while; those are then deleted by force, so that they
/// do not stand in the way of the next round.
///
/// # Errors
/// As [`run`].
pub async fn lower(
    cluster: &Cluster,
    watch: &mut PodWatch,
    side: &Side,
    standing: Standing,
) -> Result<Round, BenchError> {
    let deleting = Instant::now();
    delete(cluster, &standing.names).await?;
    // What was never created is not seen going.
    let created = standing
        .names
        .iter()
        .filter(|name| standing.pods.contains_key(*name) || !standing.failed.contains(*name));
    let gone = Wait::new(cluster, side, created)
        .for_all(watch, "gone", |_, change, _| *change == Change::Gone)
        .await?;
    let cpu_to_gone = side.cpu_times_since(&standing.cpu_before)?;
    for name in &gone.missing {
        cluster.remove(name).await?;
    }
    Ok(Round {
        failed: standing.failed.into_iter().chain(gone.missing).collect(),
        pods: standing.pods,
        all_ready: standing.all_ready,
        all_gone: gone.last.saturating_duration_since(deleting),
        cpu_to_ready: standing.cpu_to_ready,
        cpu_to_gone,
    })
}

/// Sends all pods and returns when each that was taken was sent, as near to the request as can be.
async fn create(cluster: &Cluster, side: &Side, names: &[String]) -> BTreeMap<String, Instant> {
    let sent = stream::iter(names).map(|name| async move {
        let sent = Instant::now();
        match cluster.create(name, side).await {
            Ok(()) => Some((name.clone(), sent)),
            Err(error) => {
                eprintln!("{}: {:#}", side.name, anyhow::Error::from(error));
                None
            }
        }
    });
    sent.buffer_unordered(CONCURRENCY)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn delete(cluster: &Cluster, names: &[String]) -> Result<(), BenchError> {
    stream::iter(names)
        .map(|name| cluster.delete(name))
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}

struct Wait<'a> {
    cluster: &'a Cluster,
    side: &'a Side,
    missing: BTreeSet<&'a str>,
}

/// How a wait ended.
struct Waited {
    /// When the last change that was waited for was seen.
    last: Instant,
    missing: BTreeSet<String>,
}

impl<'a> Wait<'a> {
    fn new(cluster: &'a Cluster, side: &'a Side, names: impl IntoIterator<Item = &'a String>) -> Self {
        Self {
            cluster,
            side,
            missing: names.into_iter().map(String::as_str).collect(),
        }
    }

    /// Reads the watch until `is_it` has said yes to a change of every pod, or to none for [`PATIENCE`], which is told.
    async fn for_all(
        mut self,
        watch: &mut PodWatch,
        wanted: &str,
        mut is_it: impl FnMut(&str, &Change, Instant) -> bool,
    ) -> Result<Waited, BenchError> {
        let all = self.missing.len();
        let mut last = Instant::now();
        let mut deadline = tokio::time::Instant::now() + PATIENCE;
        while let Some(first) = self.missing.first().copied() {
            let look_up = deadline.min(tokio::time::Instant::now() + LIFE_SIGN);
            let Ok(next) = tokio::time::timeout_at(look_up, watch.next()).await else {
                // Whoever has ended brings no pod any more.
                self.side.cpu_times()?;
                if look_up < deadline {
                    continue;
                }
                eprintln!(
                    "{}: FAILED: {} of {all} pods not {wanted}, and none for {PATIENCE:?}: {}\n{}",
                    self.side.name,
                    self.missing.len(),
                    list(&self.missing),
                    self.cluster.explain(first).await
                );
                break;
            };
            let seen = next?;
            if is_it(&seen.pod, &seen.what, seen.at) && self.missing.remove(seen.pod.as_str()) {
                last = seen.at;
                deadline = tokio::time::Instant::now() + PATIENCE;
            }
        }
        let missing = self.missing.into_iter().map(str::to_owned).collect();
        Ok(Waited { last, missing })
    }
}

fn list(missing: &BTreeSet<&str>) -> String {
    let some: Vec<&str> = missing.iter().copied().take(5).collect();
    let more = if missing.len() > some.len() { " …" } else { "" };
    format!("{}{more}", some.join(", "))
}
