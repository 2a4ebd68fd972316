//! What the variables and files of one workload are made from: its objects, its own fields, and what only this device knows.

use std::net::IpAddr;

use edge_protocol::address::one_of_each_family;
use edge_protocol::v1::{
    Amounts, ContainerResource, Manifest, ObjectData, ObjectKind, PodField, Reason, ResourceField,
};

use crate::objects::{ObjectError, Objects};

/// The sources of one workload, at this moment.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    pub manifest: &'a Manifest,
    pub objects: &'a Objects,
    /// All addresses of the sandbox; a workload on the device's own network has the device's.
    pub pod_ips: &'a [IpAddr],
    /// The device's own addresses, the first one foremost.
    pub host_ips: &'a [IpAddr],
    /// What the device has.
    pub capacity: Amounts,
}

/// Why a value cannot be had now. The words are the kubelet's where it has some.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// As `NewNotFound` of `pkg/kubelet/util/manager/watch_based_manager.go`.
    #[error("{} {name:?} not found", .kind.as_str().to_lowercase())]
    NoObject { kind: ObjectKind, name: String },
    /// Of a variable (`makeEnvironmentVariables` of `pkg/kubelet/kubelet_pods.go`).
    #[error("couldn't find key {key} in {} {namespace}/{name}", .kind.as_str())]
    NoKey {
        kind: ObjectKind,
        namespace: String,
        name: String,
        key: String,
    },
    /// Of a file (`MakePayload` of pkg/volume/configmap and pkg/volume/secret).
    #[error("references non-existent {} key: {key}", match .kind { ObjectKind::ConfigMap => "config", ObjectKind::Secret => "secret" })]
    NoKeyForFile { kind: ObjectKind, key: String },
    #[error("{kind} {name:?} is not among the objects of this workload")]
    Unlisted { kind: &'static str, name: String },
    #[error(transparent)]
    Unreadable(#[from] ObjectError),
    #[error("container {0} not found")]
    NoContainer(String),
}

impl SourceError {
    /// What a container that waits for it shows, where `general` is what a plain failure shows.
    pub fn reason(&self, general: Reason) -> Reason {
        match self {
            Self::Unreadable(ObjectError::NotSealed { .. }) => Reason::SecretNotSealed,
            _ => general,
        }
    }
}

impl Sources<'_> {
    /// A config map or secret. One that the cluster does not have is not listed; where that is allowed, there is none.
    ///
    /// # Errors
    /// It is mandatory and not there, or cannot be opened yet.
    pub fn object(
        &self,
        kind: ObjectKind,
        name: &str,
        optional: bool,
    ) -> Result<Option<ObjectData>, SourceError> {
        match self.listed(kind.as_str(), name)? {
            None if !optional => Err(SourceError::NoObject {
                kind,
                name: name.to_owned(),
            }),
            found => Ok(found),
        }
    }

    /// An object of any kind, if the manifest lists it.
    ///
    /// # Errors
    /// It is listed and cannot be opened yet.
    pub fn listed(&self, kind: &str, name: &str) -> Result<Option<ObjectData>, SourceError> {
        let is_it = |object: &&edge_protocol::v1::ObjectRef| object.kind == kind && object.name == name;
        let Some(reference) = self.manifest.objects.iter().find(is_it) else {
            return Ok(None);
        };
        Ok(Some(self.objects.open(reference)?))
    }

    /// A field as the downward API shows it (`podFieldSelectorRuntimeValue` of `pkg/kubelet/kubelet_pods.go`, pkg/fieldpath/fieldpath.go).
    pub fn field(&self, field: &PodField) -> String {
        let Manifest {
            uid,
            namespace,
            name,
            labels,
            annotations,
            workload,
            ..
        } = self.manifest;
        match field {
            PodField::Name => name.clone(),
            PodField::Namespace => namespace.clone(),
            PodField::Uid => uid.to_string(),
            PodField::NodeName => workload.node_name.clone(),
            PodField::ServiceAccountName => workload.service_account.clone(),
            PodField::HostIp => first(self.host_ips),
            PodField::HostIps => joined(self.host_ips),
            PodField::PodIp => first(&self.shown_ips()),
            PodField::PodIps => joined(&self.shown_ips()),
            PodField::Labels => lines(labels),
            PodField::Annotations => lines(annotations),
            PodField::Label(key) => labels.get(key).cloned().unwrap_or_default(),
            PodField::Annotation(key) => annotations.get(key).cloned().unwrap_or_default(),
        }
    }

    /// The addresses that the workload shows as its own.
    fn shown_ips(&self) -> Vec<IpAddr> {
        if self.manifest.workload.namespaces.host_network {
            self.host_ips.to_vec()
        } else {
            one_of_each_family(self.pod_ips.iter().copied())
        }
    }

    /// What a workload gets that states no limit: all there is for workloads (`defaultPodLimitsForDownwardAPI` of
    /// `pkg/kubelet/kubelet_resources.go`).
    pub fn allocatable(&self) -> Amounts {
        let reserved = self.manifest.workload.reserved;
        reserved.map_or(self.capacity, |reserved| self.capacity.allocatable(reserved))
    }

    /// A request or limit, divided and rounded up (`ExtractContainerResourceValue` of pkg/api/v1/resource/helpers.go).
    ///
    /// # Errors
    /// The workload has no such container.
    pub fn resource(&self, field: &ResourceField) -> Result<String, SourceError> {
        let mut all = self.manifest.workload.every_container();
        let container = all
            .find(|container| container.name == field.container)
            .ok_or_else(|| SourceError::NoContainer(field.container.clone()))?;
        let (stated, capacity) = (&container.resources, self.allocatable());
        // No limit and a limit of nothing are the same.
        let limit = |stated: Option<u64>, capacity| stated.filter(|limit| *limit > 0).unwrap_or(capacity);
        let bytes = field.divisor_milli.div_ceil(1000);
        let (value, divisor) = match field.resource {
            ContainerResource::RequestsCpu => (stated.cpu_request_milli.unwrap_or(0), field.divisor_milli),
            ContainerResource::LimitsCpu => {
                let limit = limit(stated.cpu_limit_milli, capacity.cpu_milli);
                (limit, field.divisor_milli)
            }
            ContainerResource::RequestsMemory => (stated.memory_request_bytes.unwrap_or(0), bytes),
            ContainerResource::LimitsMemory => {
                (limit(stated.memory_limit_bytes, capacity.memory_bytes), bytes)
            }
            ContainerResource::RequestsEphemeralStorage => {
                (stated.ephemeral_storage_request_bytes.unwrap_or(0), bytes)
            }
            ContainerResource::LimitsEphemeralStorage => {
                let stated = stated.ephemeral_storage_limit_bytes;
                (limit(stated, capacity.ephemeral_storage_bytes), bytes)
            }
        };
        Ok(value.div_ceil(divisor.max(1)).to_string())
    }
}

fn first(addresses: &[IpAddr]) -> String {
    addresses.first().map(ToString::to_string).unwrap_or_default()
}

fn joined(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// One `key="value"` a line, in order, without an end of the last (`FormatMap` of pkg/fieldpath/fieldpath.go).
fn lines(map: &std::collections::BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={}", quoted(value)))
        .collect();
    lines.join("\n")
}

/// As Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let escaped: Vec<String> = text.chars().map(escaped).collect();
    format!("\"{}\"", escaped.concat())
}

fn escaped(c: char) -> String {
    match (c, u32::from(c)) {
        ('"', _) => "\\\"".to_owned(),
        ('\\', _) => "\\\\".to_owned(),
        ('\u{7}', _) => "\\a".to_owned(),
        ('\u{8}', _) => "\\b".to_owned(),
        ('\u{c}', _) => "\\f".to_owned(),
        ('\n', _) => "\\n".to_owned(),
        ('\r', _) => "\\r".to_owned(),
        ('\t', _) => "\\t".to_owned(),
        ('\u{b}', _) => "\\v".to_owned(),
        _ if is_printable(c) => c.to_string(),
        (_, code @ 0..0x80) => format!("\\x{code:02x}"),
        (_, code @ 0x80..0x10000) => format!("\\u{code:04x}"),
        (_, code) => format!("\\U{code:08x}"),
    }
}

/// Go's `strconv.IsPrint` but for unassigned characters, which pass here.
fn is_printable(c: char) -> bool {
    let format = matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let private = matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    !(c.is_control() || (c.is_whitespace() && c != ' ') || format || private)
}

#[cfg(test)]
mod tests;
