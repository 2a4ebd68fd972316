//! What this device refuses to run, whoever asks. The file is the device owner's: root writes it, and nothing that comes over the link changes
//! it.

pub mod streams;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use edge_protocol::v1::{
    ContainerSpec, Manifest, ObjectKind, ValueFrom, VolumeSource, is_baseline_capability,
};
use serde::Deserialize;

use self::streams::{Rule, StreamRules};

/// The registry of an image that names none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// The rules. Everything is allowed that none forbids.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the file, not a state"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    pub forbid_privileged: bool,
    pub forbid_host_network: bool,
    pub forbid_host_pid: bool,
    pub forbid_host_ipc: bool,
    /// A secret that becomes a variable is in the container runtime's store in clear.
    pub forbid_secrets_in_environment: bool,
    /// No workload is shown what is at, below or around these.
    pub forbid_host_paths: Vec<PathBuf>,
    /// If there are any, images come from these only; `docker.io` is where images come from that name none.
    pub only_registries: Vec<String>,
    pub streams: StreamRules,
}

/// The file cannot be obeyed, so nothing can be run by it.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("cannot read the policy {path}")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the policy {path} is not root's alone to write")]
    NotOurs { path: PathBuf },
    #[error("the policy {path} is not valid")]
    Malformed {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("the policy {path}: {forbidden:?} in forbid_host_paths is no absolute path")]
    NoPath { path: PathBuf, forbidden: PathBuf },
}

/// What a workload asks for that this device forbids; which rule it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("forbid_privileged: container {container:?} adds {capability:?}, which is as good as privileged")]
    Capability { container: String, capability: String },
    #[error("forbid_privileged: container {container:?} is privileged")]
    Privileged { container: String },
    #[error("{rule}: the pod wants the device's own")]
    Namespace { rule: &'static str },
    #[error("forbid_secrets_in_environment: container {container:?} takes variables from secret {secret:?}")]
    SecretVariable { container: String, secret: String },
    #[error("forbid_host_paths: volume {volume:?} shows {path:?}")]
    HostPath { volume: String, path: String },
    #[error(
        "streams.debug: container {container:?} is added to a pod that runs; the device's owner has to allow that"
    )]
    Debug { container: String },
    #[error("only_registries: image {image:?} comes from {registry:?}")]
    Registry { image: String, registry: String },
}

impl Policy {
    /// Reads the file; none is no rules.
    ///
    /// # Errors
    /// It cannot be obeyed: unreadable, unknown rules, or somebody else could have written it.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let unreadable = |source| PolicyError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let meta = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(unreadable)?,
        };
        if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
            return Err(PolicyError::NotOurs {
                path: path.to_owned(),
            });
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let policy: Self = toml::from_str(&text).map_err(|source| PolicyError::Malformed {
            path: path.to_owned(),
            source,
        })?;
        match policy
            .forbid_host_paths
            .iter()
            .find(|forbidden| !is_plain(forbidden))
        {
            Some(forbidden) => Err(PolicyError::NoPath {
                path: path.to_owned(),
                forbidden: forbidden.clone(),
            }),
            None => Ok(policy),
        }
    }

    /// Whether the workload may be here at all. What was added to it says nothing of that.
    ///
    /// # Errors
    /// The first rule that forbids it.
    pub fn allows(&self, manifest: &Manifest) -> Result<(), Violation> {
        let workload = &manifest.workload;
        let namespaces = workload.namespaces;
        for (forbidden, rule) in [
            (
                self.forbid_host_network && namespaces.host_network,
                "forbid_host_network",
            ),
            (self.forbid_host_pid && namespaces.host_pid, "forbid_host_pid"),
            (self.forbid_host_ipc && namespaces.host_ipc, "forbid_host_ipc"),
        ] {
            if forbidden {
                return Err(Violation::Namespace { rule });
            }
        }
        for container in workload.all_containers() {
            self.allows_container(container)?;
        }
        for volume in &workload.volumes {
            match &volume.source {
                VolumeSource::HostPath { path, .. } | VolumeSource::Local { path, .. }
                    if self.hides(Path::new(path)) =>
                {
                    return Err(Violation::HostPath {
                        volume: volume.name.clone(),
                        path: path.clone(),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether this container of the workload may be started: one that is added to it, to look into it, has a rule of its own. There is nobody to be
    /// asked while a container waits, so that a rule which asks forbids.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn allows_start(&self, manifest: &Manifest, name: &str) -> Result<(), Violation> {
        let mut added = manifest.workload.ephemeral_containers.iter();
        if let Some(added) = added.find(|container| container.name == name) {
            if self.streams.debug != Rule::Allow {
                let container = name.to_owned();
                return Err(Violation::Debug { container });
            }
            self.allows_container(added)?;
        }
        self.allows(manifest)
    }

    /// Whether the image may come here.
    ///
    /// # Errors
    /// It is from a registry that is not among those.
    pub fn allows_image(&self, image: &str) -> Result<(), Violation> {
        let registry = registry(image);
        if self.only_registries.is_empty() || self.only_registries.iter().any(|one| one == registry) {
            return Ok(());
        }
        Err(Violation::Registry {
            image: image.to_owned(),
            registry: registry.to_owned(),
        })
    }

    fn allows_container(&self, container: &ContainerSpec) -> Result<(), Violation> {
        let security = &container.security;
        if self.forbid_privileged && security.privileged {
            return Err(Violation::Privileged {
                container: container.name.clone(),
            });
        }
        let powers = security.add_capabilities.iter();
        if let Some(capability) = powers
            .filter(|_| self.forbid_privileged)
            .find(|name| !is_baseline_capability(name))
        {
            return Err(Violation::Capability {
                container: container.name.clone(),
                capability: capability.clone(),
            });
        }
        self.allows_image(&container.image)?;
        match secret_of(container).filter(|_| self.forbid_secrets_in_environment) {
            Some(secret) => Err(Violation::SecretVariable {
                container: container.name.clone(),
                secret: secret.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Whether a path shows something forbidden, by its name or by where its links lead now.
    fn hides(&self, path: &Path) -> bool {
        let real = real(path);
        self.forbid_host_paths.iter().any(|forbidden| {
            let meets =
                |path: &Path, forbidden: &Path| path.starts_with(forbidden) || forbidden.starts_with(path);
            meets(path, forbidden) || meets(&real, &self::real(forbidden))
        })
    }
}

/// Where a path leads: the part of it that exists, without links, and the rest.
fn real(path: &Path) -> PathBuf {
    for existing in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(existing), path.strip_prefix(existing)) {
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    path.to_owned()
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

/// The first component of a reference that has the form of a host, as runtimes read it.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DEFAULT_REGISTRY,
    }
}

fn secret_of(container: &ContainerSpec) -> Option<&str> {
    let whole = container
        .env_from
        .iter()
        .find(|from| from.object == ObjectKind::Secret)
        .map(|from| from.name.as_str());
    whole.or_else(|| {
        container.env.iter().find_map(|variable| match &variable.from {
            Some(ValueFrom::Object {
                object: ObjectKind::Secret,
                name,
                ..
            }) => Some(name.as_str()),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests;
