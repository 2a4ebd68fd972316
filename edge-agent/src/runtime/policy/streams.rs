//! What a device's owner says of streams: commands, logs and connections that someone asks for over the link.

use edge_agent_core::StreamWork;
use serde::Deserialize;

/// The table `[streams]` of the policy. Everything is allowed that is not denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamRules {
    pub exec: Rule,
    pub attach: Rule,
    pub port_forward: Rule,
    pub logs: Rule,
    /// Containers that are added to a pod that runs, as `kubectl debug` does.
    pub debug: Rule,
    /// Ports of pods that may be forwarded; absent means all.
    pub ports: Option<Vec<PortRange>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    #[default]
    Allow,
    Deny,
    /// Somebody at the device has to agree, each time.
    AskLocally,
}

/// `8080`, or `"9000-9100"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PortText")]
pub struct PortRange {
    first: u16,
    last: u16,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PortText {
    One(u16),
    Range(String),
}

impl TryFrom<PortText> for PortRange {
    type Error = String;

    fn try_from(text: PortText) -> Result<Self, String> {
        let text = match text {
            PortText::One(port) => {
                return Ok(Self {
                    first: port,
                    last: port,
                });
            }
            PortText::Range(text) => text,
        };
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!(
                "{text:?} is no port and no range of ports like \"9000-9100\""
            )),
        }
    }
}

/// A rule forbids it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the device's policy forbids it (streams.{0})")]
    Kind(&'static str),
    #[error("the device's policy does not allow port {0} (streams.ports)")]
    Port(u16),
}

impl StreamRules {
    /// Whether such a stream may be: at once, or when somebody at the device agrees.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn judge(&self, work: &StreamWork) -> Result<Consent, Denied> {
        let (rule, name) = match work {
            StreamWork::Exec { .. } => (self.exec, "exec"),
            StreamWork::Attach { .. } => (self.attach, "attach"),
            StreamWork::PortForward { .. } => (self.port_forward, "port_forward"),
            StreamWork::Logs { .. } => (self.logs, "logs"),
        };
        let consent = match rule {
            Rule::Allow => Consent::Given,
            Rule::AskLocally => Consent::Ask,
            Rule::Deny => return Err(Denied::Kind(name)),
        };
        match work {
            StreamWork::PortForward { port, .. } if !self.allows_port(*port) => Err(Denied::Port(*port)),
            _ => Ok(consent),
        }
    }

    fn allows_port(&self, port: u16) -> bool {
        let within = |range: &PortRange| (range.first..=range.last).contains(&port);
        self.ports.as_ref().is_none_or(|ports| ports.iter().any(within))
    }
}

/// What is left to be had before a stream may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    Given,
    Ask,
}

#[cfg(test)]
mod tests {
    use edge_protocol::v1::{LogQuery, Stdio};

    use super::*;

    fn works() -> [StreamWork; 4] {
        let (container, container_id) = ("c".to_owned(), "id".to_owned());
        [
            StreamWork::Exec {
                container: container.clone(),
                container_id: container_id.clone(),
                command: vec!["sh".to_owned()],
                stdio: Stdio::default(),
            },
            StreamWork::Attach {
                container: container.clone(),
                container_id: container_id.clone(),
                stdio: Stdio::default(),
                tty: false,
            },
            StreamWork::PortForward {
                sandbox_id: "id".to_owned(),
                port: 80,
            },
            StreamWork::Logs {
                container,
                attempt: 0,
                query: LogQuery::default(),
            },
        ]
    }

    #[track_caller]
    fn check(text: &str, expect: [Result<Consent, Denied>; 4]) {
        let rules: StreamRules = toml::from_str(text).unwrap();
        assert_eq!(works().map(|work| rules.judge(&work)), expect, "{text}");
    }

    #[test]
    fn each_kind_has_its_rule() {
        let given = Ok(Consent::Given);
        check("", [given; 4]);
        let denied = |name| Err(Denied::Kind(name));
        check("exec = 'deny'", [denied("exec"), given, given, given]);
        check("attach = 'ask-locally'", [given, Ok(Consent::Ask), given, given]);
        check(
            "port_forward = 'deny'\nlogs = 'deny'",
            [given, given, denied("port_forward"), denied("logs")],
        );
        check("debug = 'deny'", [given; 4]);
    }

    #[test]
    fn ports_are_those_that_are_listed() {
        let given = Ok(Consent::Given);
        let forward = |text: &str| toml::from_str::<StreamRules>(text).unwrap().judge(&works()[2]);
        for (text, expect) in [
            ("ports = [80]", given),
            ("ports = ['80']", given),
            ("ports = [22, '1-1024']", given),
            ("ports = []", Err(Denied::Port(80))),
            ("ports = [22, '8000-9000']", Err(Denied::Port(80))),
            ("port_forward = 'ask-locally'\nports = [80]", Ok(Consent::Ask)),
            (
                "port_forward = 'ask-locally'\nports = [81]",
                Err(Denied::Port(80)),
            ),
        ] {
            assert_eq!(forward(text), expect, "{text}");
        }
        for bad in [
            "ports = ['90-80']",
            "ports = ['http']",
            "ports = [65536]",
            "exec = 'maybe'",
            "execs = 'deny'",
        ] {
            assert!(toml::from_str::<StreamRules>(bad).is_err(), "{bad}");
        }
    }
}
