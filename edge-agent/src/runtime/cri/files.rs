//! What of the agent's files a container sees: its volumes, its `/etc/hosts`, and the place of its last words.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use edge_agent_core::step::{SandboxSpec, StartContainer};
use edge_agent_cri::v1::{Mount, MountPropagation};
use edge_protocol::PodUid;
use edge_protocol::expand::Environment;
use edge_protocol::v1::Propagation;

use super::config::{InvalidName, Settings, path_part};
use crate::runtime::names;
use crate::runtime::volumes::{MountFault, Mounted};

const ETC_HOSTS: &str = "/etc/hosts";

/// A file of a container cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesFault {
    #[error(transparent)]
    Mount(#[from] MountFault),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("{path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FilesFault {
    let path = path.to_owned();
    move |source| FilesFault::Io { path, source }
}

impl Settings {
    /// Makes what is missing of a container's files, and gives all mounts: those of volumes in their order, then ours. A volume at
    /// `/etc/hosts` takes the place of ours (`makeMounts` of `pkg/kubelet/kubelet_pods.go` and of `kuberuntime_container.go`).
    pub(super) fn mounts(
        &self,
        start: &StartContainer,
        environment: &Environment,
        runtime_can_recurse: bool,
    ) -> Result<Vec<Mount>, FilesFault> {
        let (manifest, container) = (&start.sandbox.manifest, &start.container);
        let of_volumes = self
            .volumes
            .mounts(manifest, container, environment, runtime_can_recurse)?;
        let own_hosts = !of_volumes.iter().any(|mount| mount.in_container == ETC_HOSTS);
        let mut mounts: Vec<Mount> = of_volumes.into_iter().map(described).collect();
        if own_hosts && let Some(path) = self.hosts(&start.sandbox, &start.pod_ips)? {
            mounts.push(writable(&path, ETC_HOSTS));
        }
        if let Some(message) = container
            .termination_message
            .as_ref()
            .filter(|m| !m.path.is_empty())
        {
            let path = self.last_words(&start.sandbox.uid, &container.name, start.attempt)?;
            place_for_last_words(&path)?;
            mounts.push(writable(&path, &message.path));
        }
        Ok(mounts)
    }

    /// Where a container's last words are on the device.
    pub(super) fn last_words(
        &self,
        uid: &PodUid,
        container: &str,
        attempt: u32,
    ) -> Result<PathBuf, InvalidName> {
        let directory = self.volumes.directory(uid).join("last-words");
        Ok(directory.join(path_part(container)?).join(attempt.to_string()))
    }

    /// Writes `/etc/hosts` as of now; none before the workload has an address.
    fn hosts(&self, sandbox: &SandboxSpec, pod_ips: &[IpAddr]) -> Result<Option<PathBuf>, FilesFault> {
        let workload = &sandbox.manifest.workload;
        let text = match pod_ips {
            _ if workload.namespaces.host_network => {
                let of_device = fs::read_to_string(ETC_HOSTS).map_err(failed(Path::new(ETC_HOSTS)))?;
                names::hosts_of_device(&of_device, &workload.names)
            }
            [] => return Ok(None),
            addresses => names::hosts(addresses, &sandbox.hostname, &workload.names),
        };
        let directory = self.volumes.directory(&sandbox.uid);
        fs::create_dir_all(&directory).map_err(failed(&directory))?;
        // In place: running containers see this very file.
        let path = directory.join("etc-hosts");
        write(&path, &text, 0o644)?;
        Ok(Some(path))
    }
}

/// An empty file that every user may write to; what attempts before the last one left goes.
fn place_for_last_words(path: &Path) -> Result<(), FilesFault> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let attempt = number(path).unwrap_or_default();
        for entry in fs::read_dir(directory).map_err(failed(directory))?.flatten() {
            let old = entry.path();
            if number(&old).is_some_and(|old| old.saturating_add(1) < attempt) {
                fs::remove_file(&old).map_err(failed(&old))?;
            }
        }
    }
    write(path, "", 0o666)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), FilesFault> {
    fs::write(path, text).map_err(failed(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed(path))
}

fn writable(on_device: &Path, in_container: &str) -> Mount {
    Mount {
        container_path: in_container.to_owned(),
        host_path: on_device.display().to_string(),
        ..Mount::default()
    }
}

fn described(mounted: Mounted) -> Mount {
    let Mounted {
        on_device,
        in_container,
        read_only,
        recursive_read_only,
        propagation,
    } = mounted;
    let propagation = match propagation {
        Propagation::None => MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => MountPropagation::PropagationBidirectional,
    };
    Mount {
        container_path: in_container,
        host_path: on_device.display().to_string(),
        readonly: read_only,
        recursive_read_only,
        propagation: propagation.into(),
    }
}
