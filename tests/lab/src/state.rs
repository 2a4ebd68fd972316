//! The state file: what exists, written before or at the moment it comes to be, so that another process can take over or clean up.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::network::Network;
use crate::process::ProcessId;
use crate::{Error, Program};

const VERSION: u32 = 1;

/// All that is known of a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub version: u32,
    /// In the environment of every process of the lab, see [`crate::sweep`].
    pub token: String,
    /// Of the machine; process ids of another boot mean nothing.
    pub boot_id: String,
    pub network: Network,
    pub processes: BTreeMap<String, ProcessRecord>,
    pub devices: BTreeMap<String, DeviceRecord>,
    pub registry: Option<SocketAddr>,
    /// The same images, for those who say who they are.
    #[serde(default)]
    pub private_registry: Option<SocketAddr>,
    pub control_plane: Option<ControlPlaneRecord>,
}

/// One process and how to start it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// `None` before it was started and after it was stopped on purpose.
    pub id: Option<ProcessId>,
    pub log: PathBuf,
    pub program: Program,
}

/// One device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its number within the lab; address and interface follow from it.
    pub number: u8,
    pub address: Ipv4Addr,
    pub pod_subnet: String,
}

/// The control plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControlPlaneRecord {
    pub server: SocketAddr,
    /// Directory with the multi-call binary and a link per component.
    pub binaries: PathBuf,
}

impl State {
    pub fn new(token: String, boot_id: String, network: Network) -> Self {
        Self {
            version: VERSION,
            token,
            boot_id,
            network,
            processes: BTreeMap::new(),
            devices: BTreeMap::new(),
            registry: None,
            private_registry: None,
            control_plane: None,
        }
    }
}

/// The file that holds the state. Every read and every change goes to the file, under a lock, so that several handles and several processes
/// agree.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn file(&self) -> PathBuf {
        self.directory.join("state.json")
    }

    pub fn exists(&self) -> bool {
        self.file().exists()
    }

    /// The state as it is now.
    pub fn load(&self) -> Result<State, Error> {
        let path = self.file();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoLab {
                    directory: self.directory.clone(),
                });
            }
            Err(error) => return Err(Error::file(path)(error)),
        };
        serde_json::from_slice(&bytes).map_err(|source| Error::State { path, source })
    }

    /// Replaces the file as a whole; a crash leaves the old or the new state.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        let path = self.file();
        let bytes = serde_json::to_vec_pretty(state).map_err(|source| Error::State {
            path: path.clone(),
            source,
        })?;
        let partial = path.with_extension("partial");
        let mut file = File::create(&partial).map_err(Error::file(&partial))?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(Error::file(&partial))?;
        std::fs::rename(&partial, &path).map_err(Error::file(path))
    }

    /// Loads, changes and saves under the lock. Nothing is saved when `change` fails.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let _lock = lock(&self.directory.join("state.lock"))?;
        let mut state = self.load()?;
        let result = change(&mut state)?;
        self.save(&state)?;
        Ok(result)
    }

    /// [`Store::update`] for a change that cannot fail.
    pub fn set(&self, change: impl FnOnce(&mut State)) -> Result<(), Error> {
        self.update(|state| {
            change(state);
            Ok(())
        })
    }
}

/// Takes an exclusive lock on a file, created if need be; dropping the result gives it back, and so does the end of the process.
pub fn lock(path: &Path) -> Result<Flock<File>, Error> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(Error::file(path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| Error::file(path)(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_change_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(directory.path());
        assert!(matches!(store.load(), Err(Error::NoLab { .. })));
        store
            .save(&State::new("token".into(), "boot".into(), Network::numbered(7)))
            .unwrap();
        let failed = store.update(|state| {
            state.token = "other".into();
            Err::<(), _>(Error::no_part("x"))
        });
        assert!(failed.is_err());
        assert_eq!(store.load().unwrap().token, "token");
        store.set(|state| state.token = "other".into()).unwrap();
        assert_eq!(store.load().unwrap().token, "other");
    }
}
