//! A volume that nobody can write to holds the mount points of those that are mounted inside it (`pkg/volume/util/nested_volumes.go`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use edge_protocol::v1::{ContainerSpec, WorkloadSpec};

use super::{VolumeFault, at};

/// Makes the outermost mount points of other volumes inside this one.
///
/// # Errors
/// A directory cannot be made.
pub fn make(volume: &str, directory: &Path, workload: &WorkloadSpec) -> Result<(), VolumeFault> {
    let inner: BTreeSet<PathBuf> = workload
        .every_container()
        .flat_map(|container| inside(volume, container))
        .collect();
    for path in inner {
        let path = directory.join(path);
        fs::create_dir_all(&path).map_err(at(&path))?;
    }
    Ok(())
}

fn inside(volume: &str, container: &ContainerSpec) -> Vec<PathBuf> {
    let all: BTreeSet<PathBuf> = container
        .mounts
        .iter()
        .filter_map(|mount| clean(&mount.mount_path))
        .collect();
    let mine = container.mounts.iter().filter(|mount| mount.volume == volume);
    let mut found = Vec::new();
    for outer in mine.filter_map(|mount| clean(&mount.mount_path)) {
        let nested = all.iter().filter_map(|path| path.strip_prefix(&outer).ok());
        let mut seen: Vec<&Path> = Vec::new();
        for path in nested.filter(|path| !path.as_os_str().is_empty()) {
            if !seen.iter().any(|earlier| path.starts_with(earlier)) {
                seen.push(path);
                found.push(path.to_owned());
            }
        }
    }
    found
}

/// Without `.` and doubled slashes; a path that steps back leads nowhere.
fn clean(path: &str) -> Option<PathBuf> {
    let path = Path::new("/").join(path);
    let steps_back = path.components().any(|part| part == Component::ParentDir);
    (!steps_back).then(|| path.components().collect())
}

#[cfg(test)]
mod tests {
    use edge_protocol::v1::{MountSpec, Propagation, RecursiveReadOnly};

    use super::*;

    #[test]
    fn only_the_outermost_mount_points_inside_are_made() {
        let mounts = [
            ("mine", "/etc/app"),
            ("b", "/etc/app/nested"),
            ("c", "/etc/app/nested/deep"),
            ("d", "/etc/app/nested-vol"),
            ("e", "/etc/application"),
            ("f", "/etc/app/../x"),
        ];
        let mounts = mounts.map(|(volume, path)| MountSpec {
            volume: volume.into(),
            mount_path: path.into(),
            sub_path: None,
            read_only: false,
            recursive_read_only: RecursiveReadOnly::default(),
            propagation: Propagation::default(),
        });
        let container = ContainerSpec {
            mounts: mounts.to_vec(),
            ..ContainerSpec::new("main", "image")
        };
        let dir = tempfile::tempdir().unwrap();
        make("mine", dir.path(), &WorkloadSpec::new("web", vec![container])).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["nested", "nested-vol"]);
        assert_eq!(fs::read_dir(dir.path().join("nested")).unwrap().count(), 0);
    }
}
