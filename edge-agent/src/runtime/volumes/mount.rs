//! Where a container sees its volumes (`makeMounts` of `pkg/kubelet/kubelet_pods.go`).

use std::path::{Path, PathBuf};

use edge_protocol::expand::Environment;
use edge_protocol::v1::{
    ContainerSpec, Manifest, MountSpec, Propagation, RecursiveReadOnly, SubPath, VolumeSource,
};

use super::{VolumeFault, Volumes, directory_name, sub_path};

/// One bind mount to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Mounted {
    pub on_device: PathBuf,
    pub in_container: String,
    pub read_only: bool,
    pub recursive_read_only: bool,
    pub propagation: Propagation,
}

/// A container cannot have one of its mounts. The words are the kubelet's.
#[derive(Debug, thiserror::Error)]
pub enum MountFault {
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error("missing value for {variable:?}")]
    NoVariable { variable: String },
    #[error("{0}")]
    SubPath(VolumeFault),
    /// The cause might tell of the device's files, and is logged only.
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPathFailed { volume: String, container: String },
    #[error(
        "failed to resolve recursive read-only mode: volume {volume:?} requested recursive read-only mode, but it is {why}"
    )]
    RecursiveReadOnly { volume: String, why: &'static str },
}

impl Volumes {
    /// The mounts of a container, in its order. What they show was made by [`Volumes::sync`]; of sub-paths it is made and bound here.
    ///
    /// # Errors
    /// [`MountFault`]
    pub fn mounts(
        &self,
        manifest: &Manifest,
        container: &ContainerSpec,
        environment: &Environment,
        runtime_can_recurse: bool,
    ) -> Result<Vec<Mounted>, MountFault> {
        let all = container.mounts.iter().enumerate();
        all.map(|(index, mount)| {
            let (volume, must_be_read_only) = self.shown(manifest, container, mount)?;
            let path = sub_path_of(mount, environment)?;
            let on_device = match path.filter(|path| !path.is_empty()) {
                Some(path) => self.bind(manifest, container, (index, mount), &volume, &path)?,
                None => volume,
            };
            Ok(Mounted {
                on_device,
                in_container: absolute(&mount.mount_path),
                read_only: mount.read_only || must_be_read_only,
                recursive_read_only: recurses(mount, runtime_can_recurse)?,
                propagation: mount.propagation,
            })
        })
        .collect()
    }

    /// Where a volume is on the device, and whether nobody may write to it.
    fn shown(
        &self,
        manifest: &Manifest,
        container: &ContainerSpec,
        mount: &MountSpec,
    ) -> Result<(PathBuf, bool), MountFault> {
        let missing = || MountFault::NoVolume {
            volume: mount.volume.clone(),
            container: container.name.clone(),
        };
        let mut volumes = manifest.workload.volumes.iter();
        let volume = volumes
            .find(|volume| volume.name == mount.volume)
            .ok_or_else(missing)?;
        let name = directory_name(&volume.name).map_err(|_| missing())?;
        let own = self.directory(&manifest.uid).join("volumes").join(name);
        match &volume.source {
            VolumeSource::EmptyDir { .. } => Ok((own, false)),
            VolumeSource::Projected { .. } => Ok((own, true)),
            VolumeSource::HostPath { path, .. } => Ok((path.into(), false)),
            VolumeSource::Local { path, read_only, .. } => Ok((path.into(), *read_only)),
            VolumeSource::Image { .. } | VolumeSource::Unknown => Err(missing()),
        }
    }

    fn bind(
        &self,
        manifest: &Manifest,
        container: &ContainerSpec,
        (index, mount): (usize, &MountSpec),
        volume: &Path,
        path: &str,
    ) -> Result<PathBuf, MountFault> {
        let failed = || MountFault::SubPathFailed {
            volume: mount.volume.clone(),
            container: container.name.clone(),
        };
        let (volume_name, container_name) = (directory_name(&mount.volume), directory_name(&container.name));
        let (Ok(volume_name), Ok(container_name)) = (volume_name, container_name) else {
            return Err(failed());
        };
        // Mount points are compared as the kernel has them, without links.
        let pod = std::fs::canonicalize(self.directory(&manifest.uid))
            .or_else(|_| {
                std::fs::create_dir_all(self.directory(&manifest.uid))?;
                std::fs::canonicalize(self.directory(&manifest.uid))
            })
            .map_err(|_| failed())?;
        let target = pod
            .join("sub-paths")
            .join(volume_name)
            .join(container_name)
            .join(index.to_string());
        match sub_path::bind(volume, path, &target) {
            Ok(()) => Ok(target),
            Err(fault @ (VolumeFault::AbsoluteSubPath { .. } | VolumeFault::SubPathStepsBack { .. })) => {
                Err(MountFault::SubPath(fault))
            }
            Err(fault) => {
                tracing::warn!(%fault, volume = mount.volume, "a subPath cannot be had");
                Err(failed())
            }
        }
    }
}

/// `ExpandContainerVolumeMounts` of pkg/kubelet/container/helpers.go: every variable that is referred to must be there.
fn sub_path_of(mount: &MountSpec, environment: &Environment) -> Result<Option<String>, MountFault> {
    let text = match &mount.sub_path {
        None => return Ok(None),
        Some(SubPath::Literal(text)) => return Ok(Some(text.clone())),
        Some(SubPath::Expand(text)) => text,
    };
    let missing = std::cell::RefCell::new(None);
    let path = edge_protocol::expand::expand(text, |name| {
        let value = environment.get(name);
        if value.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    });
    match missing.into_inner() {
        Some(variable) => Err(MountFault::NoVariable { variable }),
        None => Ok(Some(path)),
    }
}

/// `resolveRecursiveReadOnly`
fn recurses(mount: &MountSpec, runtime_can: bool) -> Result<bool, MountFault> {
    let refused = |why| {
        Err(MountFault::RecursiveReadOnly {
            volume: mount.volume.clone(),
            why,
        })
    };
    match mount.recursive_read_only {
        RecursiveReadOnly::Disabled => Ok(false),
        _ if !mount.read_only => refused("not read-only"),
        _ if mount.propagation != Propagation::None => refused("not compatible with its propagation"),
        RecursiveReadOnly::IfPossible => Ok(runtime_can),
        RecursiveReadOnly::Enabled if runtime_can => Ok(true),
        RecursiveReadOnly::Enabled => refused("not supported by the runtime"),
    }
}

/// The kubelet takes a relative path from the root, too.
fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}
