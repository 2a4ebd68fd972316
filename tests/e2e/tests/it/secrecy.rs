//! A secret is in clear where a container gets it, and nowhere else: not at the hub, not on the wire, not on a disk, in no log, event or answer.
//!
//! Every place is first shown to be searched well: what is no secret is found there, or was put there to be found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use search::{Finding, Marker, Search};
use serde_json::{Value, json};
use site::{DeviceNodes, DeviceSpec, Scrutiny};

use crate::support::{Instance, TestSite, TestSiteOptions, busybox, eventually, pod, uid};

/// Long enough to be looked for. A Node of its own, and one of the fleet.
const DEVICE: &str = "press-31415926";
const OF_FLEET: &str = "conveyor-57721566";
const DEVICES: [&str; 2] = [DEVICE, OF_FLEET];
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Of a config map, which may be anywhere; with what is escaped in JSON.
const OPEN: &str = "herring \"0815\" <plain> & simple";
/// Printed by the container and written by it to its own disk: in the places where the device keeps what containers leave.
const LEFT: &str = "left-by-the-container-3141";
/// The pods' names, which all programs speak of; the second is for the fleet.
const NAME: &str = "keeper-of-many-things-2718";
const SHOAL: &str = "shoal-of-many-things-1618";

/// How a secret reaches a pod, and its value before and after a change.
struct Way {
    name: &'static str,
    values: [&'static str; 2],
}

const WAYS: [Way; 5] = [
    Way {
        name: "env",
        values: ["swordfish-\"4711\"-mellow", "stickleback-\\1174\\-merry"],
    },
    Way {
        name: "env-from",
        values: ["<flounder>-1213-&-murky", "lumpsucker-8128-gloomy"],
    },
    Way {
        name: "volume",
        values: ["monkfish-\"2357\"-quiet", "wolffish-<6174>-loud"],
    },
    Way {
        name: "projected",
        values: ["barracuda-9973-sullen", "anglerfish-1729-bright"],
    },
    Way {
        name: "pull",
        values: ["hagfish-6561-slippery", "hagfish-6561-slippery"],
    },
];

/// Variables are in the runtime's own store, as on any node.
fn is_variable(marker: &str) -> bool {
    marker.starts_with("env")
}

fn site() -> TestSite {
    TestSite::with(TestSiteOptions {
        devices: vec![
            DeviceSpec::new(DEVICE, &[("node", "true")]),
            DeviceSpec::new(OF_FLEET, &[]),
        ],
        device_nodes: DeviceNodes::Tagged,
        scrutiny: Scrutiny::Full,
        ..TestSiteOptions::default()
    })
}

fn secret(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
}

/// The values of all ways, as they are at first or after the change.
fn secrets(change: usize) -> Vec<Value> {
    WAYS.iter()
        .map(|way| match (way.name, way.values[change]) {
            ("pull", password) => {
                let login = json!({"username": "me", "password": password});
                let config = json!({"auths": {"images.outrigger.local": login}});
                let mut secret = secret("pull", &json!({".dockerconfigjson": config.to_string()}));
                secret["type"] = json!("kubernetes.io/dockerconfigjson");
                secret
            }
            (name, value) => secret(name, &json!({"VALUE": value})),
        })
        .collect()
}

fn settings() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"OPEN": OPEN}})
}

/// Every way that a secret reaches a running container; what it leaves behind itself is no secret.
fn keeper(name: &str, node: &str) -> Value {
    let script = format!("echo {LEFT}; echo {LEFT} > /scratch/left; echo {LEFT} > /left; sleep 3600");
    let mut main = busybox("main", &script);
    main["env"] = json!([
        {"name": "PIN", "valueFrom": {"secretKeyRef": {"name": "env", "key": "VALUE"}}},
        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "OPEN"}}},
    ]);
    main["envFrom"] = json!([{"prefix": "FROM_", "secretRef": {"name": "env-from"}}]);
    main["volumeMounts"] = json!([
        {"name": "key", "mountPath": "/etc/key"},
        {"name": "key", "mountPath": "/etc/sub", "subPath": "VALUE"},
        {"name": "all", "mountPath": "/etc/all"},
        {"name": "settings", "mountPath": "/etc/settings"},
        {"name": "scratch", "mountPath": "/scratch"},
    ]);
    let mut pod = pod(name, &[], &[main]);
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod["spec"]["volumes"] = json!([
        {"name": "key", "secret": {"secretName": "volume"}},
        {"name": "all", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "scratch", "emptyDir": {}},
    ]);
    pod
}

/// With a pull credential.
fn puller() -> Value {
    let mut pod = pod("puller", &[], &[busybox("main", "sleep 3600")]);
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": DEVICE});
    pod["spec"]["imagePullSecrets"] = json!([{"name": "pull"}]);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod
}

/// Both values of every way, the token, and what is no secret.
fn markers(token: &str) -> Vec<Marker> {
    let ways = WAYS
        .iter()
        .flat_map(|way| way.values.map(|value| Marker::new(way.name, value)));
    // Its signature: what comes before is not random enough.
    let token = Marker::new("token", token.rsplit('.').next().unwrap());
    let open = [
        ("open", OPEN),
        ("left", LEFT),
        ("name", NAME),
        (DEVICE, DEVICE),
        (OF_FLEET, OF_FLEET),
    ];
    let open = open.map(|(name, text)| Marker::new(name, text));
    ways.chain([token]).chain(open).collect()
}

fn is_secret(marker: &str) -> bool {
    marker == "token" || WAYS.iter().any(|way| way.name == marker)
}

/// A place where no secret may be, and what else is there to be found.
struct Place<'a> {
    what: &'static str,
    /// A name of [`markers`].
    control: &'static str,
    found: BTreeSet<Finding>,
    excepted: &'a dyn Fn(&str) -> bool,
}

impl Place<'_> {
    #[track_caller]
    fn check(&self) {
        let marks: BTreeSet<&str> = self.found.iter().map(|found| found.marker.as_str()).collect();
        eprintln!("{}: {} places with {marks:?}", self.what, self.found.len());
        let controls = self.found.iter().filter(|found| found.marker == self.control);
        assert_ne!(
            controls.count(),
            0,
            "{}: the search does not find {}",
            self.what,
            self.control
        );
        let leaks: Vec<String> = self
            .found
            .iter()
            .filter(|found| is_secret(&found.marker) && !(self.excepted)(&found.marker))
            .map(ToString::to_string)
            .collect();
        assert!(leaks.is_empty(), "{}: {leaks:#?}", self.what);
    }
}

/// Looks through one place after the other.
struct Inspector<'a> {
    site: &'a TestSite,
    search: Search,
}

/// A place without exceptions.
#[track_caller]
fn check(what: &'static str, control: &'static str, found: BTreeSet<Finding>) {
    let excepted = &|_: &str| false;
    Place {
        what,
        control,
        found,
        excepted,
    }
    .check();
}

impl Inspector<'_> {
    fn tree(&self, directory: &Path, skip: &dyn Fn(&Path) -> bool) -> BTreeSet<Finding> {
        self.search.tree(directory, skip).unwrap()
    }

    fn all(&self, directory: &Path) -> BTreeSet<Finding> {
        self.tree(directory, &|_| false)
    }

    /// The files of a stream whose names have this protocol.
    fn stream(&self, device: Option<&str>, protocol: &str) -> BTreeSet<Finding> {
        let of_protocol = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.is_file() && !name.contains(protocol)
        };
        self.tree(&self.site.tapped(device), &of_protocol)
    }

    fn log(&self, name: &str) -> BTreeSet<Finding> {
        let log = self.site.lab().directory().join(format!("logs/{name}.log"));
        assert!(log.is_file(), "{}", log.display());
        self.search.file(&log).unwrap()
    }

    fn json(&self, what: &str, values: &[Value]) -> BTreeSet<Finding> {
        let texts = values.iter().map(Value::to_string);
        texts
            .flat_map(|text| self.search.bytes(what, text.as_bytes()))
            .collect()
    }

    /// The hub's store and what it says of it.
    fn hub(&self) {
        let state = self.site.lab().directory().join("hub/state");
        check("the hub's files", "open", self.all(&state));
        let cells = self.search.database(&state.join("hub.db")).unwrap();
        check("the hub's database", "open", cells);
        check(
            "REST, as the kubelet and people speak it",
            "open",
            self.stream(None, ""),
        );
        let events = self.site.listed(&["event"]);
        check("the hub's events", "name", self.json("events", &events));
        let audit = self.site.listed(&["audit"]);
        assert!(
            self.json("audit", &audit)
                .iter()
                .all(|found| !is_secret(&found.marker))
        );
    }

    fn device(&self, device: &str) {
        check("MQTT", "open", self.stream(Some(device), "mqtt"));
        let home = self.site.device(device).unwrap().directory();
        let state = home.join("agent/state");
        check("the agent's files", "open", self.all(&state));
        let cells = self.search.database(&state.join("agent.db")).unwrap();
        check("the agent's database", "open", cells);
        let runtime = home.join("containerd");
        let others = self.tree(&home, &|path: &Path| path == runtime || path == state);
        check("the rest of the device's disk", "left", others);
        let found = self.all(&runtime);
        assert!(
            found.iter().any(|found| found.marker == "env"),
            "variables are in the runtime's store; if they are not, say so in the docs"
        );
        Place {
            what: "the runtime's store",
            control: "open",
            found,
            excepted: &is_variable,
        }
        .check();
    }

    fn logs(&self) {
        for program in ["hub", "kubelet"] {
            check("a log", DEVICE, self.log(program));
        }
        for device in DEVICES {
            check("an agent's log", device, self.log(&format!("{device}.agent")));
        }
        let plant = self.site.lab().directory().join("logs/planted.log");
        std::fs::write(plant, LEFT).unwrap();
        check(
            "all logs",
            "left",
            self.all(&self.site.lab().directory().join("logs")),
        );
    }

    fn cluster(&self) {
        let events = self.site.api().list("/api/v1/events");
        check("events", "name", self.json("events", &events));
        let ours =
            ["pods", "nodes", "leases"].map(|kind| self.site.kubectl(&["get", kind, "-A", "-o", "json"]));
        let found = ours
            .iter()
            .flat_map(|text| self.search.bytes("objects", text.as_bytes()));
        check("what is written to the cluster", "name", found.collect());
    }

    /// Everything of the site but the cluster itself, which has the secrets, and the runtime.
    fn the_rest(&self) {
        let directory = self.site.lab().directory();
        let runtimes = DEVICES.map(|device| self.site.device(device).unwrap().directory().join("containerd"));
        let cluster: PathBuf = directory.join("control-plane");
        assert!(cluster.is_dir(), "{}", cluster.display());
        let skip = |path: &Path| path == cluster || runtimes.iter().any(|runtime| path == runtime);
        check("all else", "open", self.tree(directory, &skip));
    }
}

/// The container has what it is given.
#[track_caller]
fn has(container: &Instance, change: usize) {
    let value = |way: &str| WAYS.iter().find(|known| known.name == way).unwrap().values[change];
    for (way, path) in [("volume", "/etc/key/VALUE"), ("projected", "/etc/all/VALUE")] {
        eventually(&format!("{way} is in its file"), || match container.file(path) {
            held if held == value(way) => Ok(()),
            other => Err(other),
        });
    }
}

#[test]
fn a_secret_is_nowhere_in_clear_but_in_its_container() {
    let site = site();
    let mut shoal = keeper(SHOAL, "outrigger");
    // A token is bound to one node; the fleet's pods get none.
    shoal["spec"]["automountServiceAccountToken"] = json!(false);
    let objects = [settings(), keeper(NAME, DEVICE), shoal, puller()];
    for object in secrets(0).into_iter().chain(objects) {
        site.apply(&object);
    }
    let containers = [NAME, SHOAL].map(|name| site.running(name));
    for container in &containers {
        assert_eq!(container.variable("PIN"), WAYS[0].values[0]);
        assert_eq!(container.variable("FROM_VALUE"), WAYS[1].values[0]);
        has(container, 0);
    }
    let [container, of_fleet] = &containers;
    assert_eq!(of_fleet.device, OF_FLEET);
    let token = container.file(TOKEN);
    assert_eq!(token.split('.').count(), 3, "{token:?}");
    for secret in secrets(1) {
        site.apply(&secret);
    }
    for container in &containers {
        has(container, 1);
    }
    let puller = site.pod("puller").unwrap();
    eventually("the pull credential is on its way", || {
        let deployment = site.try_outrigger(&["deployment", "get", uid(&puller), "-o", "yaml"])?;
        if deployment.contains("PullCredential") {
            Ok(())
        } else {
            Err(deployment)
        }
    });
    // Everything once more, from what is on its disk.
    for process in [
        site.agent_process(DEVICE).unwrap(),
        site.agent_process(OF_FLEET).unwrap(),
        site.hub_process(),
        site.kubelet_process(),
    ] {
        process.kill().unwrap();
        process.start().unwrap();
    }
    site.node_object(None);
    for device in DEVICES {
        eventually(&format!("{device} is back"), || {
            let device = site.listed(&["device", "get", device]).remove(0);
            let connected = device["connected"] == true;
            connected.then_some(()).ok_or_else(|| device.to_string())
        });
    }
    assert_eq!([NAME, SHOAL].map(|name| site.running(name)), containers);
    // All that can be asked of the hub is asked by way of the tap.
    for question in [
        &["device", "ls"][..],
        &["device", "workloads", DEVICE],
        &["deployment", "ls"],
        &["deployment", "get", &container.uid],
        &["deployment", "assignments", &container.uid],
        &["deployment", "get", &of_fleet.uid],
    ] {
        site.listed(question);
    }

    let search = Search::new(&markers(&token)).unwrap();
    let inspector = Inspector { site: &site, search };
    inspector.hub();
    for device in DEVICES {
        inspector.device(device);
    }
    inspector.logs();
    inspector.cluster();
    inspector.the_rest();
}
