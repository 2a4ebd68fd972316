//! A real kubelet on a device, to compare with.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose::ServerAuth;
use serde_json::json;

use super::ControlPlane;
use super::certificates::Subject;
use crate::{Device, Error, Process, Program};

/// It was Ready in 7 s on two idle cores.
const READY_LIMIT: Duration = Duration::from_secs(90);
const ZONE: &str = "zone-of-workers";
const CGROUPS: &str = "/sys/fs/cgroup";

impl ControlPlane {
    /// Starts the real kubelet on a device, on the device's containerd and below its cgroup root, and returns when its Node, called like
    /// the device, is Ready. Kubelets keep one directory in a fixed place, `/var/lib/kubelet/device-plugins`, which stays. The process is `<device>.kubelet`; it goes with the device, the Node object stays.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Deadline`] when it does not get Ready.
    pub fn start_kubelet(&self, device: &Device) -> Result<Process, Error> {
        let home = device.directory().join("kubelet");
        fs::create_dir_all(&home).map_err(Error::file(&home))?;
        create_cgroup_root(device)?;
        let node = device.name();
        let kubeconfig = home.join("kubeconfig");
        self.write_user_kubeconfig(&kubeconfig, &format!("system:node:{node}"), Some("system:nodes"))?;
        let config = home.join("config.json");
        fs::write(&config, self.kubelet_config(device, &home)?).map_err(Error::file(&config))?;
        let program = Program::new(self.binary("kubelet"))
            .flag("config", config.display())
            .flag("kubeconfig", kubeconfig.display())
            .flag("root-dir", home.join("root").display())
            .flag("cert-dir", home.join("pki").display())
            .flag("hostname-override", node)
            // Such as clusters have; pods get it from the API server.
            .flag("node-labels", format!("topology.kubernetes.io/zone={ZONE}"))
            .flag("node-ip", device.address());
        let process = device.spawn("kubelet", &program)?;
        let query = [
            "get",
            "node",
            node,
            "-o",
            "jsonpath={.status.conditions[?(@.type=='Ready')].status}",
        ];
        // Not there at first, which is an error of kubectl.
        let ready = || Ok(self.kubectl(query).is_ok_and(|output| output.stdout == "True"));
        process.until(&format!("the kubelet of {node} is Ready"), READY_LIMIT, ready)?;
        Ok(process)
    }

    fn kubelet_config(&self, device: &Device, home: &Path) -> Result<String, Error> {
        let certificates = self.certificates();
        let serving = format!("kubelet-{}", device.name());
        let subject = Subject {
            common_name: &format!("system:node:{}", device.name()),
            organization: Some("system:nodes"),
            purpose: ServerAuth,
            addresses: &[IpAddr::V4(device.address())],
        };
        certificates.open_authority("ca")?.issue(&serving, &subject)?;
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": device.containerd_endpoint(),
            "authentication": { "x509": { "clientCAFile": self.authority() }, "webhook": { "enabled": true }, "anonymous": { "enabled": false } },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": certificates.certificate(&serving),
            "tlsPrivateKeyFile": certificates.key(&serving),
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": device.cgroup_parent(),
            // Without pod cgroups there would be less work than ours does, and nothing to compare.
            "cgroupsPerQOS": true,
            "enforceNodeAllocatable": ["pods"],
            "maxPods": 250,
            "clusterDomain": "cluster.local",
            "failSwapOn": false,
            "podLogsDir": home.join("logs"),
            "volumePluginDir": home.join("plugins"),
            // A full disk of the test machine is not what is measured.
            "evictionHard": { "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%" },
            "imageGCHighThresholdPercent": 100,
        });
        Ok(config.to_string())
    }
}

/// The kubelet wants its root to exist in every hierarchy.
fn create_cgroup_root(device: &Device) -> Result<(), Error> {
    for entry in fs::read_dir(CGROUPS).map_err(Error::file(CGROUPS))? {
        let hierarchy = entry.map_err(Error::file(CGROUPS))?.path();
        // On cgroup version 2 the directories here are cgroups themselves, and the root is one level up.
        if hierarchy.join("cgroup.procs").exists() && !Path::new(CGROUPS).join("cgroup.controllers").exists()
        {
            let root = hierarchy.join(device.cgroup_parent().trim_start_matches('/'));
            fs::create_dir_all(&root).map_err(Error::file(&root))?;
            inherit_cpus(&hierarchy, &root)?;
        }
    }
    Ok(())
}

/// A new cgroup of version 1's cpuset hierarchy is empty, and no process can be put in it until it has processors and memory nodes.
fn inherit_cpus(hierarchy: &Path, root: &Path) -> Result<(), Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (hierarchy.join(name), root.join(name));
        if from.exists() {
            let all = fs::read(&from).map_err(Error::file(from))?;
            fs::write(&to, all).map_err(Error::file(to))?;
        }
    }
    Ok(())
}
