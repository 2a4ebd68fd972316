//! Finding and removing every trace of a lab by the marks that the kernel keeps, whatever the state file says.
//!
//! A process belongs to a lab when one of these holds: its environment has the lab's token (all that the lab starts, and containerd's shims, which
//! inherit it); it is in a cgroup or a network namespace of the lab (containers); its parent belongs. A pid alone is never reason enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use crate::network::{Network, ip};
use crate::process::{ProcessId, parse_stat};
use crate::{Error, leftovers, until};

/// The environment variable that marks a lab's processes.
pub const MARK: &str = "OUTRIGGER_LAB_TOKEN";
const LIMIT: Duration = Duration::from_secs(20);
const NAMESPACES: &str = "/run/netns";
const CGROUPS: &str = "/sys/fs/cgroup";
/// What to look for: a whole lab, or one device of it.
pub struct Marks {
    /// Of the whole lab only: the devices share it.
    pub token: Option<String>,
    pub namespace: Name,
    pub cgroup: Name,
    /// Mounts below it go, and processes in network namespaces that are mounted below it.
    pub directory: PathBuf,
}

/// How namespaces and cgroups are recognised.
pub enum Name {
    Prefix(String),
    Exactly(String),
}

impl Name {
    pub fn fits(&self, name: &str) -> bool {
        match self {
            Self::Prefix(prefix) => name.starts_with(prefix),
            Self::Exactly(exactly) => name == exactly,
        }
    }
}

/// Removes all of a lab but its directory and its claim. Idempotent; what is not there is no error.
pub fn remove_traces(network: Network, token: &str, directory: &Path) -> Result<(), Error> {
    let marks = Marks {
        token: Some(token.to_owned()),
        namespace: Name::Prefix(network.namespace_prefix()),
        cgroup: Name::Prefix(network.cgroup_prefix()),
        directory: directory.to_owned(),
    };
    remove(&marks)?;
    network.remove_bridge()
}

/// Kills, unmounts and deletes what bears the marks; files in the directory stay.
pub fn remove(marks: &Marks) -> Result<(), Error> {
    kill_all(marks)?;
    let leftovers = leftovers::find(marks)?;
    unmount_below(&marks.directory)?;
    leftovers.iter().try_for_each(|path| remove_file(path))?;
    for (name, _) in entries(Path::new(NAMESPACES))? {
        if marks.namespace.fits(&name) {
            ip(&["netns", "del", &name])?;
        }
    }
    for cgroup in cgroups(&marks.cgroup)? {
        until(&format!("{} is empty", cgroup.display()), LIMIT, || {
            remove_cgroup(&cgroup)
        })?;
    }
    Ok(())
}

/// Kills all that bears the marks, and what it forks meanwhile.
pub fn kill_all(marks: &Marks) -> Result<(), Error> {
    until(
        &format!("the processes of {} end", marks.directory.display()),
        LIMIT,
        || {
            let found = processes(marks)?;
            found.iter().try_for_each(|id| id.signal(Signal::SIGKILL))?;
            Ok(found.is_empty())
        },
    )
}

/// The processes that bear the marks and their descendants.
fn processes(marks: &Marks) -> Result<Vec<ProcessId>, Error> {
    let namespaces = namespace_inodes(marks)?;
    let mut found: BTreeSet<i32> = BTreeSet::new();
    for cgroup in cgroups(&marks.cgroup)? {
        collect_members(&cgroup, &mut found);
    }
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (name, path) in entries(Path::new("/proc"))? {
        let Ok(pid) = name.parse::<i32>() else { continue };
        // Whatever cannot be read below belongs to a process that has just ended.
        let Some(stat) = fs::read_to_string(path.join("stat"))
            .ok()
            .as_deref()
            .and_then(parse_stat)
        else {
            continue;
        };
        children.entry(stat.parent).or_default().push(pid);
        let marked = marks.token.as_ref().is_some_and(|token| has_token(&path, token));
        let inside = fs::metadata(path.join("ns/net")).is_ok_and(|meta| namespaces.contains(&meta.ino()));
        if marked || inside {
            found.insert(pid);
        }
    }
    let mut open: Vec<i32> = found.iter().copied().collect();
    while let Some(pid) = open.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            if found.insert(child) {
                open.push(child);
            }
        }
    }
    let me = ProcessId::mine();
    Ok(found
        .into_iter()
        .filter_map(ProcessId::of)
        .filter(|id| *id != me)
        .collect())
}

fn has_token(process: &Path, token: &str) -> bool {
    let wanted = format!("{MARK}={token}");
    fs::read(process.join("environ")).is_ok_and(|environment| {
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == wanted.as_bytes())
    })
}

/// The named network namespaces, and those that a runtime has mounted below the directory.
fn namespace_inodes(marks: &Marks) -> Result<BTreeSet<u64>, Error> {
    let mut paths: Vec<PathBuf> = entries(Path::new(NAMESPACES))?
        .into_iter()
        .filter(|(name, _)| marks.namespace.fits(name))
        .map(|(_, path)| path)
        .collect();
    paths.extend(
        mounts_below(&marks.directory)?
            .into_iter()
            .filter(|mount| mount.kind == "nsfs")
            .map(|mount| mount.point),
    );
    Ok(paths
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|meta| meta.ino())
        .collect())
}

struct Mount {
    point: PathBuf,
    kind: String,
}

/// Reads `/proc/self/mountinfo` (proc(5)), deepest and latest first.
fn mounts_below(directory: &Path) -> Result<Vec<Mount>, Error> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(Error::file(path))?;
    let mut mounts: Vec<Mount> = text
        .lines()
        .filter_map(parse_mount)
        .filter(|mount| mount.point.starts_with(directory))
        .collect();
    mounts.reverse();
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.point.components().count()));
    Ok(mounts)
}

fn parse_mount(line: &str) -> Option<Mount> {
    let point = line.split(' ').nth(4)?;
    let kind = line.split_once(" - ")?.1.split(' ').next()?;
    Some(Mount {
        point: unescape(point).into(),
        kind: kind.to_owned(),
    })
}

/// The kernel writes space, tab, newline and backslash as octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| {
            text.replace(escaped, plain)
        })
}

fn unmount_below(directory: &Path) -> Result<(), Error> {
    for mount in mounts_below(directory)? {
        match umount2(&mount.point, MntFlags::MNT_DETACH) {
            // Gone with the mount above it, or with its namespace.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(Error::file(mount.point)(errno.into())),
        }
    }
    Ok(())
}

/// The paths in a directory; none when it cannot be read.
pub fn below(directory: &Path) -> Vec<PathBuf> {
    entries(directory)
        .map(|found| found.into_iter().map(|(_, path)| path).collect())
        .unwrap_or_default()
}

/// Cgroups at the top of each hierarchy (version 1) or of the only one (version 2).
fn cgroups(wanted: &Name) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for (name, path) in entries(Path::new(CGROUPS))? {
        if wanted.fits(&name) {
            found.push(path.clone());
        }
        if path.is_dir() {
            found.extend(
                entries(&path)?
                    .into_iter()
                    .filter(|(name, _)| wanted.fits(name))
                    .map(|(_, path)| path),
            );
        }
    }
    Ok(found)
}

fn collect_members(cgroup: &Path, found: &mut BTreeSet<i32>) {
    // A cgroup that vanishes while it is read has no members.
    let members = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    found.extend(members.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in below(cgroup).iter().filter(|path| path.is_dir()) {
        collect_members(child, found);
    }
}

/// Removes a cgroup and all below it; `false` while the kernel still holds one.
fn remove_cgroup(cgroup: &Path) -> Result<bool, Error> {
    for child in below(cgroup).iter().filter(|path| path.is_dir()) {
        if !remove_cgroup(child)? {
            return Ok(false);
        }
    }
    match fs::remove_dir(cgroup) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Ok(false),
        Err(error) => Err(Error::file(cgroup)(error)),
    }
}

/// Removes a directory with all that is in it; one that is not there is no error.
pub fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(path)(error)),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(path)(error)),
        _ => Ok(()),
    }
}

/// Names and paths in a directory; none when it does not exist.
pub fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let list = match fs::read_dir(directory) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file(directory)(error)),
    };
    // An entry that cannot be read has vanished since.
    Ok(list
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let line = r"36 35 98:0 / /mnt/a\040b rw,noatime shared:1 - nsfs nsfs rw";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.point, PathBuf::from("/mnt/a b"));
        assert_eq!(mount.kind, "nsfs");
        assert!(parse_mount("nonsense").is_none());
    }

    #[test]
    fn a_prefix_fits_its_beginnings_and_a_name_only_itself() {
        assert!(Name::Prefix("orl1-".into()).fits("orl1-a"));
        assert!(!Name::Prefix("orl1-".into()).fits("orl12-a"));
        assert!(!Name::Exactly("orl1-a".into()).fits("orl1-ab"));
    }
}
