//! A container's environment as a pod declares it. What only the device knows, or what may change while the pod lives, is resolved there,
//! at each start of the container.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One environment variable: a literal value, or where it comes from. `Debug` does not show the value: people put secrets there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    pub name: String,
    /// Empty when `from` is there.
    #[serde(default)]
    pub value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ValueFrom>,
}

impl EnvVar {
    pub fn literal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            from: None,
        }
    }
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvVar")
            .field("name", &self.name)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// All keys of an object as variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFrom {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    pub object: ObjectKind,
    pub name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// The objects of the cluster that a pod may take values and files from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ObjectKind {
    ConfigMap,
    Secret,
}

impl ObjectKind {
    /// As [`ObjectRef::kind`](super::ObjectRef) spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum ValueFrom {
    Field {
        field: PodField,
    },
    Resource(ResourceField),
    Object {
        object: ObjectKind,
        name: String,
        key: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        optional: bool,
    },
}

/// A field of the pod or of where it runs, as the downward API names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "path", content = "key", rename_all = "kebab-case")]
pub enum PodField {
    Name,
    Namespace,
    Uid,
    NodeName,
    ServiceAccountName,
    HostIp,
    HostIps,
    PodIp,
    PodIps,
    /// All labels, one `key="value"` a line; files only.
    Labels,
    /// All annotations, likewise.
    Annotations,
    /// One label; empty when the pod has none of that key.
    Label(String),
    Annotation(String),
}

/// A request or limit of a container. A limit that is not stated is what the device can give (`Allocatable`), as with the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceField {
    pub container: String,
    pub resource: ContainerResource,
    /// What the value is divided by and rounded up, in thousandths: of a core for cpu, of a byte for the others. Not zero.
    pub divisor_milli: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerResource {
    RequestsCpu,
    RequestsMemory,
    RequestsEphemeralStorage,
    LimitsCpu,
    LimitsMemory,
    LimitsEphemeralStorage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_environment_is_not_shown() {
        let shown = format!("{:?}", EnvVar::literal("PASSWORD", "hunter2"));
        assert!(
            shown.contains("PASSWORD") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
