//! A site: put together in the order an operator would.

use std::path::Path;

use lab::{Device, DeviceOptions, Lab, LabOptions, Process};
use serde::{Deserialize, Serialize};

use crate::hub::{self, HubFiles};
use crate::options::{ClusterChoice, DeviceSpec, Scrutiny, Server, SiteOptions};
use crate::{Cluster, Detour, HubAccess, Programs, SiteError, agents, detour, files, kubelet, tap};

/// A running site.
#[derive(Debug)]
pub struct Site {
    lab: Lab,
    cluster: Cluster,
    hub: HubAccess,
    programs: Programs,
    node: String,
}

/// What another process needs to take hold of a site.
#[derive(Serialize, Deserialize)]
struct Record {
    kubeconfig: std::path::PathBuf,
    hub: HubAccess,
    node: String,
    own_cluster: bool,
}

impl Site {
    /// Starts everything and returns when the node is Ready and every device is connected.
    ///
    /// After an error, what was started is left as it is, so that its logs can be read; [`lab::down`] removes it.
    ///
    /// # Errors
    /// The first part that failed, by name.
    pub fn start(options: SiteOptions) -> Result<Self, SiteError> {
        let SiteOptions {
            directory,
            control_plane,
            node,
            devices,
            namespaces,
            device_nodes,
            kubelet_api,
            open_figures,
            detours,
            scrutiny,
            programs,
        } = options;
        let lab = Lab::start(LabOptions {
            control_plane: match &control_plane {
                ClusterChoice::Own(wanted) => Some(*wanted),
                ClusterChoice::Existing { .. } => None,
            },
            devices: devices.iter().map(device_options).collect(),
            ..LabOptions::in_directory(&directory)
        })?;
        let cluster = Cluster::of(&lab, &control_plane)?;
        let hub_files = HubFiles::in_site(lab.directory());
        let mut hub = hub_files.create(&programs, &lab, scrutiny)?;
        hub.wait_until_ready(&hub::spawn(&lab, &programs, &hub_files)?)?;
        if scrutiny == Scrutiny::Full {
            hub = tap::before_rest(&lab, &programs, &hub_files, &hub)?;
        }
        let kubelet = kubelet::KubeletPlan {
            node: &node,
            namespaces: &namespaces,
            device_nodes,
            kubelet_api,
            open_figures,
            detours: &detours,
            scrutiny,
            hub: &hub,
        };
        let kubelet = kubelet.start(&lab, &cluster, &programs, &hub_files)?;
        let site = Self {
            lab,
            cluster,
            hub,
            programs,
            node,
        };
        let own_cluster = matches!(control_plane, ClusterChoice::Own(_));
        site.record(own_cluster)?;
        for spec in &devices {
            let device = site.lab.device(&spec.name)?;
            let hub = match scrutiny {
                Scrutiny::Usual => site.hub.clone(),
                Scrutiny::Full => {
                    tap::before_device(&site.lab, &device, &site.programs, &hub_files, &site.hub)?
                }
            };
            agents::start(&device, spec, &hub, &site.programs, scrutiny)?;
        }
        let names: Vec<&str> = devices.iter().map(|spec| spec.name.as_str()).collect();
        site.hub.wait_until_connected(&site.programs, &names)?;
        kubelet::wait_until_ready(&site.cluster, &kubelet, &site.node)?;
        Ok(site)
    }

    /// Takes hold of a site that was started before.
    ///
    /// # Errors
    /// [`lab::Error::NoLab`] when there is none, or it never got as far as its hub.
    pub fn open(directory: &Path, programs: Programs) -> Result<Self, SiteError> {
        let lab = Lab::open(directory)?;
        let path = lab.directory().join("site.json");
        let record: Record =
            serde_json::from_str(&files::read(&path)?).map_err(|error| SiteError::Unexpected {
                command: "reading site.json",
                problem: error.to_string(),
            })?;
        let choice = if record.own_cluster {
            ClusterChoice::Own(lab::ControlPlaneOptions::default())
        } else {
            ClusterChoice::Existing {
                kubeconfig: record.kubeconfig,
            }
        };
        Ok(Self {
            cluster: Cluster::of(&lab, &choice)?,
            lab,
            hub: record.hub,
            programs,
            node: record.node,
        })
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn hub(&self) -> &HubAccess {
        &self.hub
    }

    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The name of the fleet node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// One device.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn device(&self, name: &str) -> Result<Device, SiteError> {
        Ok(self.lab.device(name)?)
    }

    /// The proxy before one of the kubelet's servers.
    ///
    /// # Errors
    /// The site was started without it.
    pub fn detour(&self, server: Server) -> Result<Detour, SiteError> {
        detour::open(&self.lab, server)
    }

    /// Where the tap before a device's hub, or before the REST API, keeps what passed.
    pub fn tapped(&self, device: Option<&str>) -> std::path::PathBuf {
        tap::directory(&self.lab, device)
    }

    pub fn hub_process(&self) -> Process {
        self.lab.process(hub::PROCESS)
    }

    pub fn kubelet_process(&self) -> Process {
        self.lab.process(kubelet::PROCESS)
    }

    /// The agent of a device.
    ///
    /// # Errors
    /// There is no such device.
    pub fn agent_process(&self, device: &str) -> Result<Process, SiteError> {
        Ok(self.device(device)?.process(agents::PROCESS))
    }

    /// Adds a device to the running site and waits until it is connected.
    ///
    /// # Errors
    /// The part that failed.
    pub fn add_device(&self, spec: &DeviceSpec) -> Result<Device, SiteError> {
        let device = self.lab.add_device(&device_options(spec))?;
        agents::start(&device, spec, &self.hub, &self.programs, Scrutiny::Usual)?;
        self.hub.wait_until_connected(&self.programs, &[&spec.name])?;
        Ok(device)
    }

    /// The lines to source: `KUBECONFIG`, `OUTRIGGER_HUB`, `OUTRIGGER_TOKEN`, `OUTRIGGER_CA`, and a `PATH` that begins with `outrigger` and
    /// the cluster's own kubectl.
    ///
    /// # Errors
    /// The token cannot be read.
    pub fn environment(&self) -> Result<String, SiteError> {
        let token = files::read(&self.hub.token_file)?;
        let mut path = self.programs.directory().display().to_string();
        if let Some(kubectl) = self.cluster.kubectl_directory() {
            path = format!("{path}:{}", kubectl.display());
        }
        Ok(format!(
            "export KUBECONFIG={}\nexport OUTRIGGER_HUB={}\nexport OUTRIGGER_CA={}\nexport OUTRIGGER_TOKEN={}\nexport PATH={path}:$PATH\n",
            self.cluster.kubeconfig().display(),
            self.hub.url,
            self.hub.ca.display(),
            token.trim()
        ))
    }

    fn record(&self, own_cluster: bool) -> Result<(), SiteError> {
        let record = Record {
            kubeconfig: self.cluster.kubeconfig().to_owned(),
            hub: self.hub.clone(),
            node: self.node.clone(),
            own_cluster,
        };
        let text = serde_json::to_string_pretty(&record).map_err(|error| SiteError::Unexpected {
            command: "writing site.json",
            problem: error.to_string(),
        })?;
        files::write(&self.lab.directory().join("site.json"), &text)
    }
}

fn device_options(spec: &DeviceSpec) -> DeviceOptions {
    DeviceOptions {
        name: spec.name.clone(),
        pod_subnet: spec.pod_subnet.clone(),
    }
}
