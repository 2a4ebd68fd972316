//! The real parts: a cluster, a worker with a real kubelet, and a device with an agent, each on a containerd of its own.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bench::baseline::Baseline;
use lab::{ControlPlaneOptions, Device, Lab, LabOptions, Paths};
use site::{DeviceNodes, DeviceSpec, Programs, Site, SiteOptions};
use test_images::{Catalogue, push};

use crate::side::Side;

const WORKER: &str = "worker";
const DEVICE: &str = "edge";
/// What cases are made of.
const IMAGES: [(&str, &str); 3] = [("busybox", "v1"), ("busybox", "v2"), ("server", "v1")];

/// A running stage. What it started outlives it; `lab::down` removes all of it.
pub struct Parts {
    pub kubeconfig: PathBuf,
    pub kubelet: Side,
    /// Absent where the real kubelet is asked alone.
    pub device: Option<Side>,
}

/// What virtual-kubelet's own suite is run against.
pub struct Upstream {
    pub kubeconfig: PathBuf,
    /// The device node.
    pub node: String,
    /// Where its kubelet API answers, on [`FIGURES_PORT`].
    pub address: IpAddr,
}

/// Where the suite asks for figures, without credentials: `internal/test/e2e/framework/stats.go`.
const FIGURES_PORT: u16 = 10_250;

impl Upstream {
    /// A device whose mirror of Docker Hub has the images that the suite names. Its Node's port comes after the fleet node's.
    ///
    /// # Errors
    /// The part that failed.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        const HUB_IMAGES: [&str; 3] = ["library/foo", "library/bar", "library/baz"];
        let site = one_device(directory, Programs::default(), Some(FIGURES_PORT - 1))?;
        let registry = site.lab().registry()?;
        let paths = Paths::default();
        let images = Catalogue::build(&paths.workspace, &paths.cache)?;
        // Three containers of a pod have one network: nothing that listens.
        let image = images.get("pause", "v1").context("the pause image")?;
        for name in HUB_IMAGES {
            push(registry.address(), &image.named(name, "latest"))?;
        }
        Ok(Self {
            kubeconfig: site.cluster().kubeconfig().to_owned(),
            node: DEVICE.to_owned(),
            address: site.lab().address()?.into(),
        })
    }
}

fn one_device(directory: &Path, programs: Programs, open_figures: Option<u16>) -> anyhow::Result<Site> {
    let options = SiteOptions {
        devices: vec![DeviceSpec::new(DEVICE, &[("node", "true")])],
        device_nodes: DeviceNodes::Tagged,
        kubelet_api: open_figures.is_some(),
        open_figures,
        programs,
        ..SiteOptions::in_directory(directory)
    };
    Ok(Site::start(options)?)
}

impl Parts {
    /// Starts everything and brings the images to both nodes, so that no pull is part of a case that does not ask for one.
    ///
    /// # Errors
    /// The part that failed.
    pub fn both(directory: &Path, programs: Programs) -> anyhow::Result<Self> {
        let site = one_device(directory, programs, None)?;
        let device = site.device(DEVICE)?;
        bring_images(site.lab(), &device)?;
        Ok(Self {
            kubeconfig: site.cluster().kubeconfig().to_owned(),
            kubelet: kubelet(site.lab())?,
            device: Some(side(site.lab(), "device", &device, "agent/pods")?),
        })
    }

    /// Starts the cluster and the worker, and nothing of Outrigger.
    ///
    /// # Errors
    /// The part that failed.
    pub fn kubelet_alone(directory: &Path) -> anyhow::Result<Self> {
        let lab = Lab::start(LabOptions {
            control_plane: Some(ControlPlaneOptions::default()),
            ..LabOptions::in_directory(directory)
        })?;
        Ok(Self {
            kubelet: kubelet(&lab)?,
            kubeconfig: lab.control_plane()?.kubeconfig(),
            device: None,
        })
    }
}

fn kubelet(lab: &Lab) -> anyhow::Result<Side> {
    let baseline = Baseline::start(lab, WORKER).context("the real kubelet")?;
    bring_images(lab, baseline.device())?;
    side(lab, "kubelet", baseline.device(), "kubelet/logs")
}

fn bring_images(lab: &Lab, device: &Device) -> anyhow::Result<()> {
    for (name, tag) in IMAGES {
        let image = lab.registry()?.reference(name, tag);
        device.ctr(["images", "pull", "--plain-http", &image])?;
    }
    Ok(())
}

fn side(lab: &Lab, name: &'static str, device: &Device, logs: &str) -> anyhow::Result<Side> {
    let reference = lab.registry()?.reference("", "");
    let (registry, _) = reference
        .rsplit_once('/')
        .context("a reference without a registry")?;
    Ok(Side {
        name,
        node: device.name().to_owned(),
        host_ip: device.address().to_string(),
        logs: device.directory().join(logs),
        scratch: device.directory().join("scratch"),
        registry: format!("{registry}/"),
    })
}
