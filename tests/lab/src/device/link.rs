//! The device's link to the lab's bridge.

use std::path::{Path, PathBuf};

use super::Device;
use crate::Error;
use crate::network::ip;

impl Device {
    /// Takes the link away: frames vanish in both directions, connections are neither closed nor refused. Idempotent.
    ///
    /// # Errors
    /// [`Error::Command`] when `ip` fails.
    pub fn cut_link(&self) -> Result<(), Error> {
        ip(&["link", "set", &self.link(), "down"])
    }

    /// Gives the link back. Idempotent.
    ///
    /// # Errors
    /// [`Error::Command`] when `ip` fails.
    pub fn restore_link(&self) -> Result<(), Error> {
        ip(&["link", "set", &self.link(), "up"])
    }

    /// A namespace with `lo` and `eth0`, and the machine's way to the pods. Nothing is translated: the machine sees the device's address, and
    /// the device sees the machine's on the bridge.
    pub(super) fn create_link(&self) -> Result<(), Error> {
        let (namespace, link, bridge) = (self.namespace(), self.link(), self.network.bridge());
        // The kernel takes its time to remove the links of a lab that ended a moment ago; this network number is ours now.
        if Path::new("/sys/class/net").join(&link).exists() {
            ip(&["link", "del", &link])?;
        }
        ip(&["netns", "add", &namespace])?;
        ip(&[
            "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ])?;
        ip(&["link", "set", &link, "master", &bridge, "up"])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        ip(&[
            "-n",
            &namespace,
            "addr",
            "add",
            &format!("{}/24", self.address()),
            "dev",
            "eth0",
        ])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        ip(&[
            "-n",
            &namespace,
            "route",
            "add",
            "default",
            "via",
            &self.network.address().to_string(),
        ])?;
        if self.pod_subnet() == self.network.pod_subnet(self.record.number) {
            ip(&[
                "route",
                "replace",
                self.pod_subnet(),
                "via",
                &self.address().to_string(),
                "dev",
                &bridge,
            ])?;
        }
        Ok(())
    }

    /// Done by hand, because the kernel removes the interfaces of a deleted namespace some time later, and the name is wanted again.
    pub(super) fn remove_link(&self) -> Result<(), Error> {
        let link = self.link();
        if Path::new("/sys/class/net").join(&link).exists() {
            ip(&["link", "del", &link])
        } else {
            Ok(())
        }
    }

    pub(super) fn namespace_file(&self) -> PathBuf {
        Path::new("/run/netns").join(self.namespace())
    }

    fn link(&self) -> String {
        self.network.device_link(self.record.number)
    }
}
