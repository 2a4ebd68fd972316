//! Who depends on whom: a workload on those that its manifest replaces and on the one that takes its place, and they on it.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::PodUid;

use crate::workload::Workload;

#[derive(Debug, Default)]
pub(crate) struct Ties {
    /// Whom each names, as of when it was last seen here.
    names: BTreeMap<PodUid, BTreeSet<PodUid>>,
    named_by: BTreeMap<PodUid, BTreeSet<PodUid>>,
}

impl Ties {
    /// Sees a workload as it is now. Everybody it is tied to, or was until now.
    pub(crate) fn update(&mut self, uid: &PodUid, workload: Option<&Workload>) -> BTreeSet<PodUid> {
        let names: BTreeSet<PodUid> = workload.map(named).into_iter().flatten().cloned().collect();
        let before = if names.is_empty() {
            self.names.remove(uid)
        } else {
            self.names.insert(uid.clone(), names.clone())
        };
        let before = before.unwrap_or_default();
        for old in before.difference(&names) {
            if let Some(by) = self.named_by.get_mut(old) {
                by.remove(uid);
                if by.is_empty() {
                    self.named_by.remove(old);
                }
            }
        }
        for new in names.difference(&before) {
            self.named_by.entry(new.clone()).or_default().insert(uid.clone());
        }
        let mut tied = names;
        tied.extend(before);
        tied.extend(self.named_by.get(uid).into_iter().flatten().cloned());
        tied
    }
}

fn named(workload: &Workload) -> impl Iterator<Item = &PodUid> {
    let replaced = workload.manifest.iter().flat_map(|manifest| &manifest.replaces);
    let successor = workload.record.superseded.iter().map(|superseded| &superseded.by);
    replaced.chain(successor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Superseded;

    fn uid(name: &str) -> PodUid {
        PodUid::new(name).unwrap()
    }

    fn superseded(by: &str) -> Workload {
        let mut workload = Workload::default();
        workload.record.superseded = Some(Superseded {
            by: uid(by),
            manifest: None,
            for_good: false,
        });
        workload
    }

    #[test]
    fn a_tie_holds_both_ways_and_once_more_when_it_is_cut() {
        let mut ties = Ties::default();
        assert_eq!(ties.update(&uid("a"), Some(&superseded("b"))), [uid("b")].into());
        assert_eq!(
            ties.update(&uid("b"), Some(&Workload::default())),
            [uid("a")].into()
        );
        let both = [uid("b"), uid("c")].into();
        assert_eq!(ties.update(&uid("a"), Some(&superseded("c"))), both);
        assert_eq!(ties.update(&uid("b"), Some(&Workload::default())), [].into());
        assert_eq!(ties.update(&uid("a"), None), [uid("c")].into());
        assert_eq!(ties.update(&uid("c"), None), [].into());
        assert!(ties.names.is_empty() && ties.named_by.is_empty());
    }
}
