//! Files that container runtimes and kubelets leave outside of a lab's directory, because they have no setting for the place.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::sweep::{Marks, below, entries};

/// Where libcni remembers results, as `<network>-<container>-<interface>`.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// Where kubelets link the logs of containers, for log collectors of old.
const CONTAINER_LOGS: &str = "/var/log/containers";

/// The files that belong to the lab or device. To be asked while the runtime's own directories are there, since those tell the names.
pub fn find(marks: &Marks) -> Result<Vec<PathBuf>, Error> {
    let homes = containerd_homes(&marks.directory);
    let mut found = shim_sockets(&homes);
    let sandboxes: BTreeSet<String> = homes.iter().flat_map(|home| sandbox_ids(home)).collect();
    for (name, path) in entries(Path::new(CNI_RESULTS))? {
        let mut parts = name.rsplitn(3, '-').skip(1);
        let (container, network) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        // The loopback's network has the same name on every device.
        if marks.namespace.fits(network) || sandboxes.contains(container) {
            found.push(path);
        }
    }
    for path in below(Path::new(CONTAINER_LOGS)) {
        if fs::read_link(&path).is_ok_and(|target| target.starts_with(&marks.directory)) {
            found.push(path);
        }
    }
    Ok(found)
}

/// A device's directory has one, a lab's one per device.
fn containerd_homes(directory: &Path) -> Vec<PathBuf> {
    let devices = directory.join("devices");
    let homes = if devices.is_dir() {
        below(&devices)
    } else {
        vec![directory.to_owned()]
    };
    homes.iter().map(|home| home.join("containerd")).collect()
}

/// The sockets of the shims are in a directory of the whole machine; each bundle tells the address of its own.
fn shim_sockets(homes: &[PathBuf]) -> Vec<PathBuf> {
    let tasks = homes
        .iter()
        .map(|home| home.join("state/io.containerd.runtime.v2.task"));
    let bundles = tasks
        .flat_map(|tasks| below(&tasks))
        .flat_map(|namespace| below(&namespace));
    bundles
        .filter_map(|bundle| fs::read_to_string(bundle.join("address")).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .collect()
}

fn sandbox_ids(home: &Path) -> Vec<String> {
    let sandboxes = below(&home.join("root/io.containerd.grpc.v1.cri/sandboxes"));
    sandboxes
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect()
}
