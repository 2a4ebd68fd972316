//! A whole Outrigger with one device, as a contender.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use lab::{Device, Lab, Process};
use site::{DeviceNodes, DeviceSpec, Programs, Site, SiteOptions};

use crate::BenchError;
use crate::baseline::ensure_image;
use crate::side::{Side, Token};

const DEVICE: &str = "edge";
/// As many as the baseline's kubelet may have.
const MAX_PODS: u32 = 250;
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Which Node the pods of a measurement go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum On {
    /// The one that stands for the fleet; a condition chooses the device.
    #[default]
    Fleet,
    /// The device's own.
    Device,
}

/// Control plane, hub, kubelet and one device with an agent.
#[derive(Debug)]
pub struct Ours {
    site: Site,
    device: Device,
    image: String,
    on: On,
}

impl Ours {
    /// Starts all of it and brings the image that pods are made of.
    ///
    /// # Errors
    /// [`BenchError::Site`] names the part that failed.
    pub fn start(directory: PathBuf, programs: Programs, on: On) -> Result<Self, BenchError> {
        let (tags, device_nodes) = match on {
            On::Fleet => (&[][..], DeviceNodes::None),
            On::Device => (&[("node", "true")][..], DeviceNodes::Tagged),
        };
        let site = Site::start(SiteOptions {
            devices: vec![DeviceSpec::new(DEVICE, tags)],
            device_nodes,
            // As a kubelet has it.
            kubelet_api: true,
            programs,
            ..SiteOptions::in_directory(directory)
        })?;
        let device = site.device(DEVICE)?;
        let image = ensure_image(site.lab(), &device)?;
        let ours = Self {
            site,
            device,
            image,
            on,
        };
        ours.allow_pods()?;
        Ok(ours)
    }

    pub fn lab(&self) -> &Lab {
        self.site.lab()
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn agent(&self) -> Process {
        self.device.process("agent")
    }

    /// The one port that the agent dials.
    pub fn device_port(&self) -> std::net::SocketAddr {
        self.site.hub().device_port
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.site.cluster().kubeconfig().to_owned()
    }

    /// Outrigger as a contender: one device, chosen by condition or by its Node.
    pub fn side(&self, token: Token) -> Side {
        let condition = || {
            (
                "outrigger.io/target-condition".to_owned(),
                format!("deviceId = '{DEVICE}'"),
            )
        };
        let (node, annotations) = match self.on {
            On::Fleet => (self.site.node(), BTreeMap::from([condition()])),
            On::Device => (DEVICE, BTreeMap::new()),
        };
        Side {
            name: "outrigger",
            node: node.to_owned(),
            image: self.image.clone(),
            annotations,
            token,
            processes: vec![self.site.hub_process(), self.site.kubelet_process(), self.agent()],
        }
    }

    /// Ends the agent and returns when it is gone.
    ///
    /// # Errors
    /// [`BenchError::Lab`] when it does not end.
    pub fn stop_agent(&self) -> Result<(), BenchError> {
        Ok(self.agent().terminate(STOP_LIMIT)?)
    }

    /// Starts the agent and returns when its hub says that it is connected.
    ///
    /// # Errors
    /// [`BenchError::Site`] when it does not come.
    pub fn start_agent(&self) -> Result<(), BenchError> {
        self.agent().start()?;
        Ok(self
            .site
            .hub()
            .wait_until_connected(self.site.programs(), &[DEVICE])?)
    }

    /// Ends the hub, starts it, and returns when the agent is connected again.
    ///
    /// # Errors
    /// [`BenchError::Lab`] when it does not end or start, [`BenchError::Site`] when the agent does not come back.
    pub fn restart_hub(&self) -> Result<(), BenchError> {
        let (hub, process) = (self.site.hub(), self.site.hub_process());
        process.terminate(STOP_LIMIT)?;
        process.start()?;
        hub.wait_until_ready(&process)?;
        Ok(hub.wait_until_connected(self.site.programs(), &[DEVICE])?)
    }

    /// Assigns the class of the device's link; it holds from the agent's next connection on.
    ///
    /// # Errors
    /// [`BenchError::Site`] or [`BenchError::Lab`] when the command fails.
    pub fn set_link(&self, class: &str) -> Result<(), BenchError> {
        let cli = self.site.hub().cli(self.site.programs())?;
        cli.args(["device", "link", DEVICE, class]).run(STOP_LIMIT)?;
        Ok(())
    }

    /// The table `[local]` is the last of the file that the site writes.
    fn allow_pods(&self) -> Result<(), BenchError> {
        let path = self.device.directory().join("agent/agent.toml");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(BenchError::file(&path))?;
        writeln!(file, "max_pods = {MAX_PODS}").map_err(BenchError::file(&path))?;
        self.stop_agent()?;
        self.start_agent()
    }
}
