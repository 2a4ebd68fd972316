//! What a pod's author should hear although nothing is refused.

use std::borrow::Cow;

use edge_protocol::v1::ObjectKind;
use edge_protocol::v1::object::kind;

use crate::node::Context;
use crate::objects::{Found, ObjectKey};
use crate::references::{Need, References};

/// What the author should know although it was not asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The service account's token, which the API server mounts into every pod by itself, does not reach devices.
    TokenWithheld,
    /// A variable's value is from a secret: such values, and no others of secrets, are in clear where the container runtime keeps them.
    SecretInEnvironment,
    /// An object that the pod names is not there. The events of virtual-kubelet (`internal/podutils/env.go` of its 1.13.0), beside the device's own word, which
    /// is the kubelet's.
    ObjectNotFound {
        object: ObjectKind,
        name: String,
        need: Need,
    },
}

impl Note {
    /// The event's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TokenWithheld => "TokenWithheld",
            Self::SecretInEnvironment => "SecretInEnvironment",
            Self::ObjectNotFound { object, need, .. } => match (need, object) {
                (Need::Mandatory, ObjectKind::ConfigMap) => "MandatoryConfigMapNotFound",
                (Need::Mandatory, ObjectKind::Secret) => "MandatorySecretNotFound",
                (Need::Optional, ObjectKind::ConfigMap) => "OptionalConfigMapNotFound",
                (Need::Optional, ObjectKind::Secret) => "OptionalSecretNotFound",
            },
        }
    }

    /// The event's note.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::TokenWithheld => {
                "the service account's token is not sent to devices; set automountServiceAccountToken: false to say so yourself".into()
            }
            Self::SecretInEnvironment => {
                "variables from secrets are kept in clear by the container runtime of the device, as on any node; files of a secret's volume are not"
                    .into()
            }
            Self::ObjectNotFound { object, name, .. } => {
                let object = match object {
                    ObjectKind::ConfigMap => "configmap",
                    ObjectKind::Secret => "secret",
                };
                format!("{object} {name:?} not found").into()
            }
        }
    }

    /// Whether something is amiss.
    pub fn is_warning(&self) -> bool {
        matches!(self, Self::ObjectNotFound { .. })
    }
}

/// Of what the cluster does not have.
pub(super) fn missing(references: &References, context: Context<'_>) -> Vec<Note> {
    let of_maps = references.config_maps.iter();
    let of_maps = of_maps.map(|need| (kind::CONFIG_MAP, ObjectKind::ConfigMap, need));
    let of_secrets = references.secrets.iter();
    let of_secrets = of_secrets.map(|need| (kind::SECRET, ObjectKind::Secret, need));
    let is_missing =
        |kind, name: &String| context.objects.found.get(&ObjectKey::new(kind, name)) == Some(&Found::Missing);
    of_maps
        .chain(of_secrets)
        .filter(|(kind, _, (name, _))| is_missing(kind, name))
        .map(|(_, object, (name, need))| Note::ObjectNotFound {
            object,
            name: name.clone(),
            need: *need,
        })
        .collect()
}
