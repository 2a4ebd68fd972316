//! Starting, finding again and removing a whole lab.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use test_images::Catalogue;

use crate::network::{self, Network};
use crate::state::{State, Store};
use crate::{
    ControlPlane, Device, DeviceOptions, Error, LabOptions, Paths, Process, Program, Registry, control_plane,
    sweep,
};

/// A lab. The handle is cheap to clone and dropping it stops nothing.
#[derive(Clone, Debug)]
pub struct Lab {
    store: Store,
    paths: Paths,
}

impl Lab {
    /// Builds what is not built yet, starts everything and returns when all of it is ready. Control plane and devices start side by side.
    ///
    /// After an error, what was started is left as it is, so that its logs can be read; [`down`] removes it.
    ///
    /// # Errors
    /// [`Error::Taken`] when the directory holds a lab, else the first part that failed.
    pub fn start(options: LabOptions) -> Result<Self, Error> {
        let lab = Self::claim(&options.directory, options.paths)?;
        std::thread::scope(|scope| {
            let control_plane = scope.spawn(|| match options.control_plane {
                Some(wanted) => {
                    let binaries = control_plane::ensure_binaries(&lab.paths)?;
                    ControlPlane::create(&lab.store, wanted, &binaries).map(drop)
                }
                None => Ok(()),
            });
            let devices = lab.add_devices(&options.devices);
            control_plane
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            devices
        })?;
        Ok(lab)
    }

    /// Takes hold of a lab that was started before, by whatever process.
    ///
    /// # Errors
    /// [`Error::NoLab`] when there is none.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        let store = Store::in_directory(&absolute(directory.as_ref())?);
        store.load()?;
        Ok(Self {
            store,
            paths: Paths::default(),
        })
    }

    /// The directory that all of the lab is in.
    pub fn directory(&self) -> &Path {
        self.store.directory()
    }

    /// The machine's address on the lab's bridge: what devices, and the API server, dial to reach a server on the machine.
    ///
    /// # Errors
    /// [`Error::NoLab`] when it was removed.
    pub fn address(&self) -> Result<std::net::Ipv4Addr, Error> {
        Ok(self.store.load()?.network.address())
    }

    /// The control plane.
    ///
    /// # Errors
    /// [`Error::NoPart`] when the lab was started without.
    pub fn control_plane(&self) -> Result<ControlPlane, Error> {
        ControlPlane::open(&self.store)
    }

    /// The registry.
    ///
    /// # Errors
    /// [`Error::NoPart`] when the lab has no device yet.
    pub fn registry(&self) -> Result<Registry, Error> {
        Registry::open(&self.store)
    }

    /// All devices, by name.
    ///
    /// # Errors
    /// [`Error::NoLab`] when it was removed.
    pub fn devices(&self) -> Result<Vec<Device>, Error> {
        let state = self.store.load()?;
        state
            .devices
            .keys()
            .map(|name| Device::open(&self.store, &state, name))
            .collect()
    }

    /// One device.
    ///
    /// # Errors
    /// [`Error::NoPart`] when there is none of this name.
    pub fn device(&self, name: &str) -> Result<Device, Error> {
        Device::open(&self.store, &self.store.load()?, name)
    }

    /// Adds a device to the running lab and returns when it is ready; the first one brings the registry.
    ///
    /// # Errors
    /// [`Error::Name`] when the name is taken or cannot be used.
    pub fn add_device(&self, options: &DeviceOptions) -> Result<Device, Error> {
        self.add_devices(std::slice::from_ref(options))?;
        self.device(&options.name)
    }

    /// Starts a program on the machine, under a name, as a process of the lab: it outlives this process, logs to `logs/<name>.log` and ends with the lab.
    ///
    /// # Errors
    /// [`Error::Name`] while a process of this name is alive; [`Error::Command`] when it cannot be started.
    pub fn spawn(&self, name: &str, program: Program) -> Result<Process, Error> {
        Process::spawn(&self.store, name, program)
    }

    /// A process by its full name (`hub`, `kube-apiserver`, `device-1.containerd`).
    pub fn process(&self, name: &str) -> Process {
        Process::new(&self.store, name)
    }

    /// All recorded processes, by name, the dead ones too.
    ///
    /// # Errors
    /// [`Error::NoLab`] when it was removed.
    pub fn processes(&self) -> Result<Vec<Process>, Error> {
        Ok(self
            .store
            .load()?
            .processes
            .keys()
            .map(|name| Process::new(&self.store, name))
            .collect())
    }

    fn claim(directory: &Path, paths: Paths) -> Result<Self, Error> {
        fs::create_dir_all(directory.join("logs")).map_err(Error::file(directory))?;
        let store = Store::in_directory(&absolute(directory)?);
        if store.exists() {
            return Err(Error::Taken {
                directory: store.directory().to_owned(),
            });
        }
        let token = random_uuid()?;
        let network = Network::claim(store.directory(), &token)?;
        store.save(&State::new(token, machine_boot_id()?, network))?;
        network.create_bridge()?;
        Ok(Self { store, paths })
    }

    fn add_devices(&self, wanted: &[DeviceOptions]) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let registry = self.ensure_registry()?;
        let archive = self.sandbox_archive();
        let devices = wanted
            .iter()
            .map(|options| Device::register(&self.store, options))
            .collect::<Result<Vec<_>, _>>()?;
        std::thread::scope(|scope| {
            let started: Vec<_> = devices
                .iter()
                .map(|device| scope.spawn(|| device.create(&registry, &archive)))
                .collect();
            started.into_iter().try_for_each(|each| {
                each.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    /// The registry with all images, and the archive with the sandbox image.
    fn ensure_registry(&self) -> Result<Registry, Error> {
        match Registry::open(&self.store) {
            Err(Error::NoPart { .. }) => {}
            known => return known,
        }
        let images = Catalogue::build(&self.paths.workspace, &self.paths.cache).map_err(Error::Images)?;
        let registry = Registry::create(&self.store, &images)?;
        let pause = images
            .get("pause", "v1")
            .ok_or_else(|| Error::no_part("pause image"))?;
        // Imported rather than pulled: a device that was never connected since its last boot still starts sandboxes.
        test_images::archive::write(
            &self.sandbox_archive(),
            &[(pause, pause.reference(&registry.host()))],
        )
        .map_err(Error::Images)?;
        Ok(registry)
    }

    fn sandbox_archive(&self) -> PathBuf {
        self.directory().join("pause.tar")
    }
}

/// Ends every process of the lab, removes its mounts, namespaces, cgroups and interfaces, and deletes its directory. Idempotent; a directory
/// without a lab is left alone. Works after a crash at any point of [`Lab::start`], from any process, and when the directory was deleted already.
///
/// # Errors
/// [`Error::Deadline`] when a process does not end; call it again then.
pub fn down(directory: impl AsRef<Path>) -> Result<(), Error> {
    let directory = absolute(directory.as_ref())?;
    let store = Store::in_directory(&directory);
    match store.load() {
        Ok(state) => remove(&store, &state)?,
        Err(Error::NoLab { .. }) => {}
        Err(error) => return Err(error),
    }
    network::sweep_claims_of(&directory)
}

fn remove(store: &Store, state: &State) -> Result<(), Error> {
    // After a reboot of the machine the recorded pids mean nothing, and nothing of the lab is left alive.
    if state.boot_id == machine_boot_id()? {
        for name in state.processes.keys() {
            Process::new(store, name).kill()?;
        }
    }
    sweep::remove_traces(state.network, &state.token, store.directory())?;
    // The claim goes last: a claim without a directory is cleaned by the next lab, a directory without a claim by nobody.
    sweep::remove_directory(store.directory())?;
    state.network.release()
}

/// A lab for one test: [`down`] on drop.
#[derive(Debug)]
pub struct TemporaryLab {
    lab: Lab,
}

impl TemporaryLab {
    /// As [`Lab::start`], but what was started is removed when it fails.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub fn start(options: LabOptions) -> Result<Self, Error> {
        let directory = options.directory.clone();
        match Lab::start(options) {
            Ok(lab) => Ok(Self { lab }),
            Err(Error::Taken { directory }) => Err(Error::Taken { directory }),
            Err(error) => {
                remove_or_tell(&directory);
                Err(error)
            }
        }
    }
}

impl Deref for TemporaryLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for TemporaryLab {
    fn drop(&mut self) {
        remove_or_tell(self.lab.directory());
    }
}

/// A destructor has nobody to return an error to, so it is printed.
fn remove_or_tell(directory: &Path) {
    if let Err(error) = down(directory) {
        eprintln!("lab {} is not removed: {error}", directory.display());
    }
}

/// The kernel tells paths without links, so that is how the lab keeps its own. What does not exist has no links.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .map_err(Error::file(path))
}

fn machine_boot_id() -> Result<String, Error> {
    read_trimmed("/proc/sys/kernel/random/boot_id")
}

pub(crate) fn random_uuid() -> Result<String, Error> {
    read_trimmed("/proc/sys/kernel/random/uuid")
}

fn read_trimmed(path: &str) -> Result<String, Error> {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(Error::file(path))
}
