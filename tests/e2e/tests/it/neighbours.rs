//! Acceptance 8: two agents and a stranger on one containerd; nobody touches what is not theirs.

use std::time::Duration;

use lab::{Device, Process, Program};
use site::DeviceSpec;

use crate::support::{Instances, TestSite, deployment, eventually, server, uid};

const SECOND: &str = "device-1b";
const LIMIT: Duration = Duration::from_secs(30);

/// A second agent on the device's containerd, with an identity and files of its own.
fn second_agent(site: &TestSite, device: &Device) -> Process {
    let directory = device.directory().join("second");
    std::fs::create_dir_all(&directory).unwrap();
    let spec = DeviceSpec::new(SECOND, &[("site", "hall-1")]);
    let token = site.hub().enrolment_token(site.programs(), &spec).unwrap();
    std::fs::write(directory.join("token"), token).unwrap();
    let path = |name: &str| directory.join(name).display().to_string();
    let config = format!(
        "state_dir = {state:?}\n[hub]\nendpoints = [\"{endpoint}\"]\n[enrolment]\ntoken_file = {token:?}\ndevice = \"{SECOND}\"\n\
         [runtime]\nsocket = {socket:?}\ncgroup_root = \"{cgroup}/second\"\nlog_dir = {logs:?}\n[local]\nboot_id_file = {boot:?}\n",
        state = path("state"),
        endpoint = site.hub().device_port,
        token = path("token"),
        socket = device.containerd_socket().display().to_string(),
        cgroup = device.cgroup_parent(),
        logs = path("pods"),
        boot = device.boot_id_file().display().to_string(),
    );
    std::fs::write(directory.join("agent.toml"), config).unwrap();
    let program = Program::new(site.programs().agent().unwrap())
        .args(["run", "--config"])
        .arg(path("agent.toml"));
    let agent = device.spawn("second", &program).unwrap();
    site.hub()
        .wait_until_connected(site.programs(), &[SECOND])
        .unwrap();
    agent
}

/// A container that nobody of ours started, in the very namespace that the CRI plugin uses.
fn stranger(device: &Device) -> i32 {
    let socket = device.containerd_socket().display().to_string();
    let run = Program::new("ctr")
        .args([
            "--address",
            &socket,
            "--namespace",
            "k8s.io",
            "run",
            "--detach",
            "--runc-root",
        ])
        .arg(device.runc_root().display().to_string())
        .args(["--label", "io.kubernetes.pod.uid=stranger", "--cgroup"])
        .arg(format!("{}/stranger", device.cgroup_parent()))
        .args([
            "images.outrigger.local/server:v1",
            "stranger",
            "/server",
            "ignore-term",
        ]);
    device.run(&run, LIMIT).unwrap();
    let tasks = device.ctr(["tasks", "ls"]).unwrap().stdout;
    let line = tasks.lines().find(|line| line.starts_with("stranger")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn stranger_is_there(device: &Device, pid: i32) -> bool {
    let tasks = device.ctr(["tasks", "ls"]).unwrap().stdout;
    let line = tasks.lines().find(|line| line.starts_with("stranger"));
    line.is_some_and(|line| line.contains(&pid.to_string()) && line.contains("RUNNING"))
}

#[test]
fn nobody_touches_what_is_not_theirs() {
    let site = TestSite::start();
    let device = site.device("device-1").unwrap();
    let second = second_agent(&site, &device);
    let both = [("target-condition", "deviceId IN ['device-1', 'device-1b']")];
    site.apply(&deployment(
        "twice",
        &both,
        &[server("web", &["http", "--port", "8080"])],
    ));
    let twice = site.ready_pod("twice");
    let running = eventually("the same pod runs once per agent", || {
        let running = site.containers();
        let each = ["device-1", SECOND].map(|agent| running.of_agent(agent).0.len());
        if each == [1, 1] {
            Ok(running)
        } else {
            Err(format!("{running:?}"))
        }
    });
    let pid = stranger(&device);
    let unharmed = |expected: &Instances, after: &str| {
        assert_eq!(site.containers().of_pod(uid(&twice)), *expected, "{after}");
        assert!(stranger_is_there(&device, pid), "{after}");
    };

    // Each agent that comes back adopts its own alone.
    let first = site.agent_process("device-1").unwrap();
    for agent in [&first, &second] {
        agent.kill().unwrap();
        agent.start().unwrap();
        site.hub()
            .wait_until_connected(site.programs(), &["device-1", SECOND])
            .unwrap();
    }
    assert_eq!(uid(&site.ready_pod("twice")), uid(&twice));
    unharmed(&running, "after restarts of both agents");

    // One of the two is targeted no more: only its copy goes.
    let before = running.of_agent(SECOND);
    site.kubectl(&[
        "patch", "deployment", "twice", "--type=merge", "-p",
        r#"{"spec":{"template":{"metadata":{"annotations":{"outrigger.io/target-condition":"deviceId = 'device-1b'"}}}}}"#,
    ]);
    eventually("the new pod runs for the second agent alone", || {
        let pod = site.ready_pod("twice");
        let running = site.containers();
        let is_new = uid(&pod) != uid(&twice);
        let alone = running.of_pod(uid(&pod)).of_agent(SECOND).0.len() == 1 && running.0.len() == 1;
        if is_new && alone {
            Ok(())
        } else {
            Err(format!("{running:?}"))
        }
    });
    assert!(!before.is_empty() && stranger_is_there(&device, pid));

    site.kubectl(&["delete", "deployment", "twice"]);
    site.no_pod_left("twice");
    assert!(site.containers().is_empty());
    assert!(
        stranger_is_there(&device, pid),
        "the stranger has seen them all go"
    );
}
