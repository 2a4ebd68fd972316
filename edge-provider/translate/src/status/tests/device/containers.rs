//! The container statuses of a pod on a device node.

use edge_protocol::v1::{LinuxUser, Resources};
use k8s_openapi::api::core::v1::{EphemeralContainer, ResourceRequirements, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::*;

#[test]
fn what_the_container_was_given_is_shown() {
    let mut pod = pod("Always", &["web"]);
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    let quantities = |all: &[(&str, &str)]| {
        let all = all
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned())));
        Some(all.collect())
    };
    container.resources = Some(ResourceRequirements {
        limits: quantities(&[("cpu", "1500m"), ("memory", "0.5Gi")]),
        requests: quantities(&[("cpu", "1"), ("memory", "64Mi")]),
        ..ResourceRequirements::default()
    });
    let mount = |name: &str, read_only: Option<bool>| VolumeMount {
        name: name.to_owned(),
        mount_path: format!("/{name}"),
        read_only,
        ..VolumeMount::default()
    };
    container.volume_mounts = Some(vec![mount("data", None), mount("token", Some(true))]);
    let mut runs = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    let web = &mut word_of(&mut runs).containers[0];
    web.resources = Some(Resources {
        cpu_limit_milli: Some(2000),
        memory_limit_bytes: Some(512 << 20),
        cpu_request_milli: Some(1000),
        ..Resources::default()
    });
    web.user = Some(LinuxUser {
        uid: 1000,
        gid: 2000,
        supplemental_groups: vec![3000],
    });
    let status = show_device(&mut pod, Shown::Deployed(&runs));
    let shown = serde_json::to_value(&status.container_statuses.unwrap()[0]).unwrap();
    assert_eq!(
        shown["resources"],
        json!({ "limits": { "cpu": "2", "memory": "0.5Gi" }, "requests": { "cpu": "1", "memory": "64Mi" } })
    );
    assert_eq!(
        shown["allocatedResources"],
        json!({ "cpu": "1", "memory": "64Mi" })
    );
    assert_eq!(
        shown["user"],
        json!({ "linux": { "uid": 1000, "gid": 2000, "supplementalGroups": [3000] } })
    );
    assert_eq!(
        shown["volumeMounts"],
        json!([
            { "name": "data", "mountPath": "/data" },
            { "name": "token", "mountPath": "/token", "readOnly": true, "recursiveReadOnly": "Disabled" },
        ])
    );
    assert_eq!(shown["imageID"], "sha256:00");
    assert_eq!(shown["lastState"], json!({}));
    assert_eq!(
        (&shown["started"], &shown["signal"]),
        (&json!(true), &Value::Null)
    );
}

#[test]
fn the_run_before_keeps_its_id() {
    let mut pod = pod("Always", &["web"]);
    let runs = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    show_device(&mut pod, Shown::Deployed(&runs));
    let last = ContainerState::Terminated {
        exit_code: 1,
        reason: Reason::Error,
        message: String::new(),
        started_at_ms: 1_795_253_000_999,
        finished_at_ms: NOW_MS,
    };
    let again = || {
        let mut again = said(
            "web",
            ContainerState::Running {
                started_at_ms: NOW_MS,
            },
        );
        (again.last, again.restart_count) = (Some(last.clone()), 1);
        again.container_id = "containerd://web-2".to_owned();
        spoken(Phase::Running, Vec::new(), vec![again])
    };
    for _ in 0..2 {
        let status = show_device(&mut pod, Shown::Deployed(&again()));
        let web = &status.container_statuses.unwrap()[0];
        let last = web.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
        assert_eq!(last.container_id.as_deref(), Some("containerd://web-1"));
        assert_eq!(web.restart_count, 1);
    }
    // One that waits to be started again is still the run that ended, whatever was missed of it.
    let mut waits = again();
    let word = &mut word_of(&mut waits).containers[0];
    word.state = ContainerState::Waiting {
        reason: Reason::CrashLoopBackOff,
        message: String::new(),
    };
    word.container_id = "containerd://web-4".to_owned();
    let status = show_device(&mut pod, Shown::Deployed(&waits));
    let ended = status.container_statuses.unwrap().remove(0).last_state.unwrap();
    let id = ended.terminated.unwrap().container_id;
    assert_eq!(id.as_deref(), Some("containerd://web-4"));
    // Another device's silence about it takes nothing back.
    let mut forgot = again();
    word_of(&mut forgot).containers[0].last = None;
    word_of(&mut forgot).containers[0].restart_count = 0;
    let status = show_device(&mut pod, Shown::Deployed(&forgot));
    let web = &status.container_statuses.unwrap()[0];
    assert!(web.last_state.as_ref().unwrap().terminated.is_some());
    assert_eq!(web.restart_count, 1);
}

#[test]
fn an_end_that_the_api_lets_none_come_back_from_stands() {
    let comes_back = |pod_policy: &str, own: Value, exit_code: i32| {
        let mut pod = pod(pod_policy, &["web"]);
        let mut container = serde_json::to_value(&pod.spec.as_ref().unwrap().containers[0]).unwrap();
        container
            .as_object_mut()
            .unwrap()
            .extend(own.as_object().unwrap().clone());
        pod.spec.as_mut().unwrap().containers[0] = serde_json::from_value(container).unwrap();
        let words = |state| spoken(Phase::Running, Vec::new(), vec![said("web", state)]);
        show_device(&mut pod, Shown::Deployed(&words(ended(exit_code))));
        let status = show_device(&mut pod, Shown::Deployed(&words(running())));
        seen(&status, 0).contains("running")
    };
    let rule = |operator: &str, code: i32| {
        let exit_codes = json!({ "operator": operator, "values": [code] });
        json!({ "restartPolicyRules": [{ "action": "Restart", "exitCodes": exit_codes }] })
    };
    assert!(comes_back("Always", json!({}), 0));
    assert!(!comes_back("Never", json!({}), 1));
    assert!(!comes_back("OnFailure", json!({}), 0));
    assert!(comes_back("OnFailure", json!({}), 1));
    assert!(comes_back("Never", json!({ "restartPolicy": "Always" }), 0));
    assert!(comes_back("Never", rule("In", 42), 42));
    assert!(!comes_back("Never", rule("In", 42), 43));
    assert!(comes_back("Never", rule("NotIn", 42), 43));
}

#[test]
fn last_words_keep_their_lines_and_a_run_that_never_began_has_the_runtimes_zero() {
    let mut pod = pod("Never", &["web"]);
    let mut end = |started_at_ms, finished_at_ms| {
        let state = ContainerState::Terminated {
            exit_code: 128,
            reason: Reason::StartError,
            message: "one\ntwo\u{7}\n".to_owned(),
            started_at_ms,
            finished_at_ms,
        };
        pod.status = None;
        let ended = spoken(Phase::Running, Vec::new(), vec![said("web", state)]);
        let status = show_device(&mut pod, Shown::Deployed(&ended));
        let state = status.container_statuses.unwrap().remove(0).state.unwrap();
        state.terminated.unwrap()
    };
    let shown = end(0, NOW_MS);
    assert_eq!(shown.message.as_deref(), Some("one\ntwo\\u{7}\n"));
    assert_eq!(shown.reason.as_deref(), Some("StartError"));
    assert_eq!(shown.started_at.unwrap().0.as_millisecond(), 0);
    let unseen = end(0, 0);
    assert_eq!((unseen.started_at, unseen.finished_at), (None, None));
}

#[test]
fn a_sandbox_that_was_there_is_known_by_any_container() {
    let mut pod = pod_of_four();
    let mut failed = spoken(Phase::Failed, vec![said("prepare", ended(1))], Vec::new());
    let waiting = DeviceWord::waiting("web", "", Reason::PodInitializing);
    word_of(&mut failed).containers = vec![waiting];
    word_of(&mut failed).sandbox_ready = false;
    let status = show_device(&mut pod, Shown::Deployed(&failed));
    let shown = message(&status, "PodReadyToStartContainers");
    assert_eq!(shown, "pod sandbox is not ready");
}

#[test]
fn a_container_that_was_added_is_shown_and_counts_for_nothing() {
    let mut pod = pod("Always", &["web"]);
    let added = |name: &str| EphemeralContainer {
        name: name.to_owned(),
        image: Some(format!("{name}:1")),
        ..EphemeralContainer::default()
    };
    pod.spec.as_mut().unwrap().ephemeral_containers = Some(vec![added("two"), added("one")]);
    let shown = |status: &PodStatus| {
        let all = status.ephemeral_container_statuses.iter().flatten();
        let words = all.map(|one| {
            assert_eq!((one.ready, one.started), (false, None));
            let state = one.state.as_ref().unwrap();
            match (&state.waiting, &state.terminated) {
                (Some(waiting), _) => format!("{} {}", one.name, waiting.reason.as_ref().unwrap()),
                (_, Some(ended)) => format!("{} ended {}", one.name, ended.exit_code),
                _ => format!("{} runs", one.name),
            }
        });
        words.collect::<Vec<_>>().join(", ")
    };
    let mut says = spoken(Phase::Running, Vec::new(), vec![said("web", running())]);
    let status = show_device(&mut pod, Shown::Deployed(&says));
    assert_eq!(shown(&status), "one ContainerCreating, two ContainerCreating");
    assert_eq!(of(&status, "Ready"), "True/");

    word_of(&mut says).ephemeral_containers = vec![said("two", running()), said("one", ended(3))];
    let status = show_device(&mut pod, Shown::Deployed(&says));
    assert_eq!(shown(&status), "one ended 3, two runs");
    assert_eq!(of(&status, "Ready"), "True/");

    // The API server lets none come back from its end, whatever the pod's policy; and the device may have forgotten it.
    word_of(&mut says).ephemeral_containers = vec![said("one", running())];
    let status = show_device(&mut pod, Shown::Deployed(&says));
    assert_eq!(shown(&status), "one ended 3, two runs");

    let status = show_device(&mut pod, Shown::Stopped(None));
    assert_eq!(shown(&status), "one ended 3, two ended 137");
}
