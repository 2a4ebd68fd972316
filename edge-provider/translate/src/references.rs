//! What a pod refers to in the cluster: what must be read, asked for or resolved before it can be translated.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::v1::object::kind;
use k8s_openapi::api::core::v1::{Container, PodSpec, ProjectedVolumeSource, Volume};
use serde::Deserialize as _;
use serde_json::Value;

use crate::api_access::ApiAccess;
use crate::ephemeral;
use crate::node::NodeKind;
use crate::objects::{ObjectKey, SERVICES};

/// Everything that a pod refers to, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: BTreeMap<String, Need>,
    pub secrets: BTreeMap<String, Need>,
    /// Secrets for pulls only. One that is missing is passed over.
    pub pull_secrets: BTreeSet<String>,
    /// By the name of the object that holds it, which stays the same as long as the projected source is the same.
    pub tokens: BTreeMap<String, TokenRequest>,
    /// Persistent volume claims.
    pub claims: BTreeSet<String>,
    pub services: ServiceVariables,
}

/// Whether a pod can do without an object: only if every place that names it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Mandatory,
    Optional,
}

/// A service account's token to be asked for, bound to the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRequest {
    /// The pod's service account.
    pub service_account: String,
    /// Absent means the API server's own.
    pub audience: Option<String>,
    pub expiration_s: u64,
}

/// Which services a pod gets variables of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServiceVariables {
    /// None: the addresses of a cluster mean nothing to a fleet.
    #[default]
    None,
    /// The API server's only: `enableServiceLinks` is false.
    ApiServer,
    /// The API server's and those of the namespace.
    Namespace,
}

/// What the API server writes when the author says nothing (`SetDefaults_ServiceAccountTokenProjection`).
const TOKEN_EXPIRATION_S: i64 = 3600;

impl References {
    /// All that is found as an object beside the manifest, in order.
    pub fn keys(&self) -> BTreeSet<ObjectKey> {
        let lists: [(&'static str, Vec<&String>); 4] = [
            (kind::CONFIG_MAP, self.config_maps.keys().collect()),
            (kind::SECRET, self.secrets.keys().collect()),
            (kind::PULL_CREDENTIAL, self.pull_secrets.iter().collect()),
            (kind::TOKEN, self.tokens.keys().collect()),
        ];
        let mut keys: BTreeSet<ObjectKey> = lists
            .into_iter()
            .flat_map(|(kind, names)| {
                names
                    .into_iter()
                    .map(move |name| ObjectKey::new(kind, name.as_str()))
            })
            .collect();
        if self.services != ServiceVariables::None {
            keys.insert(ObjectKey::new(kind::SERVICES, SERVICES));
        }
        keys
    }
}

/// What the raw JSON of a pod's `spec` refers to on a node of this kind. A `spec` that is none refers to nothing; to translate it is
/// refused.
///
/// On a fleet node the volume that the API server adds for its own access is left out, as it is from the manifest.
pub fn references(spec: &Value, kind: NodeKind) -> References {
    let Ok(typed) = PodSpec::deserialize(spec) else {
        return References::default();
    };
    let withheld = match kind {
        NodeKind::Fleet => ApiAccess::find(spec),
        NodeKind::Device => ApiAccess::default(),
    };
    let mut found = References {
        services: match (kind, typed.enable_service_links) {
            (NodeKind::Fleet, _) => ServiceVariables::None,
            (NodeKind::Device, Some(false)) => ServiceVariables::ApiServer,
            (NodeKind::Device, _) => ServiceVariables::Namespace,
        },
        ..References::default()
    };
    let secrets = typed
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|secret| &secret.name);
    found
        .pull_secrets
        .extend(secrets.filter(|name| !name.is_empty()).cloned());
    let added = ephemeral::containers(&typed);
    let containers = typed.init_containers.iter().flatten().chain(&typed.containers);
    containers
        .chain(&added)
        .for_each(|container| found.environment(container));
    let account = service_account(&typed).to_owned();
    let volumes = typed.volumes.iter().flatten();
    for volume in volumes.filter(|volume| !withheld.is_named(&volume.name)) {
        found.volume(volume, &account);
    }
    found
}

impl References {
    fn environment(&mut self, container: &Container) {
        for from in container.env_from.iter().flatten() {
            if let Some(map) = &from.config_map_ref {
                self.config_map(&map.name, map.optional);
            }
            if let Some(secret) = &from.secret_ref {
                self.secret(&secret.name, secret.optional);
            }
        }
        for from in container
            .env
            .iter()
            .flatten()
            .filter_map(|var| var.value_from.as_ref())
        {
            if let Some(map) = &from.config_map_key_ref {
                self.config_map(&map.name, map.optional);
            }
            if let Some(secret) = &from.secret_key_ref {
                self.secret(&secret.name, secret.optional);
            }
        }
    }

    fn volume(&mut self, volume: &Volume, account: &str) {
        if let Some(map) = &volume.config_map {
            self.config_map(&map.name, map.optional);
        }
        if let Some(secret) = &volume.secret {
            self.secret(secret.secret_name.as_deref().unwrap_or_default(), secret.optional);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            self.claims.insert(claim.claim_name.clone());
        }
        if let Some(projected) = &volume.projected {
            self.projected(&volume.name, projected, account);
        }
    }

    fn projected(&mut self, volume: &str, projected: &ProjectedVolumeSource, account: &str) {
        for (index, source) in projected.sources.iter().flatten().enumerate() {
            if let Some(map) = &source.config_map {
                self.config_map(&map.name, map.optional);
            }
            if let Some(secret) = &source.secret {
                self.secret(&secret.name, secret.optional);
            }
            if let Some(token) = &source.service_account_token {
                let seconds = token.expiration_seconds.unwrap_or(TOKEN_EXPIRATION_S);
                let request = TokenRequest {
                    service_account: account.to_owned(),
                    audience: token.audience.clone().filter(|audience| !audience.is_empty()),
                    expiration_s: u64::try_from(seconds).unwrap_or_default(),
                };
                self.tokens.insert(token_object(volume, index), request);
            }
        }
    }

    fn config_map(&mut self, name: &str, optional: Option<bool>) {
        note(&mut self.config_maps, name, optional);
    }

    fn secret(&mut self, name: &str, optional: Option<bool>) {
        note(&mut self.secrets, name, optional);
    }
}

fn note(needs: &mut BTreeMap<String, Need>, name: &str, optional: Option<bool>) {
    let need = if optional == Some(true) {
        Need::Optional
    } else {
        Need::Mandatory
    };
    let noted = needs.entry(name.to_owned()).or_insert(need);
    *noted = need.min(*noted);
}

/// The name of the object that holds the token of a volume's projected source. A volume's name has no dot.
pub(crate) fn token_object(volume: &str, source: usize) -> String {
    format!("{volume}.{source}")
}

/// The account of a pod; the API server writes `default` when the author names none (`plugin/pkg/admission/serviceaccount`).
pub(crate) fn service_account(spec: &PodSpec) -> &str {
    let named = [&spec.service_account_name, &spec.service_account];
    let mut named = named.into_iter().flatten().filter(|name| !name.is_empty());
    named.next().map_or("default", String::as_str)
}

#[cfg(test)]
mod tests;
