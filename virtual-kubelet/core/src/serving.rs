//! Serving certificates of the kubelet API: which request for one is right, how long one serves, and what a Node shows of it.
//!
//! The signer `kubernetes.io/kubelet-serving` asks for organisation, beginning of the common name, usages and some name
//! (`ValidateKubeletServingCSR` of `pkg/apis/certificates/helpers.go` in Kubernetes 1.37), and signs whatever names an approved request has.
//! So the names are the approver's to judge, and Kubernetes itself has none for this signer.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::node::{ConditionStatus, NodeCondition, ObservedNode};

pub const SIGNER: &str = "kubernetes.io/kubelet-serving";
pub const ORGANIZATION: &str = "system:nodes";
/// What a kubelet asks for with a key that is not RSA (`DefaultKubeletServingGetUsages` of client-go).
pub const USAGES: [&str; 2] = ["digital signature", "server auth"];
/// The Node's condition that says by what certificate the kubelet API is served.
pub const SERVING_CERTIFICATE: &str = "outrigger.io/ServingCertificate";
/// The longest text of others in a condition, in bytes.
const TEXT: usize = 1_024;
const NODE_USER: &str = "system:node:";

/// The common name of a node's certificate.
pub fn common_name(node: &str) -> String {
    format!("{NODE_USER}{node}")
}

/// The names that a TLS client may verify a node by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServingNames {
    pub hosts: BTreeSet<String>,
    pub ips: BTreeSet<IpAddr>,
}

impl ServingNames {
    /// What a Node publishes, as a kubelet takes it into its request (`addressesToHostnamesAndIPs` of `pkg/kubelet/certificate/kubelet.go`).
    pub fn of(node: &ObservedNode) -> Self {
        let mut names = Self::default();
        let addresses = node.status.get("addresses").and_then(Value::as_array);
        for address in addresses.into_iter().flatten() {
            let text = |member: &str| address.get(member).and_then(Value::as_str).unwrap_or_default();
            let (kind, value) = (text("type"), text("address"));
            match (kind, value.parse::<IpAddr>()) {
                ("InternalIP" | "ExternalIP" | "Hostname", Ok(ip)) => drop(names.ips.insert(ip)),
                ("Hostname" | "InternalDNS" | "ExternalDNS", Err(_)) if !value.is_empty() => {
                    names.hosts.insert(value.to_owned());
                }
                _ => {}
            }
        }
        names
    }

    /// Whether a certificate with these names can be verified by each of the others.
    pub fn cover(&self, others: &Self) -> bool {
        self.hosts.is_superset(&others.hosts) && self.ips.is_superset(&others.ips)
    }
}

impl fmt::Display for ServingNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.hosts.iter().cloned();
        let all: Vec<String> = hosts.chain(self.ips.iter().map(IpAddr::to_string)).collect();
        f.write_str(&all.join(", "))
    }
}

/// A `CertificateSigningRequest` as the API server has it, as far as decisions read it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SigningRequest {
    pub metadata: RequestMetadata,
    pub spec: RequestSpec,
    pub status: RequestStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RequestMetadata {
    pub name: String,
    pub uid: String,
}

/// Immutable; user name and UID are the API server's own word.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestSpec {
    /// PKCS #10 as PEM, in base64.
    pub request: String,
    pub signer_name: String,
    pub usages: Vec<String>,
    pub username: String,
    pub uid: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RequestStatus {
    pub conditions: Vec<RequestCondition>,
    /// A chain as PEM, in base64.
    pub certificate: Option<String>,
}

/// `Approved`, `Denied` or `Failed`; each is only ever `True`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RequestCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub reason: String,
    pub message: String,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Pending,
    /// The signer has yet to act.
    Approved,
    Denied(String),
    Failed(String),
    /// The chain as PEM, in base64.
    Issued(String),
}

impl SigningRequest {
    /// Refusals count before anything else, as in client-go's `WaitForCertificate`.
    pub fn standing(&self) -> Standing {
        let find = |kind: &str| self.status.conditions.iter().find(|found| found.kind == kind);
        let why = |found: &RequestCondition| cut(&format!("{}: {}", found.reason, found.message));
        if let Some(denied) = find("Denied") {
            return Standing::Denied(why(denied));
        }
        if let Some(failed) = find("Failed") {
            return Standing::Failed(why(failed));
        }
        match (find("Approved"), &self.status.certificate) {
            (None, _) => Standing::Pending,
            (Some(_), Some(chain)) if !chain.is_empty() => Standing::Issued(chain.clone()),
            (Some(_), _) => Standing::Approved,
        }
    }
}

/// At most [`TEXT`] bytes of what another wrote.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT)].to_owned()
}

/// All that a PKCS #10 request asks for: what is not named here does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    pub organizations: Vec<String>,
    pub common_names: Vec<String>,
    pub hosts: Vec<String>,
    pub ips: Vec<IpAddr>,
    /// Further attributes of the subject, other kinds of names, extensions and attributes, each by its kind or object identifier.
    pub further: Vec<String>,
}

/// Who asks, in the API server's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Requestor {
    pub username: String,
    /// Tells a service account from a later one of the same name.
    pub uid: String,
}

/// Why a request is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("its signer is {signer}")]
    Signer { signer: String },
    #[error("{username} filed it")]
    Requestor { username: String },
    #[error("it cannot be read")]
    Unreadable,
    #[error("its usages are {}", usages.join(", "))]
    Usages { usages: Vec<String> },
    #[error("its subject is not that of one node")]
    Subject,
    #[error("it asks for {} as well", further.join(", "))]
    Further { further: Vec<String> },
    #[error("{node} is no node of ours")]
    ForeignNode { node: String },
    #[error("it asks for {asked}, and {node} publishes {published}")]
    Names {
        node: String,
        asked: ServingNames,
        published: ServingNames,
    },
}

impl Unfit {
    /// Whether the same request may be right later: what it asks for stays, but Nodes come, and publish addresses.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::ForeignNode { .. } | Self::Names { .. })
    }

    /// Whether it is somebody else's, of whose requests nothing need be said.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Signer { .. } | Self::Requestor { .. })
    }
}

/// The node that a request of ours is for. What it asks for beside names is right then.
///
/// # Errors
/// [`Unfit`]: why it is left alone.
pub fn node_of<'r>(
    request: &RequestSpec,
    requested: Option<&'r Requested>,
    us: &Requestor,
) -> Result<&'r str, Unfit> {
    if request.signer_name != SIGNER {
        let signer = cut(&request.signer_name);
        return Err(Unfit::Signer { signer });
    }
    if us.username.is_empty() || request.username != us.username || request.uid != us.uid {
        let username = cut(&request.username);
        return Err(Unfit::Requestor { username });
    }
    let requested = requested.ok_or(Unfit::Unreadable)?;
    let usages: BTreeSet<&str> = request.usages.iter().map(String::as_str).collect();
    if usages != BTreeSet::from(USAGES) {
        let usages = request.usages.iter().take(8).map(|usage| cut(usage)).collect();
        return Err(Unfit::Usages { usages });
    }
    if !requested.further.is_empty() {
        let further = requested.further.iter().take(8).map(|what| cut(what)).collect();
        return Err(Unfit::Further { further });
    }
    let ([organization], [common_name]) = (&requested.organizations[..], &requested.common_names[..]) else {
        return Err(Unfit::Subject);
    };
    match common_name.strip_prefix(NODE_USER) {
        Some(node) if organization == ORGANIZATION && !node.is_empty() => Ok(node),
        _ => Err(Unfit::Subject),
    }
}

/// Whether the names that a request asks for are exactly those of its node. `provider_id` is that of our Node of this name, `observed` the Node as the
/// API server has it.
///
/// # Errors
/// [`Unfit`]: why it is left alone.
pub fn judge_names(
    node: &str,
    requested: &Requested,
    provider_id: Option<&str>,
    observed: Option<&ObservedNode>,
) -> Result<(), Unfit> {
    let ours = observed.filter(|observed| provider_id == Some(observed.spec.provider_id.as_str()));
    let Some(observed) = ours else {
        return Err(Unfit::ForeignNode { node: cut(node) });
    };
    let published = ServingNames::of(observed);
    let asked = ServingNames {
        hosts: requested.hosts.iter().cloned().collect(),
        ips: requested.ips.iter().copied().collect(),
    };
    // As a kubelet: a host's name alone is not enough.
    if asked == published && !asked.ips.is_empty() {
        return Ok(());
    }
    Err(Unfit::Names {
        node: node.to_owned(),
        asked,
        published,
    })
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Lifetime {
    /// When to ask for the next one: at 70 to 90 % of its life, by `draw` from 0 to 1, so that certificates of one day are not renewed on one day
    /// (`jitteryDuration` of client-go's certificate manager).
    pub fn renew_at(self, draw: f64) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before).as_secs_f64();
        let share = 0.7 + 0.2 * draw.clamp(0.0, 1.0);
        let age = SignedDuration::try_from_secs_f64(life * share).unwrap_or_default();
        self.not_before.checked_add(age).unwrap_or(self.not_after)
    }

    /// A certificate of tomorrow is as good as this machine's clock, and is not asked for again.
    pub fn has_ended(self, now: Timestamp) -> bool {
        now >= self.not_after
    }
}

/// By what certificate the kubelet API is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServingWord {
    /// One that the cluster signed. `renewal` is why there is no next one yet, once it is due.
    Issued { renewal: Option<Unserved> },
    /// One that nobody need trust.
    SelfSigned { why: Unserved },
}

/// Why there is no certificate of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unserved {
    /// One word, for the condition.
    pub reason: &'static str,
    pub message: String,
}

impl Unserved {
    pub fn new(reason: &'static str, message: impl AsRef<str>) -> Self {
        Self {
            reason,
            message: cut(message.as_ref()),
        }
    }
}

impl ServingWord {
    /// The condition by which every Node of the process tells it.
    pub fn condition(&self) -> NodeCondition {
        let (status, reason, message) = match self {
            Self::Issued { renewal: None } => (
                ConditionStatus::True,
                "Issued",
                "the kubelet API has a certificate that the cluster signed".to_owned(),
            ),
            Self::Issued { renewal: Some(why) } => (
                ConditionStatus::True,
                "RenewalDue",
                format!(
                    "there is no successor to the kubelet API's certificate yet: {}",
                    why.message
                ),
            ),
            Self::SelfSigned { why } => (
                ConditionStatus::False,
                why.reason,
                format!(
                    "the kubelet API has a certificate of its own making: {}",
                    why.message
                ),
            ),
        };
        NodeCondition::new(SERVING_CERTIFICATE, status, reason, message)
    }
}

#[cfg(test)]
mod tests;
