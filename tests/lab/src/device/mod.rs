//! A device: a network namespace on the lab's bridge with a containerd of its own in it.
//!
//! What a real device has to itself is separate here: network, container runtime (root, state, socket, CNI), cgroup root and boot id. Mounts, pids
//! and users are the machine's, and so are the process ids that the runtime reports.

mod config;
mod link;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::network::Network;
use crate::process::Process;
use crate::registry::Registry;
use crate::state::{DeviceRecord, State, Store};
use crate::sweep::{self, Marks, Name};
use crate::{DeviceOptions, Error, Output, PodSubnet, Program};

pub(crate) use config::DeviceFiles;

const READY_LIMIT: Duration = Duration::from_secs(30);
const COMMAND_LIMIT: Duration = Duration::from_mins(1);
/// A Unix socket's path has 107 bytes, and containerd derives a longer one (`.ttrpc`) from its own.
const MAX_SOCKET_PATH: usize = 100;

/// One device of a lab. The handle is cheap to clone and holds no resource: dropping it stops nothing.
#[derive(Clone, Debug)]
pub struct Device {
    store: Store,
    name: String,
    network: Network,
    record: DeviceRecord,
}

impl Device {
    pub(crate) fn open(store: &Store, state: &State, name: &str) -> Result<Self, Error> {
        let record = state
            .devices
            .get(name)
            .ok_or_else(|| Error::no_part(format!("device {name}")))?
            .clone();
        Ok(Self {
            store: store.clone(),
            name: name.to_owned(),
            network: state.network,
            record,
        })
    }

    /// Records a device, so that `down` knows it before any of it exists.
    pub(crate) fn register(store: &Store, options: &DeviceOptions) -> Result<Self, Error> {
        check_name(&options.name)?;
        let state = store.update(|state| {
            if state.devices.contains_key(&options.name) {
                let reason = "the lab has a device of this name";
                return Err(Error::Name {
                    name: options.name.clone(),
                    reason,
                });
            }
            let taken = |number: u8| state.devices.values().any(|device| device.number == number);
            let last = u8::try_from(crate::network::MAX_DEVICES).expect("the addresses of one subnet");
            let number = (1..=last)
                .find(|number| !taken(*number))
                .ok_or_else(|| Error::Name {
                    name: options.name.clone(),
                    reason: "the lab's subnet is full",
                })?;
            let pod_subnet = match &options.pod_subnet {
                PodSubnet::Routed => state.network.pod_subnet(number),
                PodSubnet::Private(subnet) => subnet.clone(),
            };
            let record = DeviceRecord {
                number,
                address: state.network.device_address(number),
                pod_subnet,
            };
            state.devices.insert(options.name.clone(), record);
            Ok(state.clone())
        })?;
        let device = Self::open(store, &state, &options.name)?;
        let socket = device.containerd_socket();
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            let name = socket.display().to_string();
            return Err(Error::Name {
                name,
                reason: "too long for a Unix socket; use a shorter directory",
            });
        }
        Ok(device)
    }

    /// Builds the device and returns when its containerd answers and has the sandbox image.
    pub(crate) fn create(&self, registry: &Registry, sandbox_image: &std::path::Path) -> Result<(), Error> {
        self.files().write(registry)?;
        self.renew_boot_id()?;
        self.create_link()?;
        let config = self.files().containerd_config().display().to_string();
        let containerd = Program::new("containerd").arg("--config").arg(config);
        Process::spawn(
            &self.store,
            &self.process_name("containerd"),
            containerd.in_network_namespace(&self.namespace_file()),
        )?;
        self.wait_until_ready()?;
        self.ctr(["images", "import", &sandbox_image.display().to_string()])?;
        Ok(())
    }

    /// Its name within the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the lab's bridge; host ports of its pods are reached here.
    pub fn address(&self) -> Ipv4Addr {
        self.record.address
    }

    /// The range of its pods' addresses.
    pub fn pod_subnet(&self) -> &str {
        &self.record.pod_subnet
    }

    /// A directory for whoever runs on the device; it goes with the lab. (Containerd's own is below it.)
    pub fn directory(&self) -> PathBuf {
        self.store.directory().join("devices").join(&self.name)
    }

    /// Path of containerd's socket, the same inside and outside the namespace.
    pub fn containerd_socket(&self) -> PathBuf {
        self.directory().join("containerd/containerd.sock")
    }

    /// `unix://` and [`Device::containerd_socket`], as CRI clients want it.
    pub fn containerd_endpoint(&self) -> String {
        format!("unix://{}", self.containerd_socket().display())
    }

    /// Where runc keeps the state of the containers that CRI starts. Whoever starts one by `ctr run` gives this as `--runc-root`; the default
    /// is shared by all containerds of the machine.
    pub fn runc_root(&self) -> PathBuf {
        self.files().runc_root()
    }

    /// The cgroup below which all of the device's pods belong: what an agent gives as `cgroup_parent`, or the beginning of it.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}{}", self.network.cgroup_prefix(), self.name)
    }

    /// A file as `/proc/sys/kernel/random/boot_id`; its content changes with [`Device::power_cut`].
    pub fn boot_id_file(&self) -> PathBuf {
        self.directory().join("boot_id")
    }

    /// Name of the network namespace, for `ip netns`.
    pub fn namespace(&self) -> String {
        format!("{}{}", self.network.namespace_prefix(), self.name)
    }

    /// Starts a program in the device's network namespace. It is called `<device>.<name>` in the lab, outlives this process, logs to
    /// `logs/<device>.<name>.log`, and ends with the device.
    ///
    /// # Errors
    /// [`Error::Name`] while a process of this name is alive; [`Error::Command`] when it cannot be started.
    pub fn spawn(&self, name: &str, program: &Program) -> Result<Process, Error> {
        Process::spawn(
            &self.store,
            &self.process_name(name),
            program.in_network_namespace(&self.namespace_file()),
        )
    }

    /// Runs a program to its end in the device's network namespace.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run(&self, program: &Program, limit: Duration) -> Result<Output, Error> {
        program.in_network_namespace(&self.namespace_file()).run(limit)
    }

    /// The process that was spawned here under this name (without the device's).
    pub fn process(&self, name: &str) -> Process {
        Process::new(&self.store, &self.process_name(name))
    }

    /// Containerd. Killing it leaves the shims and all containers running, as on a real machine.
    pub fn containerd(&self) -> Process {
        self.process("containerd")
    }

    /// Runs `ctr` on the device's containerd, in the namespace of the CRI plugin (`k8s.io`).
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn ctr<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Output, Error> {
        let socket = self.containerd_socket().display().to_string();
        let ctr = Program::new("ctr")
            .args(["--address", &socket, "--namespace", "k8s.io"])
            .args(arguments);
        self.run(&ctr, COMMAND_LIMIT)
    }

    /// Starts containerd when it is not alive, and returns when it answers.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Deadline`] when it does not.
    pub fn start(&self) -> Result<(), Error> {
        self.containerd().start()?;
        self.wait_until_ready()
    }

    /// Kills containerd and nothing else.
    ///
    /// # Errors
    /// As [`Process::kill`].
    pub fn stop(&self) -> Result<(), Error> {
        self.containerd().kill()
    }

    /// [`Device::stop`] and [`Device::start`].
    ///
    /// # Errors
    /// As those two.
    pub fn restart(&self) -> Result<(), Error> {
        self.stop()?;
        self.start()
    }

    /// Kills every process of the device at once, containers and agent included, drops what a reboot drops (the runtime's volatile state, the
    /// namespace's interfaces and rules) and changes the boot id. What is
    /// on its disk stays. [`Device::start`] boots it again; the agent is started by whoever spawned it.
    ///
    /// # Errors
    /// [`Error::Deadline`] when a process does not end.
    pub fn power_cut(&self) -> Result<(), Error> {
        let marks = self.marks();
        self.kill_processes(&marks)?;
        self.remove_link()?;
        sweep::remove(&marks)?;
        sweep::remove_directory(&self.files().containerd_state())?;
        self.create_link()?;
        self.renew_boot_id()
    }

    /// Removes the device: processes, mounts, namespace, cgroups and files. Idempotent.
    ///
    /// # Errors
    /// [`Error::Deadline`] when a process does not end or a cgroup does not empty.
    pub fn purge(&self) -> Result<(), Error> {
        let marks = self.marks();
        self.kill_processes(&marks)?;
        self.remove_link()?;
        sweep::remove(&marks)?;
        sweep::remove_directory(&self.directory())?;
        let prefix = self.process_name("");
        self.store.set(|state| {
            state.processes.retain(|name, _| !name.starts_with(&prefix));
            state.devices.remove(&self.name);
        })
    }

    /// Those on record too, since a spawned program may have left the namespace.
    fn kill_processes(&self, marks: &Marks) -> Result<(), Error> {
        let prefix = self.process_name("");
        for name in self
            .store
            .load()?
            .processes
            .keys()
            .filter(|name| name.starts_with(&prefix))
        {
            Process::new(&self.store, name).kill()?;
        }
        sweep::kill_all(marks)
    }

    fn wait_until_ready(&self) -> Result<(), Error> {
        let what = format!("containerd of {} answers", self.name);
        let asked = || Ok(self.containerd_socket().exists() && self.ctr(["version"]).is_ok());
        self.containerd().until(&what, READY_LIMIT, asked)
    }

    fn renew_boot_id(&self) -> Result<(), Error> {
        let path = self.boot_id_file();
        fs::write(&path, crate::start::random_uuid()?).map_err(Error::file(path))
    }

    fn process_name(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    fn files(&self) -> DeviceFiles {
        DeviceFiles::new(self)
    }

    fn marks(&self) -> Marks {
        Marks {
            token: None,
            namespace: Name::Exactly(self.namespace()),
            cgroup: Name::Exactly(self.cgroup_parent().trim_start_matches('/').to_owned()),
            directory: self.directory(),
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    if (1..=40).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(Error::Name {
        name: name.to_owned(),
        reason: "a device name has 1 to 40 of a-z, 0-9 and '-'",
    })
}
