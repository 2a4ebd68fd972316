//! Building `tests/control-plane/` once for all labs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::state::lock;
use crate::{Error, Paths, Program};

/// Must be the version of `k8s.io/kubernetes` in go.mod; modules do not tell it to the program by themselves.
const KUBERNETES_VERSION: (&str, &str, &str) = ("v1.37.1", "1", "37");
/// The names that the multi-call binary answers to.
const COMPONENTS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
    "always-ready-node",
];
/// Five minutes on two idle cores; a cold module cache, a busy machine and a slow disk come on top.
const BUILD_LIMIT: Duration = Duration::from_mins(45);

/// Returns a directory with one executable per component (`etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kubelet`, `kubectl`,
/// `always-ready-node`), built when the sources have not been built before. Several processes may call it: one builds, the others wait.
///
/// # Errors
/// [`Error::Command`] with the compiler's output when the build fails.
pub fn ensure_binaries(paths: &Paths) -> Result<PathBuf, Error> {
    let sources = paths.workspace.join("tests/control-plane");
    let directory = paths.cache.join(format!("control-plane-{}", digest(&sources)?));
    fs::create_dir_all(&paths.cache).map_err(Error::file(&paths.cache))?;
    let _lock = lock(&paths.cache.join("control-plane.lock"))?;
    if directory.exists() {
        return Ok(directory);
    }
    let partial = directory.with_extension("partial");
    crate::sweep::remove_directory(&partial)?;
    fs::create_dir_all(&partial).map_err(Error::file(&partial))?;
    let binary = partial.join("control-plane");
    build(&sources, &binary)?;
    for component in COMPONENTS {
        let link = partial.join(component);
        std::os::unix::fs::symlink("control-plane", &link).map_err(Error::file(link))?;
    }
    // The directory appears complete or not at all.
    fs::rename(&partial, &directory).map_err(Error::file(&directory))?;
    Ok(directory)
}

fn build(sources: &Path, binary: &Path) -> Result<(), Error> {
    let (version, major, minor) = KUBERNETES_VERSION;
    let mut flags = vec!["-s".to_owned(), "-w".to_owned()];
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)] {
            flags.push(format!("-X {package}.{name}={value}"));
        }
    }
    Program::new("nice")
        .args([
            "go",
            "build",
            "-C",
            &sources.display().to_string(),
            "-trimpath",
            "-buildvcs=false",
        ])
        .arg(format!("-ldflags={}", flags.join(" ")))
        .args(["-o", &binary.display().to_string(), "."])
        .run(BUILD_LIMIT)
        .map(drop)
}

/// Over all that the binary is made of: the module files, which pin every dependency, and our sources.
fn digest(sources: &Path) -> Result<String, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(sources).map_err(Error::file(sources))? {
        let path = entry.map_err(Error::file(sources))?.path();
        let is_source = path
            .extension()
            .is_some_and(|extension| extension == "go" || extension == "mod" || extension == "sum");
        if is_source {
            files.push(path);
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let content = fs::read(&path).map_err(Error::file(&path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        hash.update(format!("{name} {}\n", content.len()));
        hash.update(content);
    }
    hash.update(KUBERNETES_VERSION.0);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    Ok(format!("{:016x}", u64::from_be_bytes(first)))
}
