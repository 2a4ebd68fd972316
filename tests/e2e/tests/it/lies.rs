//! Acceptance 5: whatever the API server or the hub is made to say, nothing is deleted but what somebody deleted.

use std::time::{Duration, Instant};

use fault_proxy::{ControlClient, Lie, Requests, Rule, Then};
use serde_json::json;
use site::{DeviceSpec, Server};

use crate::support::{
    Instances, TestSite, TestSiteOptions, deployment, eventually, pod, server, throughout, uid,
};

const DEVICES: [&str; 2] = ["device-1", "device-2"];
/// Longer than the 60 s after which an absent pod would count as deleted (law 2).
const PAST_THE_WAIT: Duration = Duration::from_secs(75);

/// How the bridge is made to ask again while it is lied to.
enum Ask {
    /// A new process knows nothing and reads everything.
    Restart,
    /// The open watch is cut.
    Watch,
    /// The open watch is cut, and the next one is told that its version is gone: the same process lists again.
    List,
}

/// A site whose bridge hears one server through a proxy, with a workload on two devices.
struct Stage {
    site: TestSite,
    control: ControlClient,
    /// What is watched at this server.
    watch: &'static str,
    pod: String,
    running: Instances,
}

impl Stage {
    fn set(server_before: Server, watch: &'static str) -> Self {
        let site = TestSite::with(TestSiteOptions {
            devices: DeviceSpec::numbered(2),
            detours: vec![server_before],
            ..TestSiteOptions::default()
        });
        site.apply(&deployment(
            "web",
            &[],
            &[server("web", &["http", "--port", "8080"])],
        ));
        let pod = uid(&site.ready_pod("web")).to_owned();
        let running = site.containers();
        running.are_on(&DEVICES, 1).unwrap();
        let control = ControlClient::new(site.detour(server_before).unwrap().control);
        assert!(
            control.ledger().unwrap().requests > 0,
            "the bridge goes through the proxy"
        );
        Self {
            site,
            control,
            watch,
            pod,
            running,
        }
    }

    /// Tells the lie and returns when it was served this often; the truth is told again then.
    fn lie(&self, ask: &Ask, rule: &Rule, times: u64) {
        let id = self.tell(ask, rule);
        self.served(id, rule, times);
        self.control.pass().unwrap();
        self.nothing_is_deleted(rule);
    }

    fn tell(&self, ask: &Ask, rule: &Rule) -> u64 {
        let kubelet = self.site.kubelet_process();
        if matches!(ask, Ask::Restart) {
            kubelet.kill().unwrap();
        } else {
            self.watches();
        }
        let id = self.control.tell(rule).unwrap().id;
        if matches!(ask, Ask::List) {
            let expired = Rule::new(self.watch, Lie::Expired)
                .requests(Requests::Watches)
                .times(1);
            self.control.tell(&expired).unwrap();
        }
        match ask {
            Ask::Restart => kubelet.start().unwrap(),
            // A lie that cuts has done so by itself.
            Ask::Watch | Ask::List => drop(self.control.interrupt(self.watch).unwrap()),
        }
        id
    }

    fn served(&self, id: u64, rule: &Rule, times: u64) {
        eventually(&format!("{rule:?} is served {times} times"), || {
            self.site.kubelet_process().check_alive().unwrap();
            match self.control.served(id).unwrap() {
                served if served >= times => Ok(()),
                served => Err(format!("{served} times")),
            }
        });
    }

    /// Waits until the bridge watches.
    fn watches(&self) {
        eventually("the bridge watches", || {
            match self.control.ledger().unwrap().watches {
                0 => Err("no watch is open".to_owned()),
                _ => Ok(()),
            }
        });
    }

    /// Neither on the devices nor at the hub nor at the API server.
    fn nothing_is_deleted(&self, rule: &Rule) {
        assert_eq!(self.site.containers(), self.running, "after {rule:?}");
        assert_eq!(removals(&self.site), Vec::<String>::new(), "after {rule:?}");
        let pods = self.site.pods("web");
        let [pod] = pods.as_slice() else {
            panic!("after {rule:?}: {pods:?}")
        };
        assert_eq!(uid(pod), self.pod, "after {rule:?}");
    }

    /// What a lie does not do at once, it must not do later.
    fn stays(&self, time: Duration, rule: &Rule) {
        throughout(time, &format!("{rule:?}"), &self.running, || {
            self.site.containers()
        });
        self.nothing_is_deleted(rule);
    }

    /// With the truth back, a person's delete works as ever.
    fn a_delete_still_works(&self) {
        self.control.pass().unwrap();
        self.control.interrupt("/").unwrap();
        self.site
            .kubectl(&["delete", "deployment", "web", "--wait=false"]);
        self.site.no_pod_left("web");
        assert!(
            self.site.containers().is_empty(),
            "the containers stop before the pod goes"
        );
        assert_eq!(removals(&self.site), [format!("delete-deployment {}", self.pod)]);
    }
}

/// What was ever asked of the hub that stops a workload or gives it up.
fn removals(site: &TestSite) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let audit = site.listed(&["audit"]);
    let removes = |action: &str| action.starts_with("delete-deployment") || action.starts_with("release");
    let removals = audit.iter().filter(|entry| removes(&text(&entry["action"])));
    removals
        .map(|entry| format!("{} {}", text(&entry["action"]), text(&entry["subject"])))
        .collect()
}

#[test]
fn an_api_server_that_lies_deletes_nothing() {
    const PODS: &str = "/api/v1/pods";
    let stage = Stage::set(Server::Api, PODS);
    let get = |lie| Rule::new(PODS, lie).method("GET");
    let empty = |version| get(Lie::EmptyList { version });

    stage.lie(&Ask::Restart, &empty(None).times(1), 1);
    stage.lie(&Ask::List, &empty(None).times(1), 1);
    stage.lie(&Ask::Restart, &get(Lie::Status { code: 500 }), 3);
    stage.lie(&Ask::Watch, &get(Lie::Status { code: 500 }), 3);
    stage.lie(&Ask::Restart, &get(Lie::Status { code: 410 }), 3);
    stage.lie(&Ask::Restart, &get(Lie::Status { code: 404 }), 3);
    stage.lie(&Ask::Watch, &get(Lie::Expired).requests(Requests::Watches), 3);
    stage.lie(&Ask::Restart, &get(Lie::Refuse), 3);
    stage.lie(&Ask::Watch, &get(Lie::Cut { after_bytes: 0 }), 4);
    let no_node = Rule::new(
        format!("/api/v1/nodes/{}", stage.site.node()),
        Lie::Status { code: 404 },
    );
    stage.lie(&Ask::List, &no_node.method("GET"), 1);

    // Old lists, the first and the last further apart than it takes an absent pod to count as deleted.
    for _ in 0..4 {
        let old = empty(Some(1)).times(1);
        let id = stage.tell(&Ask::List, &old);
        stage.served(id, &old, 1);
        stage.stays(PAST_THE_WAIT / 3, &old);
    }

    // The API server sends a bookmark about once a minute.
    let silent = get(Lie::NoBookmark { then: Then::Silence }).times(1);
    let id = stage.tell(&Ask::Watch, &silent);
    stage.stays(PAST_THE_WAIT, &silent);
    stage.served(id, &silent, 1);
    stage.a_delete_still_works();
}

#[test]
fn a_hub_that_lies_deletes_nothing() {
    const WATCH: &str = "/api/v1/watch";
    let stage = Stage::set(Server::Hub, WATCH);
    let get = |prefix: &str, lie| Rule::new(prefix, lie).method("GET");
    let (all, deployments, devices) = ("/api/v1/", "/api/v1/deployments", "/api/v1/devices");

    for lists in [deployments, devices] {
        let empty = get(lists, Lie::EmptyList { version: None });
        stage.lie(&Ask::Restart, &empty, 1);
        stage.lie(&Ask::List, &empty, 1);
    }
    stage.lie(&Ask::List, &get(all, Lie::EmptyList { version: Some(1) }), 2);
    for code in [500, 410, 404, 503] {
        stage.lie(&Ask::Restart, &get(all, Lie::Status { code }), 3);
    }
    stage.lie(
        &Ask::List,
        &get(all, Lie::Status { code: 500 }).requests(Requests::Plain),
        2,
    );
    stage.lie(&Ask::Watch, &get(WATCH, Lie::Status { code: 410 }), 2);
    stage.lie(&Ask::Watch, &get(WATCH, Lie::Expired), 3);
    stage.lie(&Ask::Restart, &get(all, Lie::Refuse), 3);
    stage.lie(&Ask::Watch, &get(WATCH, Lie::Cut { after_bytes: 0 }), 4);
    stage.lie(&Ask::Watch, &get(WATCH, Lie::NoBookmark { then: Then::End }), 2);

    let empty = get(all, Lie::EmptyList { version: None });
    let id = stage.tell(&Ask::Restart, &empty);
    stage.served(id, &empty, 2);
    let silent = get(WATCH, Lie::NoBookmark { then: Then::Silence }).times(1);
    let id = stage.tell(&Ask::Watch, &silent);
    stage.served(id, &silent, 1);
    stage.stays(PAST_THE_WAIT, &silent);
    stage.a_delete_still_works();
}

/// The boundary of the tests above: what nobody can tell from the truth is believed, and then the brake holds.
#[test]
fn a_list_that_stays_empty_past_the_wait_removes_no_more_than_the_brake_allows() {
    let site = TestSite::with(TestSiteOptions {
        devices: DeviceSpec::numbered(1),
        detours: vec![Server::Api],
        ..TestSiteOptions::default()
    });
    let names: Vec<String> = (1..=7).map(|number| format!("pod-{number}")).collect();
    for name in &names {
        site.apply(&pod(name, &[], &[server("main", &["pause"])]));
    }
    let all_run = || {
        for name in &names {
            site.ready_pod(name);
        }
        site.containers().are_on(&DEVICES[..1], names.len()).unwrap();
    };
    all_run();
    let control = ControlClient::new(site.detour(Server::Api).unwrap().control);
    let empty = Rule::new("/api/v1/pods", Lie::EmptyList { version: None });
    site.kubelet_process().kill().unwrap();
    let told = control.tell(&empty).unwrap();
    site.kubelet_process().start().unwrap();

    let left = |count: usize| {
        move |running: Instances| match running.0.len() {
            left if left == count => Ok(()),
            left => Err(format!("{left} run")),
        }
    };
    eventually("five of seven are stopped", || left(2)(site.containers()));
    let held = site.containers();
    throughout(Duration::from_secs(30), "the brake holds", &held, || {
        site.containers()
    });
    assert!(
        control.served(told.id).unwrap() >= 2,
        "one list alone proves nothing"
    );
    assert_eq!(removals(&site).len(), 5);

    // The objects were there all the time: what they ask for runs again.
    control.pass().unwrap();
    site.kubelet_process().kill().unwrap();
    site.kubelet_process().start().unwrap();
    eventually("all seven run again", || left(7)(site.containers()));
    all_run();
    assert_eq!(removals(&site).len(), 5);
}

#[test]
fn a_force_delete_while_the_bridge_is_down_is_carried_out_after_the_wait() {
    let site = TestSite::with(TestSiteOptions {
        devices: DeviceSpec::numbered(2),
        ..TestSiteOptions::default()
    });
    for name in ["victim", "neighbour"] {
        site.apply(&pod(name, &[], &[server("main", &["pause"])]));
    }
    let victim = uid(&site.ready_pod("victim")).to_owned();
    let neighbour = uid(&site.ready_pod("neighbour")).to_owned();
    let before = site.containers();
    before.of_pod(&victim).are_on(&DEVICES, 1).unwrap();

    site.kubelet_process().kill().unwrap();
    site.api().delete(
        "/api/v1/namespaces/default/pods/victim",
        &json!({ "gracePeriodSeconds": 0 }),
    );
    assert!(
        site.pod("victim").is_none(),
        "nothing keeps a pod that is deleted by force"
    );
    let back = Instant::now();
    site.kubelet_process().start().unwrap();

    throughout(
        Duration::from_secs(55),
        "one list without it is no word",
        &before,
        || site.containers(),
    );
    eventually("the deleted pod's containers are gone", || {
        match site.containers().of_pod(&victim) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    });
    assert!(
        back.elapsed() >= Duration::from_mins(1),
        "law 2's wait, not {:?}",
        back.elapsed()
    );
    assert_eq!(site.containers(), before.of_pod(&neighbour));
    assert_eq!(removals(&site), [format!("delete-deployment {victim}")]);
    assert_eq!(uid(&site.ready_pod("neighbour")), neighbour);
}
