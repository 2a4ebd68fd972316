//! The volumes of workloads: directories and files below `<state>/pods/<uid>`, which containers see through bind mounts.
//!
//! It makes, changes and removes; when is decided elsewhere. All calls are idempotent and may block. What is from an object, a field or a
//! token is on a tmpfs and written whole (`atomic`); after a reboot the next [`Volumes::sync`] makes it again. What a `hostPath` or a
//! local volume shows is the device's own: nothing of it is ever removed.
//!
//! | below `pods/<uid>` | what |
//! |---|---|
//! | `volumes/<volume>` | its files; a tmpfs for those in memory |
//! | `ready/<volume>` | it was set up to its end |
//! | `sub-paths/<volume>/<container>/<n>` | what the container's n-th mount shows of it |

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use edge_protocol::PodUid;
use edge_protocol::v1::{
    ClaimPlugin, Manifest, Medium, ObjectKind, ProjectedSource, Reason, VolumeSource, VolumeSpec,
};

use super::sources::{SourceError, Sources};
use ownership::Ownership;

mod atomic;
mod host_path;
mod mount;
mod mounts;
mod nested;
mod ownership;
mod projected;
mod sub_path;

pub use mount::{MountFault, Mounted};

/// The place of all workloads' files. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Volumes {
    root: PathBuf,
}

/// What is wrong with a volume. The words are the kubelet's where it has some.
#[derive(Debug, thiserror::Error)]
pub enum VolumeFault {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("invalid path: {why}: {path}")]
    Path { path: String, why: &'static str },
    #[error("invalid HostPath `{path}`")]
    HostPath { path: String },
    #[error("hostPath type check failed{why}")]
    HostPathType { why: String },
    #[error("path {path:?} does not exist")]
    NoLocalPath { path: String },
    #[error("error SubPath `{path}` must not be an absolute path")]
    AbsoluteSubPath { path: String },
    #[error("unable to provision SubPath `{path}`: must not contain '..'")]
    SubPathStepsBack { path: String },
    #[error("{path} is still mounted")]
    StillMounted { path: PathBuf },
    #[error("{0:?} is no name of a volume")]
    Name(String),
    #[error("this agent cannot provide a volume of this kind")]
    Unsupported,
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// A volume that is not as its manifest says.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {fault}")]
pub struct VolumeError {
    volume: String,
    fault: VolumeFault,
}

impl VolumeError {
    /// What a workload that waits for it shows.
    pub fn reason(&self) -> Reason {
        match &self.fault {
            VolumeFault::Source(error) => error.reason(Reason::FailedMount),
            _ => Reason::FailedMount,
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> VolumeFault {
    let path = path.to_owned();
    move |error| VolumeFault::Io { path, error }
}

impl Volumes {
    /// `root` is for this alone, normally `<state>/pods`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Has every volume of the workload as its manifest says. One that cannot be had does not keep the others from it.
    ///
    /// # Errors
    /// The first volume that could not be had.
    pub fn sync(&self, sources: &Sources) -> Result<(), VolumeError> {
        let mut outcome = Ok(());
        for volume in &sources.manifest.workload.volumes {
            let synced = self.sync_one(volume, sources).map_err(|fault| VolumeError {
                volume: volume.name.clone(),
                fault,
            });
            outcome = outcome.and(synced);
        }
        outcome
    }

    /// Removes all of a workload's files and mounts. What is gone already is removed.
    ///
    /// # Errors
    /// Something is left, and nothing that it might show was touched.
    pub fn remove(&self, uid: &PodUid) -> Result<(), VolumeFault> {
        let directory = self.directory(uid);
        // Mount points are compared as the kernel has them, without links.
        let directory = match fs::canonicalize(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(at(&directory))?,
        };
        mounts::clear(&directory)?;
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&directory)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Where all files of a workload are.
    pub fn directory(&self, uid: &PodUid) -> PathBuf {
        self.root.join(uid.to_string())
    }

    fn sync_one(&self, volume: &VolumeSpec, sources: &Sources) -> Result<(), VolumeFault> {
        let VolumeSpec { name, source } = volume;
        match source {
            VolumeSource::EmptyDir {
                medium,
                size_limit_bytes,
            } => {
                let place = self.place(sources.manifest, name)?;
                let size = (*medium == Medium::Memory).then(|| memory_size(*size_limit_bytes, sources));
                place.empty(size, fs_group(sources.manifest))
            }
            VolumeSource::HostPath { path, check } => host_path::check(path, *check),
            VolumeSource::Local {
                path,
                check,
                read_only,
                plugin,
                claim: _,
            } => {
                // What a `hostPath` volume shows is never the group's (pkg/volume/local/local.go, pkg/volume/hostpath/host_path.go).
                let is_local = *plugin == ClaimPlugin::Local;
                if is_local && !Path::new(path).exists() {
                    return Err(VolumeFault::NoLocalPath { path: path.clone() });
                }
                host_path::check(path, *check)?;
                let group = fs_group(sources.manifest).filter(|_| is_local && !read_only);
                let Some(group) = group else { return Ok(()) };
                let on_root_mismatch = sources.manifest.workload.security.fs_group_on_root_mismatch;
                let group = Ownership {
                    on_root_mismatch,
                    ..group
                };
                self.place(sources.manifest, name)?.owned(Path::new(path), group)
            }
            VolumeSource::Projected {
                sources: parts,
                default_mode,
            } => {
                let payload = projected::payload(parts, *default_mode, sources)?;
                let place = self.place(sources.manifest, name)?;
                place.in_memory(Some(memory_size(None, sources)))?;
                if is_config_map(parts) {
                    open_to_all(&place.directory)?;
                }
                nested::make(name, &place.directory, &sources.manifest.workload)?;
                let group = fs_group(sources.manifest).map(|group| Ownership {
                    read_only: true,
                    ..group
                });
                atomic::write(&place.directory, &payload, |volume| {
                    group.map_or(Ok(()), |group| group.apply(volume))
                })
            }
            VolumeSource::Image { .. } | VolumeSource::Unknown => Err(VolumeFault::Unsupported),
        }
    }

    fn place(&self, manifest: &Manifest, volume: &str) -> Result<Place, VolumeFault> {
        let volume = directory_name(volume)?;
        fs::create_dir_all(&self.root).map_err(at(&self.root))?;
        // Mount points are compared as the kernel has them, without links.
        let root = fs::canonicalize(&self.root).map_err(at(&self.root))?;
        let pod = root.join(manifest.uid.to_string());
        for part in ["", "volumes", "ready"] {
            let directory = pod.join(part);
            fs::create_dir_all(&directory).map_err(at(&directory))?;
            // Whose files they are is the volumes' own business; but only root comes this way.
            let mode = fs::Permissions::from_mode(0o750);
            fs::set_permissions(&directory, mode).map_err(at(&directory))?;
        }
        Ok(Place {
            directory: pod.join("volumes").join(volume),
            ready: pod.join("ready").join(volume),
        })
    }
}

/// A DNS label, and so no way out of a directory.
fn directory_name(name: &str) -> Result<&str, VolumeFault> {
    let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=63).contains(&name.len()) && name.bytes().all(label) {
        Ok(name)
    } else {
        Err(VolumeFault::Name(name.chars().take(80).collect()))
    }
}

/// Where one volume that the agent makes is.
struct Place {
    directory: PathBuf,
    ready: PathBuf,
}

impl Place {
    /// `SetUpAt` of `pkg/volume/emptydir/empty_dir.go`: once only, then what containers did to it stands.
    fn empty(&self, size: Option<u64>, group: Option<Ownership>) -> Result<(), VolumeFault> {
        let there = match size {
            Some(_) => mounts::is_mounted(&self.directory)?,
            None => self.directory.is_dir(),
        };
        if there && self.ready.exists() {
            return Ok(());
        }
        self.ensure_directory()?;
        if size.is_some() {
            self.in_memory(size)?;
        } else {
            open_to_all(&self.directory)?;
        }
        if let Some(group) = group {
            group.apply(&self.directory)?;
        }
        fs::write(&self.ready, "").map_err(at(&self.ready))
    }

    /// Gives what the device shows to the group, once: it may be large, and containers write there.
    fn owned(&self, shown: &Path, group: Ownership) -> Result<(), VolumeFault> {
        if self.ready.exists() {
            return Ok(());
        }
        group.apply(shown)?;
        fs::write(&self.ready, "").map_err(at(&self.ready))
    }

    fn in_memory(&self, size: Option<u64>) -> Result<(), VolumeFault> {
        if mounts::is_mounted(&self.directory)? {
            return Ok(());
        }
        self.ensure_directory()?;
        mounts::tmpfs(&self.directory, size)
    }

    fn ensure_directory(&self) -> Result<(), VolumeFault> {
        fs::create_dir_all(&self.directory).map_err(at(&self.directory))
    }
}

fn open_to_all(directory: &Path) -> Result<(), VolumeFault> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).map_err(at(directory))
}

/// A volume of a config map is the one of its kind that a kubelet keeps on its disk (`wrappedVolumeSpec` of pkg/volume/configmap), and so
/// the one without the sticky bit of a tmpfs. A projection of one config map alone is taken for it.
fn is_config_map(parts: &[ProjectedSource]) -> bool {
    let is_map = |part: &ProjectedSource| {
        matches!(
            part,
            ProjectedSource::Object {
                object: ObjectKind::ConfigMap,
                ..
            }
        )
    };
    parts.len() == 1 && parts.iter().all(is_map)
}

fn fs_group(manifest: &Manifest) -> Option<Ownership> {
    let group = manifest.workload.security.fs_group?;
    Some(Ownership {
        group,
        read_only: false,
        on_root_mismatch: false,
    })
}

/// The least of what the volume, the workload and the device may take (`calculateEmptyDirMemorySize` of pkg/volume/emptydir).
fn memory_size(limit: Option<u64>, sources: &Sources) -> u64 {
    let mut size = sources.allocatable().memory_bytes;
    for bound in [sources.manifest.workload.memory_limit(), limit]
        .into_iter()
        .flatten()
    {
        if (1..=size).contains(&bound) {
            size = bound;
        }
    }
    size
}

#[cfg(test)]
mod tests;
