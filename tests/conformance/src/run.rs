//! All cases, several at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::ConformanceError;
use crate::case::{Case, Script};
use crate::cluster::Cluster;
use crate::coverage;
use crate::difference::{self, Difference, Listed};
use crate::facts::Facts;
use crate::play::{MOMENT, Play};
use crate::side::Side;

/// Long, so that only what never comes true reaches it: two sides share two cores with all other cases.
const STEP_LIMIT: Duration = Duration::from_secs(150);
/// How long both sides may take to say the same once both have played.
const AGREE_LIMIT: Duration = Duration::from_secs(20);

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Equal,
    Different(Vec<Difference>),
    /// A step never came true, or the suite failed; with the whole chain of causes.
    Failed(String),
}

#[derive(Debug, Clone)]
pub struct Verdict {
    pub case: String,
    pub outcome: Outcome,
    pub seconds: f64,
}

/// Where the cases are played, and what may differ.
#[derive(Clone)]
pub struct Arena {
    pub cluster: Cluster,
    pub kubelet: Side,
    /// Absent: the kubelet alone, to see what it does.
    pub device: Option<Side>,
    pub listed: Arc<Vec<Listed>>,
}

/// Plays all cases, at most `at_once` at a time, and gives their verdicts in their order.
pub async fn all(arena: &Arena, cases: Vec<Case>, at_once: usize) -> Vec<Verdict> {
    let room = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    let count = cases.len();
    for (index, case) in cases.into_iter().enumerate() {
        let (arena, room) = (arena.clone(), Arc::clone(&room));
        running.spawn(async move {
            // The semaphore is never closed.
            let _place = room.acquire().await;
            let begun = Instant::now();
            let outcome = one(&arena, &case)
                .await
                .unwrap_or_else(|error| Outcome::Failed(chain(&error)));
            let verdict = Verdict {
                case: case.name,
                outcome,
                seconds: begun.elapsed().as_secs_f64(),
            };
            (index, verdict)
        });
    }
    let mut verdicts = BTreeMap::new();
    while let Some(ended) = running.join_next().await {
        let Ok((index, verdict)) = ended else { continue };
        let word = match &verdict.outcome {
            Outcome::Equal => "equal".to_owned(),
            Outcome::Different(found) => format!("{} facts differ", found.len()),
            Outcome::Failed(_) => "not played".to_owned(),
        };
        eprintln!(
            "{}/{count} {} {word} ({:.1} s)",
            verdicts.len() + 1,
            verdict.case,
            verdict.seconds
        );
        verdicts.insert(index, verdict);
    }
    verdicts.into_values().collect()
}

async fn one(arena: &Arena, case: &Case) -> Result<Outcome, ConformanceError> {
    let Some(device) = &arena.device else {
        return alone(arena, case).await;
    };
    let differences = compared(arena, device, case).await?.differences;
    Ok(if differences.is_empty() {
        Outcome::Equal
    } else {
        Outcome::Different(differences)
    })
}

/// Plays on the kubelet and prints what can be seen there.
async fn alone(arena: &Arena, case: &Case) -> Result<Outcome, ConformanceError> {
    let script = case.script(&arena.kubelet)?;
    let mut kubelet = play(arena, case, &arena.kubelet, &script);
    let played = kubelet.perform().await;
    for (fact, value) in kubelet.still().await? {
        println!("{}\t{fact}\t{}", case.name, value.replace('\n', "\\n"));
    }
    kubelet.clear().await?;
    played.map(|_| Outcome::Equal)
}

/// What a case showed on the kubelet, and what of it the device did not say.
pub(crate) struct Compared {
    /// By the name of the step that observed it.
    pub seen: Seen,
    pub last: Facts,
    pub differences: Vec<Difference>,
}

/// Plays a case on the kubelet and on this side.
pub(crate) async fn compared(arena: &Arena, side: &Side, case: &Case) -> Result<Compared, ConformanceError> {
    let script = case.script(&arena.kubelet)?;
    let mut kubelet = play(arena, case, &arena.kubelet, &script);
    let device_script = case.script(side)?;
    let mut device = play(arena, case, side, &device_script);
    let (theirs, ours) = tokio::join!(kubelet.perform(), device.perform());
    let outcome = match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => agree(arena, (&mut kubelet, theirs), (&mut device, ours), &script).await,
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    kubelet.clear().await?;
    device.clear().await?;
    outcome
}

pub(crate) fn play<'a>(arena: &Arena, case: &Case, side: &'a Side, script: &'a Script) -> Play<'a> {
    Play {
        limit: STEP_LIMIT,
        cluster: arena.cluster.clone(),
        side,
        slug: case.slug(),
        script,
    }
}

pub(crate) type Seen = BTreeMap<String, Facts>;

/// Compares what was observed on the way, and what can be seen in the end: that, until both say the same or will not.
async fn agree(
    arena: &Arena,
    (kubelet, seen): (&mut Play<'_>, Seen),
    (device, ours): (&mut Play<'_>, Seen),
    script: &Script,
) -> Result<Compared, ConformanceError> {
    let specs = script.objects.iter().filter(|object| object["kind"] == "Pod");
    let fields: BTreeSet<String> = specs.flat_map(|pod| coverage::paths(&pod["spec"])).collect();
    let blind = &script.header.blind;
    let judge = |theirs: &Facts, ours: &Facts| {
        let mut found = difference::compare(theirs, ours, blind);
        found.retain(|each| !difference::is_listed(&arena.listed, each, &fields));
        found
    };
    let nothing = Facts::new();
    let mut differences = Vec::new();
    for (name, theirs) in &seen {
        let found = judge(theirs, ours.get(name).unwrap_or(&nothing));
        differences.extend(found.into_iter().map(|difference| Difference {
            fact: format!("{name}: {}", difference.fact),
            ..difference
        }));
    }
    if let Some(moment) = seen.get(MOMENT) {
        let last = moment.clone();
        return Ok(Compared {
            seen,
            last,
            differences,
        });
    }
    let deadline = Instant::now() + AGREE_LIMIT;
    loop {
        let (theirs, ours) = tokio::join!(kubelet.still(), device.still());
        let last = theirs?;
        let found = judge(&last, &ours?);
        if found.is_empty() || Instant::now() >= deadline {
            differences.extend(found);
            return Ok(Compared {
                seen,
                last,
                differences,
            });
        }
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
