//! The rules of client-go, by its own numbers.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn text(message: &str, happened: Option<i64>) -> EventText {
    EventText {
        warning: true,
        reason: "Failed".into(),
        message: message.into(),
        teller: None,
        field_path: Some("spec.containers{main}".into()),
        at: happened.map(at),
    }
}

fn about(name: &str) -> About {
    About {
        kind: "Pod",
        namespace: Some("shop".into()),
        name: name.into(),
        uid: "u1".into(),
    }
}

fn press() -> Correlator {
    Correlator::new("press-7", 1_024)
}

#[test]
fn an_event_is_a_kubelets() {
    let write = press()
        .tell(&about("web"), text("Error: ErrImagePull", None), at(0))
        .unwrap();
    assert_eq!(
        write.path(),
        "/api/v1/namespaces/shop/events/web.18fae27693b40000"
    );
    assert_eq!(write.changes, None);
    assert_eq!(
        write.event,
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "web.18fae27693b40000", "namespace": "shop"},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web", "uid": "u1", "fieldPath": "spec.containers{main}",
            },
            "type": "Warning", "reason": "Failed", "message": "Error: ErrImagePull",
            "source": {"component": "kubelet", "host": "press-7"},
            "reportingComponent": "kubelet", "reportingInstance": "press-7",
            "firstTimestamp": "2027-01-15T08:00:00Z", "lastTimestamp": "2027-01-15T08:00:00Z", "count": 1,
        })
    );
    let node = About {
        kind: "Node",
        namespace: None,
        name: "press-7".into(),
        uid: "press-7".into(),
    };
    let normal = EventText {
        warning: false,
        field_path: None,
        ..text("m", None)
    };
    let write = press().tell(&node, normal, at(0)).unwrap();
    assert_eq!(write.collection, "/api/v1/namespaces/default/events");
    assert_eq!(write.event["type"], "Normal");
    let involved = json!({"apiVersion": "v1", "kind": "Node", "name": "press-7", "uid": "press-7"});
    assert_eq!(write.event["involvedObject"], involved);
}

#[test]
fn what_says_something_else_is_another_event() {
    let mut told = press();
    let other_part = EventText {
        field_path: None,
        ..text("a", None)
    };
    let normal = EventText {
        warning: false,
        ..text("a", None)
    };
    let writes = [
        told.tell(&about("web"), text("a", None), at(0)),
        told.tell(&about("web"), text("b", None), at(1)),
        told.tell(&about("db"), text("a", None), at(2)),
        told.tell(&about("web"), other_part, at(3)),
        told.tell(&about("web"), normal, at(4)),
    ];
    for write in writes {
        assert_eq!(write.unwrap().changes, None);
    }
    let again = told.tell(&about("web"), text("a", None), at(9_000)).unwrap();
    assert_eq!(again.event["count"], 2, "however long ago");
}

#[test]
fn what_happened_in_the_dark_is_told_with_its_own_time_and_counted() {
    let mut told = press();
    let first = told
        .tell(&about("web"), text("Liveness", Some(-540)), at(60))
        .unwrap();
    assert_eq!(first.event["firstTimestamp"], "2027-01-15T07:51:00Z");
    let second = told
        .tell(&about("web"), text("Liveness", Some(-500)), at(60))
        .unwrap();
    assert_eq!(second.path(), first.path());
    let changes = json!({"count": 2, "lastTimestamp": "2027-01-15T07:51:40Z", "message": "Liveness"});
    assert_eq!(second.changes, Some(changes));
    // For an API server that has forgotten the first.
    assert_eq!(second.event["firstTimestamp"], first.event["firstTimestamp"]);
    assert_eq!(
        (&second.event["count"], &second.event["lastTimestamp"]),
        (&json!(2), &json!("2027-01-15T07:51:40Z"))
    );
    // The next process tells it once more: it is the same.
    let again = press()
        .tell(&about("web"), text("Liveness", Some(-540)), at(90))
        .unwrap();
    assert_eq!(again.path(), first.path());
}

#[test]
fn nothing_happens_later_than_now_and_what_has_no_time_happens_now() {
    for happened in [None, Some(9_000)] {
        let write = press().tell(&about("web"), text("m", happened), at(0)).unwrap();
        assert_eq!(write.event["lastTimestamp"], "2027-01-15T08:00:00Z");
    }
}

#[test]
fn many_messages_of_one_reason_become_one_event() {
    let mut told = press();
    for n in 0..9 {
        let write = told
            .tell(&about("web"), text(&format!("volume {n}"), None), at(n))
            .unwrap();
        assert_eq!(write.event["message"], format!("volume {n}"));
    }
    let tenth = told.tell(&about("web"), text("volume 9", None), at(9)).unwrap();
    assert_eq!(tenth.event["message"], "(combined from similar events): volume 9");
    let more = told.tell(&about("web"), text("volume 10", None), at(10)).unwrap();
    assert_eq!(more.path(), tenth.path());
    let changes = json!({
        "count": 2, "lastTimestamp": "2027-01-15T08:00:10Z", "message": "(combined from similar events): volume 10",
    });
    assert_eq!(more.changes, Some(changes));
    // More than ten minutes after the last they are told one by one again; by the time of the device.
    let later = told
        .tell(&about("web"), text("volume 11", Some(611)), at(9_000))
        .unwrap();
    assert_eq!(later.event["message"], "volume 11");
}

#[test]
fn one_object_has_a_burst_and_then_one_event_in_five_minutes() {
    let mut told = press();
    let mut tell = |name: &str, seconds: i64, now: i64| {
        told.tell(&about(name), text("Back-off", Some(seconds)), at(now))
            .map(|write| write.event["count"].clone())
    };
    for n in 1..=25 {
        assert_eq!(tell("web", 0, 0), Some(json!(n)));
    }
    assert_eq!(tell("web", 1, 1), None);
    assert_eq!(tell("db", 1, 1), Some(json!(1)), "another has its own");
    assert_eq!(
        tell("web", 300, 300),
        Some(json!(27)),
        "what was left out was counted"
    );
    assert_eq!(tell("web", 301, 301), None);
    // In the dark too, by the time of the device, which gains nothing by a time long ago.
    assert_eq!(tell("web", 600, 9_000), Some(json!(29)));
    let mut told = press();
    let ages = (0..2_000).map(|n| -90_000_000 + n * 300);
    let allowed = ages.filter(|age| told.tell(&about("web"), text("m", Some(*age)), at(0)).is_some());
    assert_eq!(allowed.count(), 25);
}

#[test]
fn what_each_device_of_a_fleet_tells_of_one_pod_is_its_own() {
    let mut told = Correlator::new("fleet", 2_000);
    let mut tell = |device: i64, now: i64| {
        let started = EventText {
            teller: Some(format!("press-{device}")),
            ..text(&format!("device press-{device}: started"), None)
        };
        told.tell(&about("web"), started, at(now)).unwrap()
    };
    for device in 0..2_000 {
        let write = tell(device, device);
        let message = format!("device press-{device}: started");
        assert_eq!((&write.event["message"], write.changes), (&json!(message), None));
    }
    // All are remembered, and then who spoke least lately is not.
    assert_eq!(tell(0, 3_000).event["count"], 2);
    assert_eq!(tell(2_000, 3_000).event["count"], 1);
    assert_eq!(tell(0, 3_000).event["count"], 3);
    assert_eq!(tell(1, 3_000).event["count"], 1);
}

#[test]
fn a_clock_that_was_ahead_holds_up_nothing() {
    const YEAR: i64 = 365 * 24 * 3_600;
    let mut told = press();
    for n in 0..25 {
        told.tell(&about("web"), text(&format!("volume {n}"), None), at(YEAR))
            .unwrap();
    }
    assert_eq!(told.tell(&about("web"), text("volume 25", None), at(0)), None);
    let later = told
        .tell(&about("web"), text("volume 26", None), at(611))
        .unwrap();
    assert_eq!(later.event["message"], "volume 26");
}

#[test]
fn it_is_bounded() {
    let mut told = press();
    for n in 0..3_000 {
        let long = EventText {
            reason: "é".repeat(200),
            ..text(&"é".repeat(4_000), None)
        };
        let name = format!("{}{n}", "a".repeat(250));
        let About { kind, namespace, .. } = about("");
        let one = About {
            kind,
            namespace,
            uid: n.to_string(),
            name,
        };
        let write = told.tell(&one, long, at(n / 100)).unwrap();
        assert!(write.name.len() <= 253);
        assert!(write.event["reason"].as_str().unwrap().len() <= WORD);
        assert!(write.event["message"].as_str().unwrap().len() <= MESSAGE);
    }
    assert_eq!(told.held(), 1_024);
}
