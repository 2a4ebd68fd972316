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
/// How often a case is played at most. A kubelet has races of its own, such as a probe that is faster than the server it asks; a case is
/// equal once everything that the device showed in any play was shown by the kubelet in some play. The device has the same races: what only
/// one of so many plays showed is told and is no difference, as one that lies in the code comes again; a run may have one such case.
const PLAYS: usize = 4;
/// Between the name of the step that observed a fact, and the fact.
pub(crate) const OBSERVED: &str = ": ";

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Equal,
    /// One play alone showed these of the device.
    Rare(Vec<Difference>),
    Different(Vec<Difference>),
    /// A step never came true, or the suite failed; with the whole chain of causes.
    Failed(String),
}

impl Outcome {
    /// Also one that chance made different once.
    pub fn is_equal(&self) -> bool {
        matches!(self, Self::Equal | Self::Rare(_))
    }
}

#[derive(Debug, Clone)]
pub struct Verdict {
    pub case: String,
    pub outcome: Outcome,
    /// How often it was played.
    pub plays: usize,
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
            let mut plays = 0;
            let outcome = one(&arena, &case, &mut plays)
                .await
                .unwrap_or_else(|error| Outcome::Failed(chain(&error)));
            let verdict = Verdict {
                case: case.name,
                outcome,
                plays,
                seconds: begun.elapsed().as_secs_f64(),
            };
            (index, verdict)
        });
    }
    let mut verdicts = BTreeMap::new();
    while let Some(ended) = running.join_next().await {
        let Ok((index, verdict)) = ended else { continue };
        let word = match &verdict.outcome {
            Outcome::Equal if verdict.plays > 1 => format!("equal over {} plays", verdict.plays),
            Outcome::Equal => "equal".to_owned(),
            Outcome::Rare(_) => format!("equal in all but one of {} plays", verdict.plays),
            Outcome::Different(found) => format!("{} facts differ", found.len()),
            Outcome::Failed(error) => format!("not played: {error}"),
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

async fn one(arena: &Arena, case: &Case, plays: &mut usize) -> Result<Outcome, ConformanceError> {
    let Some(device) = &arena.device else {
        *plays = 1;
        return alone(arena, case).await;
    };
    let mut shown = Vec::new();
    loop {
        let time = match *plays {
            0 => case.clone(),
            before => case.once_more(before),
        };
        *plays += 1;
        match compared(arena, device, &time).await {
            Ok(compared) => shown.push(compared),
            // What never comes true on the kubelet says nothing of the device.
            Err(ConformanceError::Deadline { side, .. }) if side == arena.kubelet.name && *plays < PLAYS => {
                continue;
            }
            Err(error) => return Err(error),
        }
        let outcome = Compared::judged(&shown);
        if outcome == Outcome::Equal || *plays >= PLAYS {
            return Ok(outcome);
        }
    }
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

/// What one play of a case showed.
pub(crate) struct Compared {
    /// On the kubelet, by the name of the step that observed it.
    pub seen: Seen,
    /// On the kubelet, in the end.
    pub last: Facts,
    /// What the device did not say alike.
    pub differences: Vec<Difference>,
}

impl Compared {
    /// Looks for what the device showed in some play and the kubelet in none; for a fact that is alike in a play, both showed it.
    fn judged(plays: &[Self]) -> Outcome {
        let shown_never = |difference: &&Difference| {
            let mut others = plays.iter();
            others.all(|play| play.on_kubelet(&difference.fact) != difference.device.as_ref())
        };
        let all = plays.iter().flat_map(|play| &play.differences);
        let mut by_fact = BTreeMap::<&String, Vec<&Difference>>::new();
        for found in all.filter(shown_never) {
            by_fact.entry(&found.fact).or_default().push(found);
        }
        // A play names a fact once at most.
        let again = |found: &[&Difference]| found.len() > 1 || plays.len() == 1;
        let repeated: BTreeSet<&Difference> = by_fact
            .values()
            .filter(|found| again(found))
            .flatten()
            .copied()
            .collect();
        let rare = by_fact.values().flatten().copied();
        match (repeated.is_empty(), by_fact.is_empty()) {
            (_, true) => Outcome::Equal,
            (true, false) => Outcome::Rare(rare.cloned().collect()),
            (false, _) => Outcome::Different(repeated.into_iter().cloned().collect()),
        }
    }

    fn on_kubelet(&self, fact: &str) -> Option<&String> {
        match fact.split_once(OBSERVED) {
            Some((step, fact)) => self.seen.get(step)?.get(fact),
            None => self.last.get(fact),
        }
    }
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
    if let Ok(Compared { differences, .. }) = &outcome
        && let Some((pod, _)) = differences.first().and_then(|found| pod_of(&found.fact))
    {
        for side in [&kubelet, &device] {
            eprint!(
                "{} on the {}:\n{}",
                side.slug,
                side.side.name,
                side.events(pod).await?
            );
        }
    }
    kubelet.clear().await?;
    device.clear().await?;
    outcome
}

/// The pod that a fact is of, and what of it.
fn pod_of(fact: &str) -> Option<(&str, &str)> {
    let fact = fact.split_once(OBSERVED).map_or(fact, |(_, fact)| fact);
    fact.split_once('.')
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
    let fields: BTreeSet<String> = script.specs().flat_map(coverage::paths).collect();
    let judge = |theirs: &Facts, ours: &Facts| {
        let mut found = difference::compare(theirs, ours, &script.header);
        found.retain(|each| !difference::is_listed(&arena.listed, each, &fields));
        found
    };
    let nothing = Facts::new();
    let mut differences = Vec::new();
    for (name, theirs) in &seen {
        let found = judge(theirs, ours.get(name).unwrap_or(&nothing));
        differences.extend(found.into_iter().map(|difference| Difference {
            fact: format!("{name}{OBSERVED}{}", difference.fact),
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

#[cfg(test)]
mod tests {
    use crate::case::Header;

    use super::*;

    fn play(kubelet: &str, device: &str) -> Compared {
        let facts = |value: &str| Facts::from([("pod.events".to_owned(), value.to_owned())]);
        let (last, ours) = (facts(kubelet), facts(device));
        Compared {
            seen: Seen::from([("early".to_owned(), last.clone())]),
            differences: difference::compare(&last, &ours, &Header::default()),
            last,
        }
    }

    #[track_caller]
    fn check(plays: &[(&str, &str)], expected: &str) {
        let plays: Vec<Compared> = plays
            .iter()
            .map(|(kubelet, device)| play(kubelet, device))
            .collect();
        let outcome = match Compared::judged(&plays) {
            Outcome::Equal => "equal",
            Outcome::Rare(_) => "rare",
            Outcome::Different(_) => "different",
            Outcome::Failed(_) => "failed",
        };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn a_race_of_the_kubelet_is_forgiven_and_one_of_the_device_only_once() {
        check(&[("a", "a")], "equal");
        check(&[("a, b", "a")], "different");
        check(&[("a, b", "a"), ("a", "a")], "equal");
        check(&[("a", "a, b"), ("a, b", "a")], "equal");
        check(&[("a", "a, b"), ("a", "a"), ("a", "a")], "rare");
        check(&[("a", "a, b"), ("a", "a"), ("a", "a, b")], "different");
        check(&[("a", "a, b"), ("a", "a"), ("a", "a, c")], "different");
    }

    #[test]
    fn what_a_step_observed_is_looked_for_at_that_step() {
        let of_step = |fact: &str| play("a", "a").on_kubelet(fact).cloned();
        assert_eq!(of_step("early: pod.events").as_deref(), Some("a"));
        assert_eq!(of_step("late: pod.events"), None);
    }
}
