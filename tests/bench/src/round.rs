//! One measurement: create pods, wait until all are Ready, delete them, wait until all are gone.

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
/// For one pod, and as much again for each ten of a burst.
const PATIENCE: Duration = Duration::from_mins(1);

/// While nothing is seen, the side's processes are looked at this often.
const LIFE_SIGN: Duration = Duration::from_secs(2);

/// What one round found.
#[derive(Clone, Debug)]
pub struct Round {
    /// Per pod and condition, the time from sending the pod to the watch event that showed the condition true.
    pub pods: BTreeMap<String, BTreeMap<String, Duration>>,
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
    /// Creation to Ready of every pod.
    pub fn ready(&self) -> impl Iterator<Item = Duration> {
        self.pods
            .values()
            .filter_map(|conditions| conditions.get(READY).copied())
    }
}

/// Pods that are Ready and still there.
#[derive(Debug)]
pub struct Standing {
    names: Vec<String>,
    pods: BTreeMap<String, BTreeMap<String, Duration>>,
    all_ready: Duration,
    cpu_before: CpuTimes,
    cpu_to_ready: CpuTimes,
}

/// Runs a round of these pods on one side. Names must be new, and nothing else may happen in the namespace.
///
/// # Errors
/// [`BenchError::Deadline`] when a pod does not become Ready or does not go; what was created is left then.
pub async fn run(
    cluster: &Cluster,
    watch: &mut PodWatch,
    side: &Side,
    names: Vec<String>,
) -> Result<Round, BenchError> {
    let standing = raise(cluster, watch, side, names).await?;
    lower(cluster, watch, side, standing).await
}

/// The first half of a round: creates the pods and returns when all are Ready.
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
    let created = create(cluster, side, &names).await?;
    let mut pods: BTreeMap<String, BTreeMap<String, Duration>> = BTreeMap::new();
    let last_ready = Wait::new(cluster, side, &names)
        .for_all(watch, "Ready", |pod, change, at| {
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
    Ok(Standing {
        names,
        pods,
        all_ready: last_ready.saturating_duration_since(begun),
        cpu_to_ready: side.cpu_times_since(&cpu_before)?,
        cpu_before,
    })
}

/// The second half: deletes the pods and returns when none is left.
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
    let last_gone = Wait::new(cluster, side, &standing.names)
        .for_all(watch, "gone", |_, change, _| *change == Change::Gone)
        .await?;
    Ok(Round {
        pods: standing.pods,
        all_ready: standing.all_ready,
        all_gone: last_gone.saturating_duration_since(deleting),
        cpu_to_ready: standing.cpu_to_ready,
        cpu_to_gone: side.cpu_times_since(&standing.cpu_before)?,
    })
}

/// Sends all pods and returns when each was sent, as near to the request as can be.
async fn create(
    cluster: &Cluster,
    side: &Side,
    names: &[String],
) -> Result<BTreeMap<String, Instant>, BenchError> {
    stream::iter(names)
        .map(|name| async move {
            let sent = Instant::now();
            cluster.create(name, side).await?;
            Ok((name.clone(), sent))
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
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
    names: &'a [String],
    limit: Duration,
}

impl<'a> Wait<'a> {
    fn new(cluster: &'a Cluster, side: &'a Side, names: &'a [String]) -> Self {
        let tens = u32::try_from(names.len() / 10).unwrap_or(u32::MAX - 1);
        Self {
            cluster,
            side,
            names,
            limit: PATIENCE.saturating_mul(1 + tens),
        }
    }

    /// Reads the watch until `is_it` has said yes to a change of every pod, and returns when the last such change was seen.
    async fn for_all(
        &self,
        watch: &mut PodWatch,
        wanted: &'static str,
        mut is_it: impl FnMut(&str, &Change, Instant) -> bool,
    ) -> Result<Instant, BenchError> {
        let deadline = tokio::time::Instant::now() + self.limit;
        let mut missing: BTreeSet<&str> = self.names.iter().map(String::as_str).collect();
        let mut last = Instant::now();
        while let Some(first) = missing.first().copied() {
            let look_up = deadline.min(tokio::time::Instant::now() + LIFE_SIGN);
            let Ok(next) = tokio::time::timeout_at(look_up, watch.next()).await else {
                // Whoever has ended brings no pod any more.
                self.side.cpu_times()?;
                if look_up < deadline {
                    continue;
                }
                return Err(BenchError::Deadline {
                    wanted,
                    limit: self.limit,
                    missing: list(&missing),
                    state: self.cluster.explain(first).await,
                });
            };
            let seen = next?;
            if is_it(&seen.pod, &seen.what, seen.at) && missing.remove(seen.pod.as_str()) {
                last = seen.at;
            }
        }
        Ok(last)
    }
}

fn list(missing: &BTreeSet<&str>) -> String {
    let some: Vec<&str> = missing.iter().copied().take(5).collect();
    format!("{} pods: {} …", missing.len(), some.join(", "))
}
