//! Acceptance 4, first half: whatever of the bridge dies, edge work goes on, and the truth is told afterwards.

use jiff::Timestamp;
use lab::Process;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{
    Instances, TestSite, condition, deployment, eventually, is_ready, restarts, server, terminations, uid,
};

const DEVICES: [&str; 3] = ["device-1", "device-2", "device-3"];

/// What must not change by any outage.
struct Steady {
    site: TestSite,
    uid: String,
    running: Instances,
}

impl Steady {
    fn start() -> Self {
        let site = TestSite::start();
        let containers = [
            server("web", &["http", "--port", "8080"]),
            server("other", &["ignore-term"]),
        ];
        site.apply(&deployment("steady", &[], &containers));
        let pod = site.ready_pod("steady");
        let running = site.containers();
        running.are_on(&DEVICES, 2).unwrap();
        Self {
            uid: uid(&pod).to_owned(),
            running,
            site,
        }
    }

    #[track_caller]
    fn goes_on(&self, after: &str) {
        assert!(self.running.are_alive(), "after {after}");
        assert_eq!(self.site.containers(), self.running, "after {after}");
    }

    /// The pod says what is true: Ready on all three, nothing restarted.
    #[track_caller]
    fn truth_is_told(&self, after: &str) {
        eventually(&format!("the truth is told after {after}"), || {
            let pod = self.site.pods("steady").remove(0);
            let healthy = condition(&pod, "outrigger.io/Healthy");
            let all = healthy.0 == "True" && healthy.2 == "healthy 3, counted 3, targeted 3";
            if is_ready(&pod) && all && uid(&pod) == self.uid && restarts(&pod) == 0 {
                Ok(())
            } else {
                Err(pod["status"].to_string())
            }
        });
        self.goes_on(after);
    }

    #[track_caller]
    fn connected(&self, device: &str, expected: bool) {
        let what = if expected { "connected" } else { "missed" };
        eventually(&format!("{device} is {what}"), || {
            let known = self.site.listed(&["device", "get", device]).remove(0);
            if known["connected"] == expected {
                Ok(())
            } else {
                Err(known.to_string())
            }
        });
    }

    /// What the Node says of the hub.
    #[track_caller]
    fn hub_reachable(&self, expected: &str) {
        eventually(&format!("HubReachable is {expected}"), || {
            let node = self.site.node_object(None);
            let (status, _, message) = condition(&node, "outrigger.io/HubReachable");
            if status == expected {
                Ok(())
            } else {
                Err(format!("{status} {message}"))
            }
        });
    }

    /// The session epoch rises with every session.
    fn kill_agent(&self, device: &str) -> Process {
        let agent = self.site.agent_process(device).unwrap();
        agent.kill().unwrap();
        self.connected(device, false);
        agent
    }
}

#[test]
fn whatever_is_killed_containers_go_on() {
    let steady = Steady::start();

    let agent = steady.kill_agent("device-1");
    steady.goes_on("the agent was killed");
    agent.start().unwrap();
    steady.connected("device-1", true);
    steady.truth_is_told("the agent is back");

    let hub = steady.site.hub_process();
    hub.kill().unwrap();
    steady.hub_reachable("False");
    steady.goes_on("the hub was killed");
    hub.start().unwrap();
    steady.hub_reachable("True");
    for device in DEVICES {
        steady.connected(device, true);
    }
    steady.truth_is_told("the hub is back");

    let kubelet = steady.site.kubelet_process();
    kubelet.kill().unwrap();
    steady.goes_on("the kubelet was killed");
    kubelet.start().unwrap();
    leads_again(&steady.site);
    steady.truth_is_told("the kubelet is back");

    let device = steady.site.device("device-2").unwrap();
    device.cut_link().unwrap();
    steady.connected("device-2", false);
    steady.goes_on("the link was cut");
    device.restore_link().unwrap();
    steady.connected("device-2", true);
    steady.truth_is_told("the link is back");

    let device = steady.site.device("device-3").unwrap();
    device.stop().unwrap();
    assert!(steady.running.are_alive(), "containerd was killed");
    device.start().unwrap();
    steady.truth_is_told("containerd is back");

    // After all that the path still carries what a person means.
    steady.site.kubectl(&["delete", "deployment", "steady"]);
    steady.site.no_pod_left("steady");
    assert!(steady.site.containers().is_empty());
    steady.site.nothing_was_forbidden();
}

/// Waits until the restarted kubelet holds the leader lease and has renewed the Node's.
fn leads_again(site: &TestSite) {
    let path = format!(
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}",
        site.node()
    );
    let renewed = || site.api().get(&path).unwrap()["spec"]["renewTime"].clone();
    let before = renewed();
    eventually("the node's lease is renewed again", || {
        if renewed() == before {
            Err("not yet".to_owned())
        } else {
            Ok(())
        }
    });
}

#[test]
fn a_crash_in_the_dark_is_repaired_at_once_and_told_later() {
    let steady = Steady::start();
    let site = &steady.site;
    let (hub, kubelet) = (site.hub_process(), site.kubelet_process());
    kubelet.kill().unwrap();
    hub.kill().unwrap();

    let victim = steady
        .running
        .on("device-1")
        .0
        .into_iter()
        .find(|instance| instance.container == "web")
        .unwrap();
    let victim_died = Timestamp::now();
    signal::kill(Pid::from_raw(victim.pid), Signal::SIGKILL).unwrap();
    let repaired = eventually("the agent starts it again", || {
        let now = site.containers().on("device-1");
        let new = now.0.into_iter().find(|instance| instance.container == "web");
        new.filter(|new| new.id != victim.id)
            .ok_or_else(|| "not yet".to_owned())
    });
    assert!(site.hub_is_silent(), "nobody could be told yet");

    // The hub hears of it while nobody of the cluster listens.
    hub.start().unwrap();
    let is_told = |told: &&Value| {
        let event = &told["event"];
        event["reason"] == "Started" && event["container"] == "web" && happened(told) >= victim_died
    };
    let started = eventually("the hub is told", || {
        // It may not answer yet.
        let text = site.try_outrigger(&["event", "--device", "device-1", "-o", "json"])?;
        let events: Vec<Value> = serde_json::from_str(&text).unwrap();
        let told = events
            .iter()
            .find(is_told)
            .map(|event| happened(event).as_second());
        told.ok_or_else(|| format!("{events:?}"))
    });
    kubelet.start().unwrap();
    eventually("the restart is told", || {
        let pod = site.pods("steady").remove(0);
        let told = restarts(&pod) == 1 && terminations(&pod).contains(&("Error", 137));
        if told && is_ready(&pod) && uid(&pod) == steady.uid {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    let mut expected = steady.running.clone();
    expected.0.remove(&victim);
    expected.0.insert(repaired);
    assert_eq!(site.containers(), expected, "nothing else was touched");
    // With its own time, and as a kubelet names who tells it and what it is about.
    let event = eventually("its start is told", || {
        let told = site.told(&steady.uid, "Started");
        let from = |event: &&Value| {
            let message = event["message"].as_str().unwrap_or_default();
            message.starts_with("device device-1, container web: ")
                && second(&event["lastTimestamp"]) == started
        };
        let found = told.iter().find(from).cloned();
        found.ok_or_else(|| format!("{told:?}"))
    });
    assert_eq!(
        event["source"],
        json!({"component": "kubelet", "host": site.node()})
    );
    assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{web}");
    site.nothing_was_forbidden();
}

/// When a device says that an event happened.
fn happened(told: &Value) -> Timestamp {
    let at = told["event"]["at"]["wall_ms"].as_i64().unwrap_or_default();
    Timestamp::from_millisecond(at).unwrap()
}

/// Of a time that the API server gives.
fn second(at: &Value) -> i64 {
    at.as_str()
        .and_then(|at| at.parse::<Timestamp>().ok())
        .map_or(0, Timestamp::as_second)
}

/// A device that comes back without any link starts what it last knew, by itself (laws 6 and 10).
#[test]
fn a_power_cut_is_survived_without_the_hub() {
    let steady = Steady::start();
    let device = steady.site.device("device-2").unwrap();
    let others = |all: &Instances| [all.on("device-1"), all.on("device-3")];
    device.power_cut().unwrap();
    device.cut_link().unwrap();
    device.start().unwrap();
    steady.site.agent_process("device-2").unwrap().start().unwrap();
    let again = eventually("the device runs its workload again", || {
        let now = steady.site.containers();
        now.on("device-2").are_on(&["device-2"], 2).map(|()| now)
    });
    assert_eq!(others(&again), others(&steady.running));
    device.restore_link().unwrap();
    steady.connected("device-2", true);
    eventually("the restarts are told", || {
        let pod = steady.site.pods("steady").remove(0);
        let healthy = condition(&pod, "outrigger.io/Healthy").2;
        let told = is_ready(&pod) && healthy == "healthy 3, counted 3, targeted 3" && restarts(&pod) == 2;
        if told && uid(&pod) == steady.uid {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    assert_eq!(
        steady.site.containers(),
        again,
        "the link's return changes nothing"
    );
}

impl TestSite {
    /// Whether the hub does not answer.
    fn hub_is_silent(&self) -> bool {
        self.try_outrigger(&["device", "ls"]).is_err()
    }
}
