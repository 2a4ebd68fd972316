//! Whether what a case sets is observed: the translation forgets one path of a pod, and the device must show it.
//!
//! A case that sets a path proves nothing of it unless some fact would differ without. So every honoured path is forgotten once, in a case that
//! sets it, and what the device then shows is compared with what the kubelet showed of the whole case.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

use super::{Fault, Tree};
use crate::ConformanceError;
use crate::case::Case;
use crate::coverage;
use crate::difference::{self, Difference};
use crate::facts::Facts;
use crate::run::{self, Arena, Compared};
use crate::side::Side;
use crate::table;

/// How long a step may take that never comes true without the path.
const STEP_LIMIT: Duration = Duration::from_secs(45);
/// For how long a fact must differ: longer than a device that is only slow takes.
const LASTING: Duration = Duration::from_secs(4);
/// In how many cases a path is looked for, those first that set the least besides.
const CASES: usize = 20;
/// How often a case may be played until both sides are alike.
const PLAYS: usize = 3;

/// What no case can observe, and why: an entry of `unobserved.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unobserved {
    pub why: String,
    pub paths: Vec<String>,
}

/// What came of a path.
#[derive(Debug, Clone)]
pub struct Observed {
    pub path: String,
    /// By which case and fact; why not in each case otherwise.
    pub by: Result<String, Vec<String>>,
}

/// Reads the list.
///
/// # Errors
/// The file is missing or wrong.
pub fn listed(path: &Path) -> Result<Vec<Unobserved>, ConformanceError> {
    let text = std::fs::read_to_string(path).map_err(ConformanceError::file(path))?;
    serde_saphyr::from_str(&text).map_err(|error| ConformanceError::Case {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

/// What makes the translation, and the search for what a pod refers to, forget: each line of the turn's file is a namespace and the path that
/// its pods lose.
pub fn faults() -> [Fault; 2] {
    let fault = |file: &str, find: &str, pod: &str, then: &str| Fault {
        file: file.into(),
        find: find.to_owned(),
        with: format!("{}{then}", FORGET.replace("$POD", pod)),
        case: String::new(),
        fact: None,
        breaks: "a path is honoured".to_owned(),
    };
    [
        fault(
            "edge-provider/translate/src/translate.rs",
            r#"    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let withheld = match"#,
            "pod",
            r#"    let pod = &less;
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let withheld = match"#,
        ),
        fault(
            "edge-provider/src/reading.rs",
            "let references = references(spec, node);",
            "observed.raw",
            "let references = references(&less[\"spec\"], node);",
        ),
    ]
}

/// Makes `less` of the pod `$POD`.
const FORGET: &str = r#"    fn forget(value: &mut Value, path: &[&str]) {
        let ([name, rest @ ..], Some(map)) = (path, value.as_object_mut()) else {
            return;
        };
        let (name, is_list) = (name.trim_end_matches("[]"), name.ends_with("[]"));
        let is_it = |key: &String| name == "*" || key == name;
        if rest.is_empty() {
            return map.retain(|key, _| !is_it(key));
        }
        for (_, below) in map.iter_mut().filter(|(key, _)| is_it(key)) {
            match below.as_array_mut() {
                Some(items) if is_list => items.iter_mut().for_each(|item| forget(item, rest)),
                _ => forget(below, rest),
            }
        }
    }
    let mut less = $POD.clone();
    for line in ::std::fs::read_to_string($TURN).unwrap_or_default().lines() {
        if let Some((namespace, path)) = line.split_once(' ')
            && less["metadata"]["namespace"] == namespace
        {
            forget(&mut less["spec"], &path.split('.').collect::<Vec<_>>());
        }
    }
"#;

/// All that the paths share.
struct Suite {
    arena: Arena,
    device: Side,
    tree: Tree,
    /// The lines of the turn's file.
    lines: Mutex<String>,
    cases: Vec<Played>,
}

struct Played {
    case: Case,
    paths: BTreeSet<String>,
    whole: OnceCell<Result<Compared, String>>,
}

/// Forgets each path that some case sets once, at most `at_once` at a time, and tells what came of it in the paths' order.
///
/// # Errors
/// There is no device, or a case is wrong.
pub async fn judge(
    arena: &Arena,
    tree: Tree,
    cases: Vec<Case>,
    mut paths: Vec<String>,
    at_once: usize,
) -> anyhow::Result<Vec<Observed>> {
    let Some(device) = arena.device.clone() else {
        anyhow::bail!("paths are forgotten on a device");
    };
    let mut played = Vec::new();
    for case in cases {
        let script = case.script(&device)?;
        played.push(Played {
            paths: script.specs().flat_map(coverage::paths).collect(),
            whole: OnceCell::new(),
            case,
        });
    }
    played.sort_by_key(|played| played.paths.len());
    paths.retain(|path| played.iter().any(|played| played.paths.contains(path)));
    let suite = Arc::new(Suite {
        arena: arena.clone(),
        device,
        tree,
        lines: Mutex::default(),
        cases: played,
    });
    let (room, count) = (Arc::new(Semaphore::new(at_once)), paths.len());
    let mut running = JoinSet::new();
    for (index, path) in paths.into_iter().enumerate() {
        let (suite, room) = (Arc::clone(&suite), Arc::clone(&room));
        running.spawn(async move {
            // The semaphore is never closed.
            let _place = room.acquire().await;
            let by = suite.observe(index, &path).await;
            (index, Observed { path, by })
        });
    }
    let mut judged = BTreeMap::new();
    while let Some(ended) = running.join_next().await {
        let Ok((index, observed)) = ended else { continue };
        let word = match &observed.by {
            Ok(by) => table::cut(by),
            Err(why) => format!("NOT OBSERVED: {}", why.join("; ")),
        };
        eprintln!("{}/{count} {}: {word}", judged.len() + 1, observed.path);
        judged.insert(index, observed);
    }
    Ok(judged.into_values().collect())
}

impl Suite {
    async fn observe(&self, index: usize, path: &str) -> Result<String, Vec<String>> {
        let setting = self.cases.iter().filter(|played| played.paths.contains(path));
        let mut missed = Vec::new();
        for played in setting.take(CASES) {
            let name = &played.case.name;
            match self.forget(index, path, played).await {
                Ok(shown) => return Ok(format!("{name}: {shown}")),
                Err(why) => missed.push(format!("{name}: {why}")),
            }
        }
        Err(missed)
    }

    /// What the device shows of a case without the path.
    async fn forget(&self, index: usize, path: &str, played: &Played) -> Result<String, String> {
        let whole = played.whole.get_or_init(|| self.whole(&played.case)).await;
        let whole = whole.as_ref().map_err(Clone::clone)?;
        let failed = |error: ConformanceError| run::chain(&error);
        // Beyond the numbers of whole plays.
        let case = played.case.once_more(100 + index);
        self.turn(&case, path).map_err(failed)?;
        let script = case.script(&self.device).map_err(failed)?;
        let mut device = run::play(&self.arena, &case, &self.device, &script);
        device.limit = STEP_LIMIT;
        let differs = |expected: &Facts, shown: &Facts| {
            let mut found = difference::compare(expected, shown, &script.header);
            found.retain(|each| !difference::is_listed(&self.arena.listed, each, &played.paths));
            found.into_iter().next()
        };
        let shown = match device.perform().await {
            Ok(seen) => {
                let nothing = Facts::new();
                let early = whole
                    .seen
                    .iter()
                    .find_map(|(step, facts)| differs(facts, seen.get(step).unwrap_or(&nothing)));
                match early {
                    Some(found) => Ok(told(&found)),
                    None if script.header.passing => Err("the same at that moment".to_owned()),
                    None => lasting(&mut device, |shown| differs(&whole.last, shown)).await,
                }
            }
            Err(ConformanceError::Deadline { wanted, .. }) => Ok(format!("a step: {wanted}")),
            Err(error) => Err(run::chain(&error)),
        };
        device.clear().await.map_err(failed)?;
        shown
    }

    /// The case with all its paths, on both sides: what is compared with has to be equal.
    async fn whole(&self, case: &Case) -> Result<Compared, String> {
        let mut last = String::new();
        for time in 0..PLAYS {
            match run::compared(&self.arena, &self.device, &case.once_more(time)).await {
                Ok(compared) if compared.differences.is_empty() => return Ok(compared),
                Ok(compared) => last = format!("not equal with all paths: {:?}", compared.differences),
                Err(error) => last = run::chain(&error),
            }
        }
        Err(last)
    }

    fn turn(&self, case: &Case, path: &str) -> Result<(), ConformanceError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend([&self.device.namespace(&case.slug()), " ", path, "\n"]);
        self.tree.take_turn(&lines)
    }
}

/// What differs first, if something goes on to.
async fn lasting(
    device: &mut crate::play::Play<'_>,
    differs: impl Fn(&Facts) -> Option<Difference>,
) -> Result<String, String> {
    let begun = Instant::now();
    loop {
        let now = device.still().await.map_err(|error| run::chain(&error))?;
        match differs(&now) {
            None => return Err("all the same".to_owned()),
            Some(found) if begun.elapsed() >= LASTING => return Ok(told(&found)),
            Some(_) => {}
        }
    }
}

fn told(difference: &Difference) -> String {
    let Difference {
        fact,
        kubelet,
        device,
    } = difference;
    format!("{fact}: {device:?} instead of {kubelet:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_honoured_and_said_once() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let honoured: BTreeSet<&str> = coverage::honoured().collect();
        let mut listed = BTreeSet::new();
        for entry in super::listed(&home.join("unobserved.yaml")).unwrap() {
            assert!(!entry.why.is_empty());
            for path in entry.paths {
                assert!(honoured.contains(path.as_str()), "{path}");
                assert!(listed.insert(path.clone()), "{path} is listed twice");
            }
        }
    }

    #[test]
    fn the_translation_has_a_place_to_forget_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for fault in faults() {
            let text = std::fs::read_to_string(root.join(&fault.file)).unwrap();
            let planted = fault.plant(&text, Path::new("/turn")).unwrap();
            assert!(planted.contains(r#"read_to_string("/turn")"#));
        }
    }
}
