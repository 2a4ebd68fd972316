//! The agents of a site: one per device, in the device's network namespace.

use std::path::PathBuf;

use lab::{Device, Process, Program};

use crate::files::{self, quoted};
use crate::options::{DeviceSpec, Scrutiny};
use crate::{HubAccess, Programs, SiteError};

pub(crate) const PROCESS: &str = "agent";

/// A full disk of the test machine is not what is tested; the real kubelet beside it has the same.
const EVICTION: &str = "[eviction]\nmemory_available_mib = 0\ndisk_available_percent = 0\nimage_disk_available_percent = 0\ninodes_free_percent = 0\n\
                        image_gc_high_percent = 100\nimage_gc_low_percent = 99\n";

fn directory(device: &Device) -> PathBuf {
    device.directory().join("agent")
}

fn state(device: &Device) -> PathBuf {
    directory(device).join("state")
}

/// Where the agent keeps the private key of its certificate.
pub(crate) fn identity_key(device: &Device) -> PathBuf {
    state(device).join("identity.key")
}

/// Writes the configuration, puts the enrolment token where it says, and starts the agent.
pub(crate) fn start(
    device: &Device,
    spec: &DeviceSpec,
    hub: &HubAccess,
    programs: &Programs,
    scrutiny: Scrutiny,
) -> Result<Process, SiteError> {
    let directory = directory(device);
    files::create_dir(&directory)?;
    let token_file = directory.join("token");
    files::write_secret(&token_file, &hub.enrolment_token(programs, spec)?)?;
    let config = directory.join("agent.toml");
    let text = format!(
        "state_dir = {state}\n\n\
         [hub]\nendpoints = [{endpoint}]\n\n\
         [enrolment]\ntoken_file = {token}\ndevice = {name}\n\n\
         [runtime]\nsocket = {socket}\ncgroup_root = {cgroup}\nlog_dir = {logs}\n\n\
         {EVICTION}\n\
         [local]\nboot_id_file = {boot}\n",
        state = quoted(state(device).display()),
        endpoint = quoted(hub.device_port),
        token = quoted(token_file.display()),
        name = quoted(&spec.name),
        socket = quoted(device.containerd_socket().display()),
        cgroup = quoted(device.cgroup_parent()),
        logs = quoted(directory.join("pods").display()),
        boot = quoted(device.boot_id_file().display()),
    );
    files::write(&config, &text)?;
    let program = Program::new(programs.agent()?)
        .args(["--log", scrutiny.log_filter(), "run", "--config"])
        .arg(config.display().to_string());
    Ok(device.spawn(PROCESS, &program)?)
}
