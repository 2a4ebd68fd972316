//! A path inside a volume, shown in the volume's stead. Whoever writes into the volume may turn any part of the path into a link at any
//! time, so nothing is opened twice by name: the path is resolved once without leaving the volume (`RESOLVE_BENEATH` of openat2(2) does what
//! `doSafeOpen` and `doSafeMakeDir` of `pkg/volume/util/subpath/subpath_linux.go` do step by step), and what was opened is bound.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};

use super::{VolumeFault, at, mounts};

/// Binds what is at `path` in `volume` to `target`, which is in a directory of ours, and makes it a directory if nothing is there. Finds an
/// earlier binding of the same thing; replaces one of another.
///
/// # Errors
/// [`VolumeFault`]; what it says is not for the eyes of who wrote the path.
pub fn bind(volume: &Path, path: &str, target: &Path) -> Result<(), VolumeFault> {
    // The volume itself is the device's own business: it may be reached through links.
    let volume = fs::canonicalize(volume).map_err(at(volume))?;
    let root = open(&volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let root = root.map_err(|error| at(&volume)(error.into()))?;
    let relative = relative(path)?;
    let source = match beneath(&root, &relative) {
        Err(Errno::ENOENT) => make(root, &relative, &volume),
        other => other,
    };
    let source = File::from(source.map_err(|error| at(&volume.join(&relative))(error.into()))?);
    let meta = source.metadata().map_err(at(&volume))?;
    if mounts::is_mounted(target)? {
        let there = fs::symlink_metadata(target);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (meta.dev(), meta.ino())) {
            return Ok(());
        }
        mounts::detach(target)?;
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(at(parent))?;
    }
    clear_target(target)?;
    if meta.is_dir() {
        fs::create_dir(target).map_err(at(target))?;
    } else {
        fs::write(target, "").map_err(at(target))?;
    }
    mounts::bind(
        Path::new(&format!("/proc/self/fd/{}", source.as_raw_fd())),
        target,
    )
}

/// An unmounted target may have been of the other kind before.
fn clear_target(target: &Path) -> Result<(), VolumeFault> {
    let removed = match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() => fs::remove_dir(target),
        Ok(_) => fs::remove_file(target),
        Err(_) => return Ok(()),
    };
    removed.map_err(at(target))
}

fn relative(path: &str) -> Result<PathBuf, VolumeFault> {
    let mut relative = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::Prefix(_) => {
                return Err(VolumeFault::AbsoluteSubPath {
                    path: path.to_owned(),
                });
            }
            Component::ParentDir => {
                return Err(VolumeFault::SubPathStepsBack {
                    path: path.to_owned(),
                });
            }
        }
    }
    if relative.as_os_str().is_empty() {
        relative.push(".");
    }
    Ok(relative)
}

fn beneath(root: impl AsFd, relative: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, relative, how)
}

/// Makes the directories that are missing, with the mode of the volume's root.
fn make(root: OwnedFd, relative: &Path, volume: &Path) -> nix::Result<OwnedFd> {
    let mode = fs::metadata(volume).map_or(0o750, |meta| meta.mode() & 0o7777);
    let mut at = root;
    for part in relative.iter().map(Path::new) {
        at = match beneath(&at, part) {
            Err(Errno::ENOENT) => {
                match mkdirat(&at, part, Mode::from_bits_truncate(mode)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error),
                }
                let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH);
                let made = File::from(openat2(&at, part, how)?);
                // mkdir obeys the umask.
                let changed = made.set_permissions(fs::Permissions::from_mode(mode));
                changed.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
                made.into()
            }
            other => other?,
        };
    }
    Ok(at)
}
