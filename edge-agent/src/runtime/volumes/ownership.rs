//! A volume's files belong to the workload's `fsGroup` (`pkg/volume/volume_linux.go`).

use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

use super::{VolumeFault, at};

const READ_WRITE: u32 = 0o660;
const READ: u32 = 0o440;
const SEARCH: u32 = 0o110;
const SETGID: u32 = 0o2000;

/// How a volume is given to a group.
#[derive(Debug, Clone, Copy)]
pub struct Ownership {
    pub group: u32,
    /// Nobody writes there: readable is enough.
    pub read_only: bool,
    /// Left alone when its root is right already.
    pub on_root_mismatch: bool,
}

impl Ownership {
    /// Gives the volume and everything in it to the group, the root last, so that an interrupted walk is seen at the root. A file that
    /// cannot be changed is passed over, as the kubelet does.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn apply(self, root: &Path) -> Result<(), VolumeFault> {
        if self.on_root_mismatch && self.is_right(root) {
            return Ok(());
        }
        let meta = fs::symlink_metadata(root).map_err(at(root))?;
        self.walk(root, &meta)
    }

    fn walk(self, path: &Path, meta: &Metadata) -> Result<(), VolumeFault> {
        if meta.is_dir() {
            for entry in fs::read_dir(path).map_err(at(path))? {
                let entry = entry.map_err(at(path))?.path();
                let meta = fs::symlink_metadata(&entry).map_err(at(&entry))?;
                self.walk(&entry, &meta)?;
            }
        }
        if let Err(error) = self.change(path, meta) {
            tracing::warn!(%error, path = %path.display(), "the group of a volume's file cannot be set");
        }
        Ok(())
    }

    fn change(self, path: &Path, meta: &Metadata) -> std::io::Result<()> {
        std::os::unix::fs::lchown(path, None, Some(self.group))?;
        if meta.is_symlink() {
            return Ok(());
        }
        // By descriptor: the path may have become a link to somewhere else since it was looked at.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
        let now = file.metadata()?;
        if now.is_symlink() {
            return Ok(());
        }
        let mut mode = (now.mode() & 0o7777) | if self.read_only { READ } else { READ_WRITE };
        if now.is_dir() {
            mode |= SETGID | SEARCH;
        }
        let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(handle, fs::Permissions::from_mode(mode))
    }

    /// `requiresPermissionChange`, negated.
    fn is_right(self, root: &Path) -> bool {
        let needed = SETGID | SEARCH | if self.read_only { READ } else { READ_WRITE };
        fs::metadata(root)
            .is_ok_and(|meta| meta.is_dir() && meta.gid() == self.group && meta.mode() & needed == needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        for (name, mode) in [("plain", 0o600), ("sub/tool", 0o700)] {
            fs::write(dir.path().join(name), "x").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        fs::set_permissions(dir.path().join("sub"), fs::Permissions::from_mode(0o700)).unwrap();
        dir
    }

    fn look(dir: &Path, name: &str) -> (u32, u32) {
        let meta = fs::symlink_metadata(dir.join(name)).unwrap();
        (meta.gid(), meta.mode() & 0o7777)
    }

    const WRITABLE: Ownership = Ownership {
        group: 4711,
        read_only: false,
        on_root_mismatch: false,
    };

    #[test]
    fn everything_belongs_to_the_group_and_links_lead_nobody_astray() {
        let dir = tree();
        let stranger = fs::metadata("/etc/hostname").unwrap().mode();
        WRITABLE.apply(dir.path()).unwrap();
        assert_eq!(look(dir.path(), "plain"), (4711, 0o660));
        assert_eq!(look(dir.path(), "sub"), (4711, 0o2770));
        assert_eq!(look(dir.path(), "sub/tool"), (4711, 0o760));
        assert_eq!(look(dir.path(), "link").0, 4711);
        let meta = fs::metadata("/etc/hostname").unwrap();
        assert_eq!((meta.gid(), meta.mode()), (0, stranger));
    }

    #[test]
    fn a_volume_that_nobody_writes_to_is_only_readable() {
        let dir = tree();
        let read_only = Ownership {
            read_only: true,
            ..WRITABLE
        };
        read_only.apply(dir.path()).unwrap();
        assert_eq!(look(dir.path(), "plain"), (4711, 0o640));
        assert_eq!(look(dir.path(), "sub"), (4711, 0o2750));
    }

    #[test]
    fn a_root_that_is_right_spares_the_walk() {
        let dir = tree();
        let lazy = Ownership {
            on_root_mismatch: true,
            ..WRITABLE
        };
        lazy.apply(dir.path()).unwrap();
        assert_eq!(look(dir.path(), "plain"), (4711, 0o660), "the root was wrong");
        fs::set_permissions(dir.path().join("plain"), fs::Permissions::from_mode(0o600)).unwrap();
        lazy.apply(dir.path()).unwrap();
        assert_eq!(look(dir.path(), "plain"), (4711, 0o600));
        WRITABLE.apply(dir.path()).unwrap();
        assert_eq!(look(dir.path(), "plain"), (4711, 0o660));
    }
}
