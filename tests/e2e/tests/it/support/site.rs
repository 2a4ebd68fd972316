//! A site for one test: removed when the test ends, however it ends; what a failed one said is kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use lab::{AlwaysReadyNode, ControlPlaneOptions, Paths, Times};
use serde_json::Value;
use site::options::ClusterChoice;
use site::{DeviceNodes, DeviceSpec, NamespaceRule, Scrutiny, Server, Site, SiteOptions};
use tempfile::TempDir;

use super::{Api, eventually, is_ready, name, uid};

const PREFIX: &str = "outrigger-e2e-";

/// What a test's site consists of.
pub struct TestSiteOptions {
    pub devices: Vec<DeviceSpec>,
    pub times: Times,
    pub namespaces: Vec<NamespaceRule>,
    pub device_nodes: DeviceNodes,
    /// Whether `kubectl logs` and the like are answered.
    pub kubelet_api: bool,
    /// The servers that the kubelet reaches through a fault proxy.
    pub detours: Vec<Server>,
    pub scrutiny: Scrutiny,
}

impl Default for TestSiteOptions {
    /// Three devices: the first two in hall 1, the third in hall 2.
    fn default() -> Self {
        Self {
            devices: DeviceSpec::numbered(3),
            times: Times::Normal,
            namespaces: vec![NamespaceRule::everything()],
            device_nodes: DeviceNodes::None,
            kubelet_api: false,
            detours: Vec::new(),
            scrutiny: Scrutiny::Usual,
        }
    }
}

/// A running site, its API server and what was learnt of its containers.
pub struct TestSite {
    site: Site,
    api: Api,
    pub(super) labels: RefCell<BTreeMap<String, Value>>,
    // Dropped last, after the site itself is gone from it.
    _home: Home,
}

impl TestSite {
    pub fn start() -> Self {
        Self::with(TestSiteOptions::default())
    }

    pub fn with(options: TestSiteOptions) -> Self {
        // What an earlier run of this test left says nothing of this one; mostly there is nothing.
        let _ = std::fs::remove_dir_all(failed_directory());
        let home = Home::create();
        let site = Site::start(SiteOptions {
            control_plane: ClusterChoice::Own(ControlPlaneOptions {
                times: options.times,
                always_ready_node: AlwaysReadyNode::Kept,
            }),
            devices: options.devices,
            namespaces: options.namespaces,
            device_nodes: options.device_nodes,
            kubelet_api: options.kubelet_api,
            detours: options.detours,
            scrutiny: options.scrutiny,
            ..SiteOptions::in_directory(home.site())
        });
        let site = site.unwrap_or_else(|error| panic!("the site does not start: {error}"));
        let api = Api::connect(site.cluster().kubeconfig());
        Self {
            site,
            api,
            labels: RefCell::default(),
            _home: home,
        }
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Runs kubectl and returns what it printed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.cluster().kubectl(arguments.iter().copied());
        output.unwrap_or_else(|error| panic!("{error}")).stdout
    }

    /// `kubectl apply` of an object.
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), object.to_string()).unwrap();
        self.cluster()
            .apply(file.path())
            .unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn pod(&self, name: &str) -> Option<Value> {
        self.api.get(&format!("/api/v1/namespaces/default/pods/{name}"))
    }

    /// The pods with the label `app=<app>`, those that are being deleted too.
    pub fn pods(&self, app: &str) -> Vec<Value> {
        self.api.list(&format!(
            "/api/v1/namespaces/default/pods?labelSelector=app%3D{app}"
        ))
    }

    /// The one pod of an app, once there is exactly one and it is Ready.
    #[track_caller]
    pub fn ready_pod(&self, app: &str) -> Value {
        eventually(&format!("the one pod of {app} is Ready"), || {
            let mut pods = self.pods(app);
            match pods.as_slice() {
                [pod] if is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null() => {
                    Ok(pods.remove(0))
                }
                pods => Err(format!(
                    "{:?}",
                    pods.iter()
                        .map(|pod| (name(pod), pod["status"].to_string()))
                        .collect::<Vec<_>>()
                )),
            }
        })
    }

    /// Waits until no pod of the app is left.
    #[track_caller]
    pub fn no_pod_left(&self, app: &str) {
        eventually(&format!("no pod of {app} is left"), || match self.pods(app) {
            pods if pods.is_empty() => Ok(()),
            pods => Err(format!("{pods:?}")),
        });
    }

    /// The messages of all events of this reason about an object.
    pub fn events(&self, object_uid: &str, reason: &str) -> Vec<String> {
        let events = self.told(object_uid, reason);
        let message = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
        events.iter().map(message).collect()
    }

    /// All events of this reason about an object, as a kubelet's are asked for.
    pub fn told(&self, object_uid: &str, reason: &str) -> Vec<Value> {
        let selector = format!("involvedObject.uid={object_uid},reason={reason},source=kubelet");
        self.api.list(&format!("/api/v1/events?fieldSelector={selector}"))
    }

    /// The rights of `charts/` were enough for all that the kubelet wanted to do so far.
    #[track_caller]
    pub fn nothing_was_forbidden(&self) {
        let log = std::fs::read_to_string(self.kubelet_process().log().unwrap()).unwrap();
        let refused: Vec<&str> = log.lines().filter(|line| line.contains("forbidden")).collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }

    /// Waits until the fleet node's object is there, with another UID than `before` if one is given.
    #[track_caller]
    pub fn node_object(&self, before: Option<&str>) -> Value {
        eventually("the Node is there", || {
            let node = self.api.get(&format!("/api/v1/nodes/{}", self.node()));
            node.filter(|node| Some(uid(node)) != before && is_ready(node))
                .ok_or_else(|| "no Node that is new and Ready".to_owned())
        })
    }
}

impl Deref for TestSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for TestSite {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_what_it_said();
        }
    }
}

impl TestSite {
    /// Errors here would hide the one that the test failed of, so they are only printed.
    fn keep_what_it_said(&self) {
        let kept = failed_directory();
        if let Err(error) = std::fs::create_dir_all(&kept) {
            eprintln!("cannot keep logs in {}: {error}", kept.display());
            return;
        }
        let logs = std::fs::read_dir(self.lab().directory().join("logs"));
        for log in logs.into_iter().flatten().flatten() {
            if let Err(error) = std::fs::copy(log.path(), kept.join(log.file_name())) {
                eprintln!("cannot keep {}: {error}", log.path().display());
            }
        }
        let everything = ["get", "nodes,pods,deployments,jobs,events", "-A", "-o", "yaml"];
        let cluster = self.cluster().kubectl(everything).map(|output| output.stdout);
        let cluster = cluster.unwrap_or_else(|error| error.to_string());
        let mut hub = String::new();
        for list in ["device", "deployment"] {
            hub += &self
                .try_outrigger(&[list, "ls", "-o", "yaml"])
                .unwrap_or_else(|error| error);
        }
        for (name, text) in [("cluster.yaml", cluster), ("hub.yaml", hub)] {
            if let Err(error) = std::fs::write(kept.join(name), text) {
                eprintln!("cannot keep {name}: {error}");
            }
        }
        eprintln!("logs are kept in {}", kept.display());
    }
}

/// `target/outrigger/failed/<test>`.
fn failed_directory() -> PathBuf {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed").replace("::", ".");
    Paths::default()
        .workspace
        .join("target/outrigger/failed")
        .join(test)
}

/// The directory of a site. Its name tells which process it belongs to, so that a later test removes what a killed one left.
struct Home(TempDir);

impl Home {
    fn create() -> Self {
        remove_abandoned();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        Self(tempfile::Builder::new().prefix(&prefix).tempdir().unwrap())
    }

    fn site(&self) -> PathBuf {
        self.0.path().join("site")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = lab::down(self.site()) {
            eprintln!("the site is not removed: {error}");
        }
    }
}

/// Removes sites whose test was killed before it could.
fn remove_abandoned() {
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let is_abandoned = owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if is_abandoned {
            // Several tests may come upon the same one; the first wins, and the others' errors say nothing.
            let _ = lab::down(path.join("site"));
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}
