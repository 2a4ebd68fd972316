//! Files that change all at once: what `AtomicWriter` of `pkg/volume/util/atomic_writer.go` lays down, link by link.
//!
//! The files are in a directory of their own, `..data` is a link to it, and what a container opens are links into `..data`. A change
//! writes another directory and renames the link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use super::{VolumeFault, at};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

/// One file to be.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Whose it is; absent means the agent's own user.
    pub owner: Option<u32>,
}

/// Files by their path below the volume.
pub type Payload = BTreeMap<String, File>;

/// Lays down exactly these files; `own` is called on the volume before new ones are shown. What is there already in this form is left.
///
/// # Errors
/// A path that leads out of the volume, or the file system's refusal. What was shown before is shown still.
pub fn write(
    target: &Path,
    payload: &Payload,
    own: impl FnOnce(&Path) -> Result<(), VolumeFault>,
) -> Result<(), VolumeFault> {
    let payload = clean(payload)?;
    let data = target.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(name) => Some(name),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(at(&data)(error)),
    };
    let current = match old {
        Some(name) if is_same(&target.join(&name), &payload) => name,
        _ => publish(target, &payload, own)?,
    };
    show(target, &payload)?;
    tidy(target, &payload, &current)
}

/// Paths without `.` and doubled slashes (`validatePath`).
fn clean(payload: &Payload) -> Result<BTreeMap<PathBuf, &File>, VolumeFault> {
    let mut cleaned = BTreeMap::new();
    for (path, file) in payload {
        let invalid = |why| VolumeFault::Path {
            path: path.clone(),
            why,
        };
        if path.is_empty() {
            return Err(invalid("must not be empty"));
        }
        if path.len() > MAX_PATH {
            return Err(invalid("must be less than or equal to 4096 characters"));
        }
        let mut relative = PathBuf::new();
        for component in Path::new(path).components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) if name.len() > MAX_NAME => {
                    return Err(invalid("filenames must be less than or equal to 255 characters"));
                }
                Component::Normal(name) => relative.push(name),
                Component::ParentDir => return Err(invalid("must not contain '..'")),
                Component::RootDir | Component::Prefix(_) => return Err(invalid("must be relative path")),
            }
        }
        if relative.as_os_str().as_encoded_bytes().starts_with(b"..") {
            return Err(invalid("must not start with '..'"));
        }
        if relative.as_os_str().is_empty() {
            return Err(invalid("must name a file"));
        }
        cleaned.insert(relative, file);
    }
    Ok(cleaned)
}

/// Whether a directory holds exactly these contents. Modes do not count, as with the kubelet: they do not change while a pod lives.
fn is_same(directory: &Path, payload: &BTreeMap<PathBuf, &File>) -> bool {
    let mut there = BTreeSet::new();
    if list(directory, directory, &mut there).is_err() || there.len() != payload.len() {
        return false;
    }
    payload
        .iter()
        .all(|(path, file)| fs::read(directory.join(path)).is_ok_and(|data| data == file.data))
}

fn list(root: &Path, directory: &Path, into: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            list(root, &path, into)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            into.insert(relative.to_owned());
        }
    }
    Ok(())
}

/// Writes a new directory and lets `..data` lead to it; gives its name.
fn publish(
    target: &Path,
    payload: &BTreeMap<PathBuf, &File>,
    own: impl FnOnce(&Path) -> Result<(), VolumeFault>,
) -> Result<PathBuf, VolumeFault> {
    // `newTimestampDir`; two changes in one second are told apart by the number.
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S");
    let name = PathBuf::from(format!("{stamp}.{}", rand::random::<u32>()));
    let directory = target.join(&name);
    make_directory(&directory)?;
    for (path, file) in payload {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        fs::write(&path, &file.data).map_err(at(&path))?;
        let mode = fs::Permissions::from_mode(file.mode & 0o777);
        fs::set_permissions(&path, mode).map_err(at(&path))?;
        lchown(&path, file.owner, None).map_err(at(&path))?;
    }
    own(target)?;
    let link = target.join(NEW_DATA);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(&link)(error)),
        Ok(()) | Err(_) => {}
    }
    symlink(&name, &link).map_err(at(&link))?;
    fs::rename(&link, target.join(DATA)).map_err(at(&link))?;
    Ok(name)
}

fn make_directory(path: &Path) -> Result<(), VolumeFault> {
    fs::create_dir(path).map_err(at(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(at(path))
}

/// The links that containers open, one for each first component.
fn show(target: &Path, payload: &BTreeMap<PathBuf, &File>) -> Result<(), VolumeFault> {
    for (path, file) in payload {
        let Some(name) = path.iter().next() else { continue };
        let link = target.join(name);
        match symlink(Path::new(DATA).join(name), &link) {
            Ok(()) => lchown(&link, file.owner, None).map_err(at(&link))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at(&link)(error)),
        }
    }
    Ok(())
}

/// Removes links that lead nowhere any more, and every directory of files but the current one.
fn tidy(target: &Path, payload: &BTreeMap<PathBuf, &File>, current: &Path) -> Result<(), VolumeFault> {
    let shown = first_components(payload);
    for entry in fs::read_dir(target).map_err(at(target))? {
        let entry = entry.map_err(at(target))?;
        let (name, path) = (PathBuf::from(entry.file_name()), entry.path());
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let is_inner = name.as_os_str().as_encoded_bytes().starts_with(b"..");
        if name == Path::new(DATA) || name == current {
            continue;
        }
        if is_link && !shown.contains(&name) {
            fs::remove_file(&path).map_err(at(&path))?;
        } else if is_inner && !is_link {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

fn first_components(payload: &BTreeMap<PathBuf, &File>) -> BTreeSet<PathBuf> {
    payload
        .keys()
        .filter_map(|path| path.iter().next())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File {
            data: data.into(),
            mode: 0o640,
            owner: None,
        };
        files
            .iter()
            .map(|(path, data)| (path.to_string(), file(data)))
            .collect()
    }

    fn written(target: &Path, files: &[(&str, &str)]) {
        write(target, &payload(files), |_| Ok(())).unwrap();
    }

    fn names(target: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(target)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_links_through_data_and_change_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path();
        written(target, &[("a", "1"), ("sub/./b", "2"), ("sub/c", "3")]);
        assert_eq!(fs::read_link(target.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(
            fs::read_link(target.join("sub")).unwrap(),
            Path::new("..data/sub")
        );
        assert_eq!(fs::read_to_string(target.join("sub/b")).unwrap(), "2");
        let mode = fs::metadata(target.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let first = fs::read_link(target.join(DATA)).unwrap();

        // The same again changes nothing.
        write(
            target,
            &payload(&[("a", "1"), ("sub/b", "2"), ("sub/c", "3")]),
            |_| panic!("nothing is new"),
        )
        .unwrap();
        assert_eq!(fs::read_link(target.join(DATA)).unwrap(), first);

        written(target, &[("a", "one"), ("d", "4")]);
        let second = fs::read_link(target.join(DATA)).unwrap();
        assert_ne!(first, second);
        // `..2006_01_02_15_04_05.` and a number, as programs that look for the newest one expect.
        let name = second.to_str().unwrap();
        let shape: String = name
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert!(shape.starts_with("..0000_00_00_00_00_00.0"), "{name}");
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "one");
        assert_eq!(names(target), [second.to_str().unwrap(), "..data", "a", "d"]);
    }

    #[test]
    fn a_file_less_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), &[("a", "1"), ("sub/b", "2")]);
        written(dir.path(), &[("a", "1")]);
        assert!(!dir.path().join("sub").exists() && !dir.path().join("..data/sub").exists());
        written(dir.path(), &[]);
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn what_a_crash_left_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let failed = write(dir.path(), &payload(&[("a", "1")]), |_| {
            Err(at(Path::new("x"))(ErrorKind::Other.into()))
        });
        assert!(failed.is_err() && !dir.path().join("a").exists());
        symlink("..nowhere", dir.path().join(NEW_DATA)).unwrap();
        written(dir.path(), &[("a", "1")]);
        assert_eq!(names(dir.path()).len(), 3, "{:?}", names(dir.path()));
    }

    #[test]
    fn no_path_leads_out() {
        let long = "x".repeat(256);
        for path in ["", "/a", "../a", "a/../../b", "..data", "..", ".", long.as_str()] {
            let dir = tempfile::tempdir().unwrap();
            let error = write(dir.path(), &payload(&[(path, "x")]), |_| Ok(())).unwrap_err();
            assert!(error.to_string().starts_with("invalid path: "), "{path}: {error}");
            assert!(names(dir.path()).is_empty());
        }
    }
}
