//! What must be at a path of the device before it is shown to a workload (`checkType` of `pkg/volume/hostpath/host_path.go`).

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};

use edge_protocol::v1::HostPathCheck;

use super::{VolumeFault, at};

/// Looks at the path, and makes it where that is asked for.
///
/// # Errors
/// It is something else, or not there; in the kubelet's words.
pub fn check(path: &str, check: HostPathCheck) -> Result<(), VolumeFault> {
    let place = Path::new(path);
    if !place.is_absolute() || place.components().any(|part| part == Component::ParentDir) {
        return Err(VolumeFault::HostPath {
            path: path.to_owned(),
        });
    }
    let exists = place.exists();
    match check {
        HostPathCheck::Unset => Ok(()),
        HostPathCheck::DirectoryOrCreate if !exists => {
            let mut builder = fs::DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o755)
                .create(place)
                .map_err(at(place))
        }
        HostPathCheck::FileOrCreate if !exists => {
            let mut options = fs::OpenOptions::new();
            let made = options
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(place);
            made.map(drop).map_err(at(place))
        }
        HostPathCheck::DirectoryOrCreate | HostPathCheck::Directory => {
            must_be(path, "Directory", "directory")
        }
        HostPathCheck::FileOrCreate | HostPathCheck::File => must_be(path, "File", "file"),
        HostPathCheck::Socket => must_be(path, "Socket", "socket file"),
        HostPathCheck::CharDevice => must_be(path, "CharDevice", "character device"),
        HostPathCheck::BlockDevice => must_be(path, "BlockDevice", "block device"),
    }
}

fn must_be(path: &str, kind: &'static str, words: &'static str) -> Result<(), VolumeFault> {
    let why = match fs::metadata(path) {
        Ok(meta) => match kind_of(meta.file_type()) {
            Some(found) if found == kind => return Ok(()),
            Some(found) => format!(": {path} is not a {words}, it's a {found}"),
            None => format!(
                ", {path} is not a {words}, unable to determine its type: only recognise file, directory, socket, block device and character device"
            ),
        },
        Err(_) => {
            format!(", {path} is not a {words}, unable to determine its type: path {path:?} does not exist")
        }
    };
    Err(VolumeFault::HostPathType { why })
}

fn kind_of(kind: fs::FileType) -> Option<&'static str> {
    Some(match kind {
        kind if kind.is_socket() => "Socket",
        kind if kind.is_block_device() => "BlockDevice",
        kind if kind.is_char_device() => "CharDevice",
        kind if kind.is_dir() => "Directory",
        kind if kind.is_file() => "File",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_takes_its_kind_and_names_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(place("file"), "").unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        let things = [place("file"), place("socket"), place(""), "/dev/null".to_owned()];
        for (checks, taken) in [
            ([HostPathCheck::File, HostPathCheck::FileOrCreate], 0),
            ([HostPathCheck::Socket, HostPathCheck::Socket], 1),
            ([HostPathCheck::Directory, HostPathCheck::DirectoryOrCreate], 2),
            ([HostPathCheck::CharDevice, HostPathCheck::CharDevice], 3),
        ] {
            for one in checks {
                for (index, thing) in things.iter().enumerate() {
                    assert_eq!(check(thing, one).is_ok(), index == taken, "{one:?} {thing}");
                }
            }
        }
        assert!(check("/dev/null", HostPathCheck::BlockDevice).is_err());
        assert!(check("/nowhere", HostPathCheck::Unset).is_ok());
        let error = check(&place("file"), HostPathCheck::Directory)
            .unwrap_err()
            .to_string();
        let file = place("file");
        assert_eq!(
            error,
            format!("hostPath type check failed: {file} is not a directory, it's a File")
        );
    }

    #[test]
    fn what_is_asked_for_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b").to_str().unwrap().to_owned();
        let error = check(&deep, HostPathCheck::Directory).unwrap_err();
        assert!(error.to_string().ends_with("does not exist"), "{error}");
        for _ in 0..2 {
            check(&deep, HostPathCheck::DirectoryOrCreate).unwrap();
        }
        let file = format!("{deep}/f");
        check(&file, HostPathCheck::FileOrCreate).unwrap();
        fs::write(&file, "kept").unwrap();
        check(&file, HostPathCheck::FileOrCreate).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn a_path_does_not_step_back() {
        for path in ["relative", "/a/../etc", ""] {
            assert!(check(path, HostPathCheck::Unset).is_err(), "{path}");
        }
    }
}
