//! A device pulls and runs, survives what a device must survive, and leaves nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lab::{Device, DeviceOptions, Lab, LabOptions, PodSubnet, Program, until};

use crate::{fetch, is_alive, start};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_container_outlives_containerd_but_neither_a_power_cut_nor_the_purge() {
    let (_directory, lab) = start(|options| LabOptions {
        devices: vec![DeviceOptions::named("edge")],
        ..options
    });
    let device = lab.device("edge").unwrap();
    assert!(device.ctr(["version"]).unwrap().stdout.contains("1.6"));
    run_server(&lab, &device);
    let pid = task_pid(&device).expect("the container runs");

    device.stop().unwrap();
    assert_eq!(device.containerd().pid().unwrap(), None);
    assert!(is_alive(pid), "killing containerd kills no container");
    device.start().unwrap();
    assert_eq!(task_pid(&device), Some(pid));

    let boot_id = std::fs::read_to_string(device.boot_id_file()).unwrap();
    device.power_cut().unwrap();
    assert!(!is_alive(pid));
    assert_ne!(std::fs::read_to_string(device.boot_id_file()).unwrap(), boot_id);
    device.start().unwrap();
    assert_eq!(task_pid(&device), None);
    let images = device.ctr(["images", "list", "--quiet"]).unwrap().stdout;
    assert!(images.contains("/server:v1"), "the disk stays: {images}");

    device.purge().unwrap();
    device.purge().unwrap();
    assert_eq!(traces(&device), Vec::<String>::new());
    assert!(lab.devices().unwrap().is_empty());
}

#[test]
fn a_cut_link_stops_traffic_and_a_restored_one_brings_it_back() {
    let (_directory, lab) = start(|options| LabOptions {
        devices: vec![DeviceOptions::named("edge")],
        ..options
    });
    let device = lab.device("edge").unwrap();
    run_server(&lab, &device);
    let server = SocketAddr::from((device.address(), 8080));
    let answers = || Ok(fetch(server).is_some());
    until("the server answers", LIMIT, answers).unwrap();
    device.cut_link().unwrap();
    assert!(fetch(server).is_none());
    device.restore_link().unwrap();
    until("the server answers again", LIMIT, answers).unwrap();
}

#[test]
fn a_late_device_joins_and_programs_run_in_its_namespace() {
    let (_directory, lab) = start(|options| LabOptions {
        devices: vec![DeviceOptions::named("first")],
        ..options
    });
    let pod_subnet = PodSubnet::Private("10.88.0.0/24".into());
    let second = DeviceOptions {
        name: "second".into(),
        pod_subnet,
    };
    let device = lab.add_device(&second).unwrap();
    assert_eq!(device.pod_subnet(), "10.88.0.0/24");
    assert!(lab.add_device(&second).is_err(), "a name is taken once");
    assert!(lab.add_device(&DeviceOptions::named("Not a name")).is_err());

    let shown = device
        .run(&Program::new("ip").args(["-4", "addr", "show", "eth0"]), LIMIT)
        .unwrap();
    assert!(shown.stdout.contains(&device.address().to_string()));
    let sleeper = device
        .spawn("sleeper", &Program::new("sleep").arg("1000"))
        .unwrap();
    let id = device.process("sleeper").pid().unwrap();
    assert!(
        id.is_some()
            && id
                == Lab::open(lab.directory())
                    .unwrap()
                    .process("second.sleeper")
                    .pid()
                    .unwrap()
    );
    assert!(
        device.spawn("sleeper", &Program::new("true")).is_err(),
        "a name runs once"
    );
    sleeper.terminate(LIMIT).unwrap();
    sleeper.start().unwrap();
    device.purge().unwrap();
    assert!(sleeper.pid().is_err(), "the record goes with the device");
    assert!(!is_alive(id.unwrap()));
    assert_eq!(lab.devices().unwrap().len(), 1);
}

/// The test server in the device's own network, in its cgroup.
fn run_server(lab: &Lab, device: &Device) {
    let image = lab.registry().unwrap().reference("server", "v1");
    device.ctr(["images", "pull", "--plain-http", &image]).unwrap();
    let cgroup = format!("{}/server", device.cgroup_parent());
    let runc = device.runc_root().display().to_string();
    let options = [
        "--detach",
        "--net-host",
        "--cgroup",
        &cgroup,
        "--runc-root",
        &runc,
    ];
    device
        .ctr(
            ["run"]
                .into_iter()
                .chain(options)
                .chain([image.as_str(), "server"]),
        )
        .unwrap();
}

fn task_pid(device: &Device) -> Option<i32> {
    let tasks = device.ctr(["tasks", "list"]).unwrap().stdout;
    let line = tasks
        .lines()
        .find(|line| line.starts_with("server ") && line.contains("RUNNING"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What the machine still has of a device.
pub fn traces(device: &Device) -> Vec<String> {
    let mut found = Vec::new();
    let cgroup = device.cgroup_parent();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let path = hierarchy.path().join(cgroup.trim_start_matches('/'));
        found.extend(path.exists().then(|| path.display().to_string()));
    }
    let namespace = Path::new("/run/netns").join(device.namespace());
    found.extend(
        [namespace, device.directory()]
            .iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string()),
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let directory = device.directory().display().to_string();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&directory))
            .map(str::to_owned),
    );
    for directory in ["/var/lib/cni/results", "/var/log/containers"] {
        for path in std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
        {
            let target = std::fs::read_link(&path).unwrap_or_default();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if target.starts_with(device.directory()) || text.contains(&device.namespace()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
