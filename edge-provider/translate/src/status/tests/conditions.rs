//! Conditions, headlines and the words in them.

use super::*;

#[test]
fn who_answers_is_shown() {
    let answers = |annotation: Option<&str>, device: Option<&str>, targeted| {
        let mut pod = pod("Always", &["a"]);
        let annotations =
            annotation.map(|name| BTreeMap::from([(annotations::DEVICE.to_owned(), name.to_owned())]));
        pod.metadata.annotations = annotations;
        let words = vec![word("a", "dev-1", running(), 0)];
        let mut rollup = rollup(Phase::Running, targeted, targeted, 0, words);
        rollup.answers = device.map(|device| DeviceId::new(device).unwrap());
        let status = show(&mut pod, Shown::Deployed(&rollup));
        format!("{} {}", of(&status, ANSWERS), message(&status, ANSWERS))
    };
    assert_eq!(answers(None, None, 0), "False/NoDevice no device runs the pod");
    assert_eq!(answers(None, Some("dev-1"), 1), "True/OnlyDevice dev-1");
    assert_eq!(answers(None, Some("dev-1"), 2), "True/HealthiestDevice dev-1");
    assert_eq!(answers(Some("dev-7"), Some("dev-1"), 2), "True/DeviceNamed dev-7");
}

#[test]
fn from_seen_to_ready() {
    let mut pod = pod("Always", &["a", "b"]);
    let status = show(&mut pod, Shown::Accepted);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(
        (of(&status, TARGETED), of(&status, "Ready")),
        ("Unknown/AwaitingHub".into(), "False/AwaitingHub".into())
    );
    assert_eq!(
        status.start_time.as_ref().unwrap().0.to_string(),
        "2026-11-21T09:40:00Z"
    );

    let one = rollup(
        Phase::Pending,
        0,
        2,
        0,
        vec![word("b", "dev-1", waiting(Reason::ErrImagePull), 0)],
    );
    let status = show(&mut pod, Shown::Deployed(&one));
    assert_eq!(seen(&status, 0), "a ContainerCreating restarts 0");
    assert_eq!(seen(&status, 1), "b ErrImagePull on device dev-1: why restarts 0");
    assert_eq!(of(&status, TARGETED), "True/DevicesTargeted");
    assert_eq!(of(&status, APPLIED), "False/DevicesApplying");
    assert_eq!(of(&status, HEALTHY), "False/DevicesNotHealthy");
    assert_eq!(of(&status, "Ready"), "False/DevicesNotReady");
    assert_eq!(message(&status, "Ready"), "healthy 0, counted 2, targeted 2");
    assert_eq!(
        message(&status, "ContainersReady"),
        "containers with unready status: [a b]"
    );

    let words = vec![word("a", "dev-1", running(), 0), word("b", "dev-2", running(), 1)];
    let status = show(&mut pod, Shown::Deployed(&rollup(Phase::Running, 2, 3, 1, words)));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    for name in ["Ready", "ContainersReady", "Initialized"] {
        assert_eq!(of(&status, name), "True/", "{name}");
    }
    assert_eq!(message(&status, HEALTHY), "healthy 2, counted 2, targeted 3");
    assert_eq!(
        message(&status, TARGETED),
        "targeted 3, counted 2; 1 offline past their deadline"
    );
    assert_eq!(of(&status, "PodScheduled"), "True/", "others' conditions stay");
    assert_eq!(
        (status.qos_class.as_deref(), status.pod_ip),
        (Some("BestEffort"), None)
    );
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((container.image.as_str(), container.started), ("a:1", Some(true)));
    assert_eq!(container.container_id.as_deref(), Some("containerd://c1"));
}

#[test]
fn nothing_to_count_is_told_apart() {
    let ready = |rollup: &DeploymentStatus| {
        of(
            &show(&mut pod("Always", &["a"]), Shown::Deployed(rollup)),
            "Ready",
        )
    };
    assert_eq!(
        ready(&rollup(Phase::Pending, 0, 0, 0, vec![])),
        "False/NoDevicesTargeted"
    );
    assert_eq!(
        ready(&rollup(Phase::Pending, 0, 5, 5, vec![])),
        "False/AllDevicesOffline"
    );
    let mut joining = rollup(Phase::Pending, 0, 1, 0, vec![]);
    joining.counts = LadderCounts {
        targeted: 1,
        joining: 1,
        ..LadderCounts::default()
    };
    assert_eq!(ready(&joining), "False/DevicesJoining");
    assert_eq!(ready(&rollup(Phase::Running, 19, 20, 1, vec![])), "True/");
}

#[test]
fn no_device_shows_as_the_headline_and_goes_again() {
    let mut pod = pod("Always", &["a"]);
    let status = show(
        &mut pod,
        Shown::Deployed(&rollup(Phase::Pending, 0, 0, 0, vec![])),
    );
    assert_eq!(
        (status.reason.as_deref(), seen(&status, 0).as_str()),
        (Some("NoDevicesTargeted"), "none")
    );
    let words = vec![word("a", "dev-1", running(), 0)];
    let status = show(&mut pod, Shown::Deployed(&rollup(Phase::Running, 1, 1, 0, words)));
    assert_eq!((status.reason, status.message), (None, None));
}

#[test]
fn a_refusal_is_pending_and_names_everything() {
    let mut pod = pod("Always", &["a"]);
    let refusal = Shown::Refused(Refused {
        reason: "UnsupportedField",
        message: "spec.hostNetwork: no; spec.volumes[0].nfs: no",
    });
    let status = show(&mut pod, refusal);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(status.reason.as_deref(), Some("UnsupportedField"));
    assert_eq!(of(&status, TARGETED), "False/UnsupportedField");
    assert_eq!(
        message(&status, "Ready"),
        "spec.hostNetwork: no; spec.volumes[0].nfs: no"
    );
    assert_eq!(seen(&status, 0), "none");
    let status = show(&mut pod, Shown::Stopped(None));
    assert_eq!((status.phase.as_deref(), status.reason), (Some("Failed"), None));
}

#[test]
fn failing_devices_are_named_and_their_words_bounded() {
    let mut status = rollup(Phase::Running, 1, 3, 0, vec![]);
    let failing = |device: &str, message: &str| FailingDevice {
        device: DeviceId::new(device).unwrap(),
        reason: Reason::ImagePullBackOff,
        message: message.to_owned(),
    };
    status.failing = vec![
        failing("dev-2", "not\nfound"),
        failing("dev-3", &"ü".repeat(4000)),
        failing("dev-4", ""),
    ];
    let shown = show(&mut pod("Always", &["a"]), Shown::Deployed(&status));
    let words = message(&shown, HEALTHY);
    assert!(
        words.starts_with(
            "healthy 1, counted 3, targeted 3; dev-2: ImagePullBackOff: not\\u{a}found; dev-3: "
        ),
        "{words}"
    );
    assert!(words.ends_with("…; dev-4: ImagePullBackOff"), "{words}");
    assert!(words.len() < 400, "{}", words.len());
}

#[test]
fn a_stale_word_shows_its_age_and_changes_seldom() {
    let mut status = rollup(Phase::Running, 1, 1, 0, vec![word("a", "dev-1", running(), 0)]);
    let hours = |h: i64| Some(NOW_MS - h * 3_600_000);
    status.as_of_ms = hours(5);
    let shown = show(&mut pod("Always", &["a"]), Shown::Deployed(&status));
    let old = "the oldest word of a counted device is more than 4 hours old";
    assert_eq!(message(&shown, "Ready"), old);
    assert_eq!(
        message(&shown, HEALTHY),
        format!("healthy 1, counted 1, targeted 1; {old}")
    );
    status.as_of_ms = hours(7);
    assert_eq!(
        message(
            &show(&mut pod("Always", &["a"]), Shown::Deployed(&status)),
            "Ready"
        ),
        old
    );
    status.as_of_ms = None;
    assert_eq!(
        message(
            &show(&mut pod("Always", &["a"]), Shown::Deployed(&status)),
            "Ready"
        ),
        ""
    );
}

#[test]
fn a_transition_time_moves_only_with_its_status() {
    let mut pod = pod("Always", &["a"]);
    let since = |pod: &Pod, name: &str| {
        let conditions = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let found = conditions
            .iter()
            .find(|condition| condition.type_ == name)
            .unwrap();
        found.last_transition_time.as_ref().unwrap().0.as_second() - NOW_MS / 1000
    };
    let mut show_at = |status: &DeploymentStatus, after_s: i64| {
        let wanted = pod_status(&pod, Shown::Deployed(status), at(NOW_MS + after_s * 1000));
        let differs = differs(pod.status.as_ref().unwrap(), &wanted);
        patch(&mut pod, &wanted);
        (differs, since(&pod, "Ready"), since(&pod, TARGETED))
    };
    let up = rollup(Phase::Running, 1, 1, 0, vec![word("a", "dev-1", running(), 0)]);
    let down = rollup(
        Phase::Running,
        0,
        1,
        0,
        vec![word("a", "dev-1", waiting(Reason::CrashLoopBackOff), 1)],
    );
    assert_eq!(show_at(&down, 0), (true, 0, 0));
    assert_eq!(show_at(&up, 10), (true, 10, 0));
    assert_eq!(show_at(&up, 20), (false, 10, 0));
    assert_eq!(show_at(&down, 30), (true, 30, 0));
}

#[test]
fn a_deletion_says_how_many_devices_still_stop() {
    let mut status = rollup(Phase::Running, 0, 3, 0, vec![]);
    status.state = DeploymentState::Deleting {
        since_ms: NOW_MS,
        grace_period_s: None,
    };
    status.stopping_online = 2;
    status.stopping_offline = vec![DeviceId::new("dev-9").unwrap()];
    let shown = show(&mut pod("Always", &["a"]), Shown::Deployed(&status));
    assert_eq!(
        message(&shown, TARGETED),
        "targeted 3, counted 3; stopping on 2 connected and 1 offline devices"
    );
}

#[test]
fn a_refused_edit_is_shown_beside_what_runs_until_it_is_undone() {
    let mut pod = pod("Always", &["a"]);
    let running = rollup(Phase::Running, 1, 1, 0, vec![word("a", "dev-1", running(), 0)]);
    let status = show(&mut pod, Shown::Deployed(&running));
    assert_eq!(
        of(&status, SPEC_HONOURED),
        "absent",
        "nothing to say before the first refused edit"
    );
    let refused = Surroundings {
        refused_edit: Some(Refused {
            reason: "UnsupportedField",
            message: "spec.containers[0].resources: no",
        }),
        ..at(NOW_MS)
    };
    let status = show_in(&mut pod, Shown::Deployed(&running), refused);
    assert_eq!(of(&status, SPEC_HONOURED), "False/UnsupportedField");
    assert!(message(&status, SPEC_HONOURED).contains("spec.containers[0].resources"));
    assert_eq!(of(&status, "Ready"), "True/", "what runs is Ready");
    let status = show(&mut pod, Shown::Deployed(&running));
    assert_eq!(of(&status, SPEC_HONOURED), "True/");
    assert_eq!(message(&status, SPEC_HONOURED), "");
}

#[test]
fn a_fleet_pod_is_initialized_once_a_container_ran() {
    let mut pod = pod("Always", &["a"]);
    let init = Container {
        name: "init".to_owned(),
        image: Some("init:1".to_owned()),
        ..Container::default()
    };
    pod.spec.as_mut().unwrap().init_containers = Some(vec![init]);
    let waits = rollup(
        Phase::Pending,
        0,
        2,
        0,
        vec![word("a", "dev-1", waiting(Reason::PodInitializing), 0)],
    );
    let status = show(&mut pod, Shown::Deployed(&waits));
    assert_eq!(of(&status, "Initialized"), "False/ContainersNotInitialized");
    let mut runs = rollup(Phase::Running, 1, 1, 0, vec![word("a", "dev-1", running(), 0)]);
    assert_eq!(
        of(&show(&mut pod, Shown::Deployed(&runs)), "Initialized"),
        "True/"
    );
    // Of a fleet of one more is known.
    let said = word("init", "dev-1", ended(0), 0).status;
    runs.workload = device::spoken(Phase::Running, vec![said], Vec::new()).workload;
    let status = show(&mut pod, Shown::Deployed(&runs));
    let init = &status.init_container_statuses.unwrap()[0];
    let end = init.state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(end.message.as_deref(), Some("on device dev-1"));
    assert_eq!(
        of(&show(&mut pod, Shown::Deployed(&waits)), "Initialized"),
        "True/"
    );
}
