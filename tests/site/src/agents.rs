//! The agents of a site: one per device, in the device's network namespace.

use std::path::{Path, PathBuf};

use lab::{Device, Process, Program};

use crate::files::{self, quoted};
use crate::options::{DeviceSpec, ProxySpec, Scrutiny};
use crate::{HubAccess, Programs, SiteError};

pub(crate) const PROCESS: &str = "agent";

/// A name of the hub that no name server knows.
const BEHIND_THE_PROXY: &str = "hub.behind-the-proxy.test";

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
    let (endpoint, proxy) = way(spec, hub, &directory)?;
    let config = directory.join("agent.toml");
    let text = format!(
        "state_dir = {state}\n\n\
         [hub]\nendpoints = [{endpoint}]\n{proxy}\n\
         [enrolment]\ntoken_file = {token}\ndevice = {name}\n\n\
         [runtime]\nsocket = {socket}\ncgroup_root = {cgroup}\nlog_dir = {logs}\n\n\
         {EVICTION}\n\
         [local]\nboot_id_file = {boot}\n",
        state = quoted(state(device).display()),
        endpoint = quoted(endpoint),
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

/// Where the hub is, and the settings of the proxy that leads there.
fn way(spec: &DeviceSpec, hub: &HubAccess, directory: &Path) -> Result<(String, String), SiteError> {
    let Some(ProxySpec { address, credentials }) = &spec.proxy else {
        return Ok((hub.device_port.to_string(), String::new()));
    };
    let file = directory.join("proxy-credentials");
    files::write_secret(&file, credentials)?;
    let settings = format!(
        "proxy = {}\nproxy_credentials_file = {}\n",
        quoted(format_args!("http://{address}")),
        quoted(file.display()),
    );
    Ok((format!("{BEHIND_THE_PROXY}:{}", hub.device_port.port()), settings))
}
