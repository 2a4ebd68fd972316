//! The files of a device's containerd 1.6: its own config, the CNI network and the way to the registry.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Device;
use crate::registry::{DOCKER_HUB, IMAGES_HOST, PRIVATE_HOST};
use crate::{Error, Registry};

/// Where Debian puts the CNI plugins.
const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Paths below a device's directory.
pub struct DeviceFiles {
    home: PathBuf,
    socket: PathBuf,
    /// Of the CNI network; unique on the machine because libcni keeps results of all networks in one directory.
    network: String,
    pod_subnet: String,
}

impl DeviceFiles {
    pub fn new(device: &Device) -> Self {
        Self {
            home: device.directory().join("containerd"),
            socket: device.containerd_socket(),
            network: device.namespace(),
            pod_subnet: device.pod_subnet().to_owned(),
        }
    }

    pub fn containerd_config(&self) -> PathBuf {
        self.home.join("config.toml")
    }

    /// What a real device has on a tmpfs.
    pub fn containerd_state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// Runc's own state; as volatile as containerd's.
    pub fn runc_root(&self) -> PathBuf {
        self.containerd_state().join("runc")
    }

    /// Writes all files.
    pub fn write(&self, registry: &Registry) -> Result<(), Error> {
        let host = registry.host();
        write(&self.containerd_config(), &self.containerd(registry))?;
        write(&self.cni_directory().join("10-lab.conflist"), &self.cni())?;
        let private = registry.private_host();
        for (name, host) in [
            (host.as_str(), &host),
            (IMAGES_HOST, &host),
            (DOCKER_HUB, &host),
            (PRIVATE_HOST, &private),
        ] {
            let hosts = format!(
                "server = \"http://{host}\"\n[host.\"http://{host}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
            );
            write(&self.hosts_directory().join(name).join("hosts.toml"), &hosts)?;
        }
        Ok(())
    }

    fn cni_directory(&self) -> PathBuf {
        self.home.join("cni/net.d")
    }

    fn hosts_directory(&self) -> PathBuf {
        self.home.join("hosts.d")
    }

    fn containerd(&self, registry: &Registry) -> String {
        format!(
            r#"version = 2
root = {root}
state = {state}
# Snapshotters and loaders that nothing here uses; each costs time at start.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
# A test machine may itself be a container that cannot lower its score.
restrict_oom_score_adj = true
sandbox_image = {sandbox}
# The streaming server is reached inside the device's network namespace only.
stream_server_address = "127.0.0.1"
stream_server_port = "0"
# Not in /run/netns, which all devices share.
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {plugins}
conf_dir = {networks}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
# By default all containerds of a machine share one in /run.
Root = {runc}

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = {hosts}
"#,
            root = quoted(&self.home.join("root")),
            state = quoted(&self.containerd_state()),
            socket = quoted(&self.socket),
            sandbox = json!(registry.reference("pause", "v1")),
            plugins = quoted(Path::new(CNI_PLUGINS)),
            networks = quoted(&self.cni_directory()),
            hosts = quoted(&self.hosts_directory()),
            runc = quoted(&self.runc_root()),
        )
    }

    fn cni(&self) -> String {
        json!({
            "cniVersion": "0.4.0",
            "name": self.network,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": true,
                    // What pods begin leaves with the device's address, so that devices with the same pod subnet work too.
                    "ipMasq": true,
                    "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": self.home.join("cni/addresses"),
                        "ranges": [[{ "subnet": self.pod_subnet }]],
                        "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        })
        .to_string()
    }
}

/// A JSON string is a TOML basic string for every path without control characters.
fn quoted(path: &Path) -> String {
    json!(path.display().to_string()).to_string()
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let directory = path.parent().expect("every file here is in a directory");
    fs::create_dir_all(directory).map_err(Error::file(directory))?;
    fs::write(path, text).map_err(Error::file(path))
}
