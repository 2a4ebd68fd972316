//! Law 12: which namespace may target which devices, and with which rights.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// The provider's map, in the order of its configuration: the first entry whose selector matches counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceMap(pub Vec<NamespaceEntry>);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceEntry {
    /// Which namespaces, by their labels. The API server labels each with `kubernetes.io/metadata.name`.
    pub selector: Selector,
    /// A target condition that is `AND`ed to every condition for ever; `*` is every device.
    pub scope: String,
    /// For pods without `outrigger.io/target-condition`; `*` is every device in scope.
    #[serde(default)]
    pub default_condition: Option<String>,
    #[serde(default)]
    pub rights: Rights,
}

/// A label selector: all of it must match, and an empty one matches every namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
}

impl Selector {
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// What pods of a namespace may ask of a device beyond an ordinary container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rights {
    pub privileged: bool,
    pub host_namespaces: bool,
    pub host_path: bool,
}

/// What a pod asks of a device beyond an ordinary container.
pub type Asks = Rights;

/// Where a pod may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub condition: String,
    pub scope: String,
}

/// Why a pod may go nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetRefusal {
    /// No entry matches the namespace.
    NoEntry,
    /// The namespace's entry does not give these rights.
    NoRight(Vec<&'static str>),
    /// Neither the pod nor the entry names a condition.
    NoCondition,
}

impl TargetRefusal {
    /// The reason shown on the pod.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoEntry | Self::NoRight(_) => "TargetNotAllowed",
            Self::NoCondition => "NoTarget",
        }
    }
}

impl fmt::Display for TargetRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEntry => f.write_str("no entry of the provider's namespace map matches this namespace"),
            Self::NoRight(rights) => {
                write!(f, "the namespace may not use {} on devices", rights.join(", "))
            }
            Self::NoCondition => f.write_str(
                "the pod has no outrigger.io/target-condition and its namespace no default; '*' targets every device in scope",
            ),
        }
    }
}

impl NamespaceMap {
    /// Where a pod of a namespace with these labels may go. `condition` is the pod's annotation.
    ///
    /// # Errors
    /// [`TargetRefusal`]: nothing of the pod may reach a device.
    pub fn target(
        &self,
        namespace_labels: &BTreeMap<String, String>,
        condition: Option<&str>,
        asks: Asks,
    ) -> Result<Target, TargetRefusal> {
        let entry = self
            .0
            .iter()
            .find(|entry| entry.selector.matches(namespace_labels))
            .ok_or(TargetRefusal::NoEntry)?;
        let lacking = entry.rights.lacking(asks);
        if !lacking.is_empty() {
            return Err(TargetRefusal::NoRight(lacking));
        }
        let condition = condition
            .or(entry.default_condition.as_deref())
            .ok_or(TargetRefusal::NoCondition)?;
        Ok(Target {
            condition: condition.to_owned(),
            scope: entry.scope.clone(),
        })
    }
}

impl Rights {
    fn lacking(self, asks: Asks) -> Vec<&'static str> {
        [
            (asks.privileged && !self.privileged, "privileged containers"),
            (asks.host_namespaces && !self.host_namespaces, "host namespaces"),
            (asks.host_path && !self.host_path, "hostPath volumes"),
        ]
        .into_iter()
        .filter_map(|(lacks, name)| lacks.then_some(name))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> NamespaceMap {
        let entry = |label: &str, scope: &str, default: Option<&str>, privileged| NamespaceEntry {
            selector: Selector {
                match_labels: BTreeMap::from([("team".to_owned(), label.to_owned())]),
            },
            scope: scope.into(),
            default_condition: default.map(str::to_owned),
            rights: Rights {
                privileged,
                ..Rights::default()
            },
        };
        NamespaceMap(vec![
            entry("press", "tags.hall = '7'", Some("*"), false),
            entry("core", "*", None, true),
        ])
    }

    #[track_caller]
    fn check(team: &str, condition: Option<&str>, privileged: bool, expected: Result<(&str, &str), &str>) {
        let labels = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let asks = Asks {
            privileged,
            ..Asks::default()
        };
        let target = map().target(&labels, condition, asks);
        let got = target.as_ref().map(|t| (t.condition.as_str(), t.scope.as_str()));
        assert_eq!(got.map_err(TargetRefusal::reason), expected);
    }

    #[test]
    fn a_namespace_reaches_what_its_entry_says() {
        check("press", None, false, Ok(("*", "tags.hall = '7'")));
        check(
            "press",
            Some("deviceId = 'a'"),
            false,
            Ok(("deviceId = 'a'", "tags.hall = '7'")),
        );
        check("press", None, true, Err("TargetNotAllowed"));
        check("core", None, true, Err("NoTarget"));
        check("core", Some("*"), true, Ok(("*", "*")));
        check("stranger", Some("*"), false, Err("TargetNotAllowed"));
    }

    #[test]
    fn an_empty_map_allows_nothing_and_an_empty_selector_everything() {
        let labels = BTreeMap::new();
        assert_eq!(
            NamespaceMap::default().target(&labels, Some("*"), Asks::default()),
            Err(TargetRefusal::NoEntry)
        );
        assert!(Selector::default().matches(&labels));
    }
}
