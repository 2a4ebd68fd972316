//! The faults, one after another, each against what the kubelet showed of its case.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Fault, Tree};
use crate::ConformanceError;
use crate::case::Case;
use crate::facts::Facts;
use crate::run::{self, Arena, Compared};
use crate::side::Side;

/// How long a step may take that a fault keeps from ever coming true.
const STEP_LIMIT: Duration = Duration::from_secs(45);
/// For how long a fact must differ: longer than a device that is only slow takes.
const LASTING: Duration = Duration::from_secs(4);

/// What came of a fault.
#[derive(Debug, Clone)]
pub struct Judged {
    pub fault: Fault,
    /// What showed it; why it counts as missed otherwise.
    pub shown: Result<String, String>,
}

/// Plays the cases of all faults without any, then each fault.
///
/// # Errors
/// A case that is not equal without a fault, or the suite failed.
pub async fn judge(
    arena: &Arena,
    tree: &Tree,
    cases: &[Case],
    faults: Vec<Fault>,
) -> anyhow::Result<Vec<Judged>> {
    let Some(device) = &arena.device else {
        anyhow::bail!("faults show on a device");
    };
    let mut known = BTreeMap::new();
    let mut judged = Vec::new();
    let count = faults.len();
    for (index, fault) in faults.into_iter().enumerate() {
        let Some(case) = cases.iter().find(|case| case.name == fault.case) else {
            return Err(ConformanceError::NoCase(fault.case).into());
        };
        if !known.contains_key(&case.name) {
            tree.take_turn("")?;
            let compared = run::compared(arena, device, case).await?;
            anyhow::ensure!(
                compared.differences.is_empty(),
                "{} is not equal without any fault: {:?}",
                case.name,
                compared.differences
            );
            known.insert(case.name.clone(), compared);
        }
        tree.take_turn(&fault.breaks)?;
        let begun = Instant::now();
        let again = case.once_more(index);
        let shown = show(arena, device, &again, &fault, &known[&case.name]).await;
        let word = match &shown {
            Ok(what) => format!("shown by {what}"),
            Err(why) => format!("MISSED: {why}"),
        };
        eprintln!(
            "{}/{count} {}: {word} ({:.1} s)",
            index + 1,
            fault.breaks,
            begun.elapsed().as_secs_f64()
        );
        judged.push(Judged { fault, shown });
    }
    tree.take_turn("")?;
    Ok(judged)
}

async fn show(
    arena: &Arena,
    side: &Side,
    case: &Case,
    fault: &Fault,
    expected: &Compared,
) -> Result<String, String> {
    let failed = |error: ConformanceError| run::chain(&error);
    let script = case.script(side).map_err(failed)?;
    let mut device = run::play(arena, case, side, &script);
    device.limit = STEP_LIMIT;
    let played = device.perform().await;
    let shown = match (&fault.fact, played) {
        (Some(fact), Ok(seen)) => lasting(&mut device, fact, expected, seen).await,
        (None, Err(ConformanceError::Deadline { wanted, .. })) => Ok(format!("a step: {wanted}")),
        (None, Ok(_)) => Err("every step came true".to_owned()),
        (_, Err(error)) => Err(run::chain(&error)),
    };
    device.clear().await.map_err(failed)?;
    shown
}

/// Whether a fact differs, and goes on to.
async fn lasting(
    device: &mut crate::play::Play<'_>,
    fact: &str,
    expected: &Compared,
    seen: BTreeMap<String, Facts>,
) -> Result<String, String> {
    if let Some((step, fact)) = fact.split_once(run::OBSERVED) {
        let theirs = expected.seen.get(step).and_then(|facts| facts.get(fact));
        return told(fact, theirs, seen.get(step).and_then(|facts| facts.get(fact)));
    }
    let begun = Instant::now();
    loop {
        let now = device.still().await.map_err(|error| run::chain(&error))?;
        let shown = told(fact, expected.last.get(fact), now.get(fact));
        if shown.is_err() || begun.elapsed() >= LASTING {
            return shown;
        }
    }
}

fn told(fact: &str, theirs: Option<&String>, ours: Option<&String>) -> Result<String, String> {
    if theirs == ours {
        return Err(format!("{fact} is {ours:?} as it should be"));
    }
    Ok(format!("{fact}: {ours:?} instead of {theirs:?}"))
}
