//! The baseline: a real kubelet on a device of a lab, with a containerd equal to those that agents drive.
//!
//! The kubelet's configuration is the lab's ([`lab::ControlPlane::start_kubelet`]): pod cgroups as in production, 250 pods, x509 and webhook
//! authentication. It is the same binary that the control plane is.

use std::collections::BTreeMap;

use lab::{Device, DeviceOptions, Lab, Process};

use crate::BenchError;
use crate::side::{Side, Token};

/// The image of measurements: a static server, which `args` turn into something that waits for SIGTERM.
pub const IMAGE: (&str, &str) = ("server", "v1");

/// A worker node of the lab's cluster.
#[derive(Clone, Debug)]
pub struct Baseline {
    device: Device,
    kubelet: Process,
    image: String,
}

impl Baseline {
    /// Adds a device to the lab, starts the kubelet on it, brings [`IMAGE`], and returns when its Node is Ready. The Node has the device's
    /// name and no taint, so every pod that does not ask for another may land there.
    ///
    /// # Errors
    /// [`BenchError::Lab`] names the part that failed; [`lab::Error::NoPart`] when the lab has no control plane.
    pub fn start(lab: &Lab, device: &str) -> Result<Self, BenchError> {
        let device = lab.add_device(&DeviceOptions::named(device))?;
        let image = ensure_image(lab, &device)?;
        let kubelet = lab.control_plane()?.start_kubelet(&device)?;
        Ok(Self {
            device,
            kubelet,
            image,
        })
    }

    /// The device, with its containerd.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The kubelet's process: it can be killed and started again.
    pub fn kubelet(&self) -> &Process {
        &self.kubelet
    }

    /// Name of its Node.
    pub fn node(&self) -> &str {
        self.device.name()
    }

    /// The baseline as a contender.
    pub fn side(&self, token: Token) -> Side {
        Side {
            name: "kubelet",
            node: self.node().to_owned(),
            image: self.image.clone(),
            annotations: BTreeMap::new(),
            token,
            processes: vec![self.kubelet.clone()],
        }
    }
}

/// Brings [`IMAGE`] to a device, so that no pull is part of a measurement, and returns its reference. Idempotent.
///
/// # Errors
/// [`BenchError::Lab`] when the pull fails.
pub fn ensure_image(lab: &Lab, device: &Device) -> Result<String, BenchError> {
    let image = lab.registry()?.reference(IMAGE.0, IMAGE.1);
    device.ctr(["images", "pull", "--plain-http", &image])?;
    Ok(image)
}
