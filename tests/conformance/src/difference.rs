//! What is compared, and what may differ.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::ConformanceError;
use crate::case::Header;
use crate::facts::Facts;
use crate::order;

/// One fact that is not the same on both sides; absent where it was not seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub fact: String,
    pub kubelet: Option<String>,
    pub device: Option<String>,
}

/// An entry of `differences.yaml`: in a case whose pods set the field, this fact may differ.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// One path of a pod's spec, as the translation's tables write it: `containers[].stdin`.
    pub field: String,
    /// One fact, without the pod's name: `status.containerStatuses[main].started`.
    pub observable: String,
    pub why: String,
}

/// Reads the list.
///
/// # Errors
/// The file is missing or wrong.
pub fn listed(path: &Path) -> Result<Vec<Listed>, ConformanceError> {
    let text = std::fs::read_to_string(path).map_err(ConformanceError::file(path))?;
    serde_saphyr::from_str(&text).map_err(|error| ConformanceError::Case {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

/// All facts that differ, but for those that the case is blind for, and figures that say nothing in it.
pub fn compare(kubelet: &Facts, device: &Facts, header: &Header) -> Vec<Difference> {
    let all: BTreeSet<&String> = kubelet.keys().chain(device.keys()).collect();
    let is_there = |fact: &str| {
        !order::is_of_both_or_none(fact) || kubelet.contains_key(fact) && device.contains_key(fact)
    };
    let is_same = |fact: &String| {
        let (theirs, ours) = (kubelet.get(fact), device.get(fact));
        let words = |text: &String| text.replace(|c: char| c.is_ascii_digit(), "");
        theirs == ours || header.figures.contains(fact) && theirs.map(words) == ours.map(words)
    };
    all.into_iter()
        .filter(|fact| !header.blind.contains(fact) && is_there(fact) && !is_same(fact))
        .map(|fact| Difference {
            fact: fact.clone(),
            kubelet: kubelet.get(fact).cloned(),
            device: device.get(fact).cloned(),
        })
        .collect()
}

/// Whether the list allows a difference in a case that sets these fields.
pub fn is_listed(list: &[Listed], difference: &Difference, fields: &BTreeSet<String>) -> bool {
    let observable = difference
        .fact
        .split_once('.')
        .map_or(difference.fact.as_str(), |(_, rest)| rest);
    list.iter()
        .any(|entry| entry.observable == observable && fields.contains(&entry.field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_of_one_side_only_is_a_difference_and_a_listed_one_needs_its_field() {
        let facts = |pairs: &[(&str, &str)]| -> Facts {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let plain = Header::default();
        let blind = Header {
            blind: vec!["pod.c".to_owned()],
            ..Header::default()
        };
        let kubelet = facts(&[("pod.a", "1"), ("pod.b", "2"), ("pod.c", "3")]);
        let device = facts(&[("pod.a", "1"), ("pod.b", "x"), ("pod.c", "y")]);
        let found = compare(&kubelet, &device, &blind);
        assert_eq!(found.len(), 1);
        assert_eq!(compare(&kubelet, &Facts::new(), &plain).len(), 3);
        let order = |first: &str| facts(&[("pod.order[A, B]", first)]);
        assert_eq!(compare(&order("A"), &order("B"), &plain).len(), 1);
        assert_eq!(compare(&order("A"), &Facts::new(), &plain), []);
        let figures = Header {
            figures: vec!["pod.a".to_owned()],
            ..Header::default()
        };
        let says = |text: &str| facts(&[("pod.a", text)]);
        assert_eq!(compare(&says("7 of 12"), &says("10 of 3"), &figures), []);
        assert_eq!(compare(&says("7 of 12"), &says("7 or 12"), &figures).len(), 1);
        assert_eq!(compare(&says("7 of 12"), &Facts::new(), &figures).len(), 1);
        let list = [Listed {
            field: "containers[].tty".into(),
            observable: "b".into(),
            why: String::new(),
        }];
        assert!(!is_listed(&list, &found[0], &BTreeSet::new()));
        assert!(is_listed(
            &list,
            &found[0],
            &BTreeSet::from(["containers[].tty".to_owned()])
        ));
    }
}
