//! A path inside a volume, shown in the volume's stead. Whoever writes into the volume may turn any part of the path into a link at any
//! time, so nothing is opened twice by name: the path is resolved once without leaving the volume (`RESOLVE_BENEATH` of openat2(2) does what
//! `doSafeOpen` and `doSafeMakeDir` of `pkg/volume/util/subpath/subpath_linux.go` do step by step), and what was opened is bound. Links that
//! name a place in the volume from the device's root are followed first, as `doBindSubPath` follows all, and where they led is opened
//! without any.

use std::fs::{self, File};
use std::io;
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
    let source = match inside(&root, &relative, &volume) {
        Err(Errno::ENOENT) => make(&root, &relative, &volume),
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

/// Opens what is at a path in a volume, through links that end in it.
fn inside(root: impl AsFd, relative: &Path, volume: &Path) -> nix::Result<OwnedFd> {
    match beneath(&root, relative, ResolveFlag::RESOLVE_NO_MAGICLINKS) {
        // Some link leaves the volume, be it to come back at once: one from the device's root, say.
        Err(Errno::EXDEV) => {
            let led = led(relative, volume)?;
            beneath(root, &led, ResolveFlag::RESOLVE_NO_SYMLINKS)
        }
        other => other,
    }
}

/// Where in the volume the links of a path lead now.
fn led(relative: &Path, volume: &Path) -> nix::Result<PathBuf> {
    let real = fs::canonicalize(volume.join(relative)).map_err(|error| errno(&error))?;
    let real = real.strip_prefix(volume).map_err(|_| Errno::EXDEV)?;
    Ok(Path::new(".").join(real))
}

fn beneath(root: impl AsFd, relative: &Path, links: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | links);
    openat2(root, relative, how)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// Makes the directories that are missing, with the mode of the volume's root.
fn make(root: impl AsFd, relative: &Path, volume: &Path) -> nix::Result<OwnedFd> {
    let mode = fs::metadata(volume).map_or(0o750, |meta| meta.mode() & 0o7777);
    let mut at = inside(&root, Path::new("."), volume)?;
    let mut path = PathBuf::new();
    for part in relative {
        path.push(part);
        at = match inside(&root, &path, volume) {
            Err(Errno::ENOENT) => {
                match mkdirat(&at, Path::new(part), Mode::from_bits_truncate(mode)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error),
                }
                let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH);
                let made = File::from(openat2(&at, Path::new(part), how)?);
                // mkdir obeys the umask.
                let changed = made.set_permissions(fs::Permissions::from_mode(mode));
                changed.map_err(|error| errno(&error))?;
                made.into()
            }
            other => other?,
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn opened(volume: &Path, path: &str) -> nix::Result<PathBuf> {
        let root = open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let found = inside(&root, Path::new(path), volume)?;
        Ok(fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).unwrap())
    }

    #[test]
    fn a_link_from_the_root_is_followed_while_it_stays_in_the_volume() {
        let ground = tempfile::tempdir().unwrap();
        let ground = fs::canonicalize(ground.path()).unwrap();
        let volume = ground.join("app");
        fs::create_dir_all(volume.join("releases/5/lib")).unwrap();
        fs::create_dir_all(ground.join("apple")).unwrap();
        symlink(volume.join("releases/5"), volume.join("current")).unwrap();
        symlink("../app/releases", volume.join("around")).unwrap();
        symlink(&volume, volume.join("itself")).unwrap();
        symlink(ground.join("apple"), volume.join("beside")).unwrap();
        symlink(volume.join(".."), volume.join("above")).unwrap();
        symlink(volume.join("gone"), volume.join("dangling")).unwrap();
        let five = volume.join("releases/5");
        assert_eq!(opened(&volume, "current"), Ok(five.clone()));
        assert_eq!(opened(&volume, "current/lib"), Ok(five.join("lib")));
        assert_eq!(opened(&volume, "around/5"), Ok(five));
        assert_eq!(opened(&volume, "itself"), Ok(volume.clone()));
        for path in ["beside", "above", "above/apple"] {
            assert_eq!(opened(&volume, path), Err(Errno::EXDEV), "{path}");
        }
        assert_eq!(opened(&volume, "dangling"), Err(Errno::ENOENT));
    }

    #[test]
    fn a_directory_that_becomes_a_link_while_it_is_opened_is_not_followed() {
        let ground = tempfile::tempdir().unwrap();
        let ground = fs::canonicalize(ground.path()).unwrap();
        let volume = ground.join("app");
        fs::create_dir_all(volume.join("releases/5")).unwrap();
        symlink(volume.join("releases/5"), volume.join("current")).unwrap();
        let led = led(Path::new("current"), &volume).unwrap();
        fs::rename(volume.join("releases"), volume.join("old")).unwrap();
        symlink("old", volume.join("releases")).unwrap();
        let root = open(&volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let found = beneath(root, &led, ResolveFlag::RESOLVE_NO_SYMLINKS);
        assert_eq!(found.unwrap_err(), Errno::ELOOP);
    }
}
