//! The kernel's mounts below one directory: what is there, adding to it, and taking all of it away.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{VolumeFault, at};

/// The calling thread is what mounts.
const TABLE: &str = "/proc/thread-self/mountinfo";

/// Every mount point at or below `root`, the later mounted ones last.
///
/// # Errors
/// The kernel's table cannot be read.
pub fn below(root: &Path) -> Result<Vec<PathBuf>, VolumeFault> {
    // As bytes: a mount point may have any name.
    let table = fs::read(TABLE).map_err(at(Path::new(TABLE)))?;
    let points = table.split(|byte| *byte == b'\n').filter_map(mount_point);
    Ok(points.filter(|point| point.starts_with(root)).collect())
}

/// Whether something is mounted at exactly this path.
///
/// # Errors
/// The kernel's table cannot be read.
pub fn is_mounted(path: &Path) -> Result<bool, VolumeFault> {
    Ok(below(path)?.iter().any(|point| point == path))
}

/// Mounts a tmpfs of at most `size` bytes; none means the kernel's own bound, half of the memory. Its mode is the kernel's own, `1777`, as
/// with the kubelet (`setupTmpfs` of `pkg/volume/emptydir/empty_dir.go`).
///
/// # Errors
/// The kernel refuses.
pub fn tmpfs(path: &Path, size: Option<u64>) -> Result<(), VolumeFault> {
    let options = size.map_or(String::new(), |size| format!("size={size}"));
    let mounted = mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options.as_str()),
    );
    mounted.map_err(io::Error::from).map_err(at(path))
}

/// Shows `source` at `target` too.
///
/// # Errors
/// The kernel refuses.
pub fn bind(source: &Path, target: &Path) -> Result<(), VolumeFault> {
    let none = None::<&str>;
    let bound = mount(Some(source), target, none, MsFlags::MS_BIND, none);
    bound.map_err(io::Error::from).map_err(at(target))
}

/// Takes away what is mounted at or below `root`, whoever mounted it. What is busy is detached: it goes with its last user.
///
/// # Errors
/// Something is still mounted there. Nothing may be removed from there then: it might be somebody else's.
pub fn clear(root: &Path) -> Result<(), VolumeFault> {
    let points = below(root)?;
    // The kernel's table is long where many pods are: it is not read twice for nothing.
    if points.is_empty() {
        return Ok(());
    }
    for point in points.iter().rev() {
        detach(point)?;
    }
    match below(root)?.pop() {
        None => Ok(()),
        Some(left) => Err(VolumeFault::StillMounted { path: left }),
    }
}

/// Takes one mount away.
///
/// # Errors
/// The kernel refuses.
pub fn detach(point: &Path) -> Result<(), VolumeFault> {
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    match umount2(point, flags) {
        // It went with one that it was mounted on.
        Err(nix::Error::EINVAL | nix::Error::ENOENT) | Ok(()) => Ok(()),
        Err(error) => Err(at(point)(error.into())),
    }
}

/// The fifth field of a line of `mountinfo`, where a backslash and three octal digits stand for a byte (`proc_pid_mountinfo(5)`).
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, tail)) = rest.split_first() {
        let escaped = tail.get(..3).and_then(octal).filter(|_| *byte == b'\\');
        path.push(escaped.unwrap_or(*byte));
        rest = escaped.and_then(|_| tail.get(3..)).unwrap_or(tail);
    }
    Some(std::ffi::OsString::from_vec(path).into())
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from(r"/mnt/a b\c")));
        assert_eq!(mount_point(b""), None);
        assert!(is_mounted(Path::new("/proc")).unwrap());
        assert!(!is_mounted(Path::new("/proc/self")).unwrap());
    }
}
