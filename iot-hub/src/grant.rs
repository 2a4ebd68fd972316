//! Who may do what (law 12): principals, their grants, and the scope that is ANDed to what they deploy.

use edge_protocol::v1::{DeploymentSpec, Source};
use iot_hub_api::{Device, Problem, ProblemCode};
use iot_hub_core::condition::{Condition, ConditionError, Subject};
use serde::{Deserialize, Serialize};

/// Every device.
const EVERYTHING: &str = "*";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Deployments of its sources; reads devices in its scope.
    Provider,
    /// Reads devices and deployments in its scope.
    Viewer,
}

/// Sources that a principal may act for; an absent part is any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl SourceRule {
    fn allows(&self, source: &Source) -> bool {
        let fits = |rule: &Option<String>, value: &String| rule.as_ref().is_none_or(|rule| rule == value);
        fits(&self.cluster_uid, &source.cluster_uid) && fits(&self.node, &source.node)
    }
}

/// What a token's principal may do, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    pub role: Role,
    /// Empty: every source.
    #[serde(default)]
    pub sources: Vec<SourceRule>,
    /// A target condition that is ANDed to every deployment and to what the principal sees of devices; `*` is every device.
    pub devices: String,
    /// Whether it may open streams to these devices: commands, logs, ports. An administrator may without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub streams: bool,
}

impl Grant {
    /// A grant over all sources and devices, without the right to streams.
    pub fn unrestricted(role: Role) -> Self {
        Self {
            role,
            sources: Vec::new(),
            devices: EVERYTHING.to_owned(),
            streams: false,
        }
    }
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Principal {
    pub name: String,
    grant: Grant,
    devices: Condition,
}

impl Principal {
    /// # Errors
    /// [`ConditionError`] if the grant's device scope is not a condition.
    pub fn new(name: impl Into<String>, grant: Grant) -> Result<Self, ConditionError> {
        let devices = grant.devices.parse()?;
        Ok(Self {
            name: name.into(),
            grant,
            devices,
        })
    }

    /// Whether the principal acts for this source.
    pub fn owns(&self, source: &Source) -> bool {
        self.owns_all() || self.grant.sources.iter().any(|rule| rule.allows(source))
    }

    /// Whether the principal acts for every source, also one that the hub does not know.
    pub fn owns_all(&self) -> bool {
        self.grant.sources.is_empty()
    }

    /// Whether every device is in the principal's scope.
    pub fn sees_all(&self) -> bool {
        self.grant.devices == EVERYTHING
    }

    /// Whether the device is in the principal's scope.
    pub fn sees(&self, device: &Device) -> bool {
        let Device {
            id,
            group,
            tags,
            facts,
            ..
        } = device;
        self.devices.matches(&Subject {
            id,
            group,
            tags,
            facts,
        })
    }

    /// # Errors
    /// `forbidden` unless the principal is an administrator.
    pub fn require_admin(&self) -> Result<(), Problem> {
        match self.grant.role {
            Role::Admin => Ok(()),
            Role::Provider | Role::Viewer => Err(forbidden("only an administrator may do this")),
        }
    }

    /// # Errors
    /// `forbidden` unless the principal may open streams to devices in its scope.
    pub fn require_streams(&self) -> Result<(), Problem> {
        if self.grant.role == Role::Admin || self.grant.streams {
            return Ok(());
        }
        Err(forbidden(
            "this token has not the right to open streams (outrigger-hub token create --streams)",
        ))
    }

    /// # Errors
    /// `forbidden` for viewers, `not-yours` for another's source.
    pub fn require_deployer(&self, source: &Source) -> Result<(), Problem> {
        if self.grant.role == Role::Viewer {
            return Err(forbidden("a viewer changes nothing"));
        }
        if self.owns(source) {
            Ok(())
        } else {
            let detail = format!(
                "{} does not act for node {:?} of cluster {:?}",
                self.name, source.node, source.cluster_uid
            );
            Err(Problem::new(ProblemCode::NotYours, detail))
        }
    }

    /// The specification as the hub keeps it: the principal's scope ANDed to it.
    #[must_use]
    pub fn narrow(&self, mut spec: DeploymentSpec) -> DeploymentSpec {
        if self.grant.devices != EVERYTHING {
            let asked = std::mem::take(&mut spec.target.scope);
            spec.target.scope = match asked.trim() {
                EVERYTHING => format!("({})", self.grant.devices),
                _ => format!("{}{asked})", self.prefix()),
            };
        }
        spec
    }

    /// The inverse of [`narrow`](Self::narrow), so that a principal reads back what it wrote.
    #[must_use]
    pub fn widen(&self, mut spec: DeploymentSpec) -> DeploymentSpec {
        if self.grant.devices != EVERYTHING {
            let kept = &spec.target.scope;
            if *kept == format!("({})", self.grant.devices) {
                EVERYTHING.clone_into(&mut spec.target.scope);
            } else if let Some(asked) = kept
                .strip_prefix(&self.prefix())
                .and_then(|rest| rest.strip_suffix(')'))
            {
                spec.target.scope = asked.to_owned();
            }
        }
        spec
    }

    /// How many characters [`narrow`](Self::narrow) put before the scope that was asked for.
    pub fn narrowed_by(&self) -> usize {
        if self.grant.devices == EVERYTHING {
            0
        } else {
            self.prefix().chars().count()
        }
    }

    fn prefix(&self) -> String {
        format!("({}) AND (", self.grant.devices)
    }
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(ProblemCode::Forbidden, detail)
}

#[cfg(test)]
mod tests {
    use edge_protocol::PodUid;
    use edge_protocol::v1::{ReadyPolicy, TargetSpec};

    use super::*;

    fn spec(scope: &str) -> DeploymentSpec {
        DeploymentSpec {
            uid: PodUid::new("u").unwrap(),
            source: Source {
                cluster_uid: "c".into(),
                node: "n".into(),
            },
            node_uid: None,
            namespace: "d".into(),
            name: "p".into(),
            owner: None,
            target: TargetSpec {
                condition: "*".into(),
                scope: scope.into(),
            },
            ready_policy: ReadyPolicy::All,
            manifest: String::new(),
        }
    }

    #[test]
    fn a_scope_is_added_on_the_way_in_and_taken_off_on_the_way_out() {
        let grant = Grant {
            devices: "tags.site = 'graz'".into(),
            ..Grant::unrestricted(Role::Provider)
        };
        let provider = Principal::new("p", grant).unwrap();
        for (asked, kept) in [
            ("*", "(tags.site = 'graz')"),
            (
                "tags.a = 'b' OR group = 'g'",
                "(tags.site = 'graz') AND (tags.a = 'b' OR group = 'g')",
            ),
        ] {
            let narrowed = provider.narrow(spec(asked));
            assert_eq!(narrowed.target.scope, kept);
            assert!(kept.parse::<Condition>().is_ok(), "{kept}");
            assert_eq!(provider.widen(narrowed), spec(asked));
        }
        let admin = Principal::new("a", Grant::unrestricted(Role::Admin)).unwrap();
        assert_eq!(admin.narrow(spec("*")), spec("*"));
    }

    #[test]
    fn a_scope_cannot_be_escaped() {
        let grant = Grant {
            devices: "tags.site = 'graz'".into(),
            ..Grant::unrestricted(Role::Provider)
        };
        let provider = Principal::new("p", grant).unwrap();
        for sly in ["*) OR (deviceId != 'x'", "tags.a = 'b') OR (*"] {
            assert!(sly.parse::<Condition>().is_err());
        }
        // What is refused alone must be refused; the REST layer checks the asked scope by itself.
        assert_ne!(provider.narrow(spec("x")).target.scope, "x");
    }

    #[test]
    fn sources() {
        let rule = |cluster: Option<&str>, node: Option<&str>| SourceRule {
            cluster_uid: cluster.map(str::to_owned),
            node: node.map(str::to_owned),
        };
        let check = |sources: Vec<SourceRule>, expect: bool| {
            let grant = Grant {
                sources,
                ..Grant::unrestricted(Role::Provider)
            };
            let principal = Principal::new("p", grant).unwrap();
            assert_eq!(principal.require_deployer(&spec("*").source).is_ok(), expect);
        };
        check(vec![], true);
        check(vec![rule(None, None)], true);
        check(vec![rule(Some("c"), Some("n"))], true);
        check(vec![rule(Some("other"), None), rule(None, Some("n"))], true);
        check(vec![rule(Some("c"), Some("other"))], false);
    }
}
