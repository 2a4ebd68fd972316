//! Whom a deployment is for: conditions, tags, claims, and calls that are refused.

use edge_protocol::ItemState;
use edge_protocol::v1::{DeploymentState, LinkClass};
use iot_hub_core::{Call, CallError, Change, DeviceState, Enrolment, Write};

use crate::support::World;
use crate::support::build::{
    delete, device, enrol_again, enrol_call, enrolment, pod, release, sealing_key, serial, tag_map, wanted,
};

#[test]
fn a_deployment_reaches_exactly_the_devices_that_match() {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    let two = world.enrol("two", &[("site", "b")]);
    world.connect(&one);
    world.connect(&two);
    world.call(wanted("p", "tags.site = 'a'").put()).unwrap();
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
    assert!(world.running(&two).is_empty());
    assert!(world.status(&pod("p")).ready);
}

#[test]
fn devices_that_start_or_stop_matching_are_followed_at_once() {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    let two = world.enrol("two", &[("site", "b")]);
    world.connect(&one);
    world.connect(&two);
    world.call(wanted("p", "tags.site = 'a'").put()).unwrap();
    world.settle();
    world.set_tags(&one, &[("site", "b")]);
    world.set_tags(&two, &[("site", "a")]);
    world.settle();
    assert!(world.running(&one).is_empty());
    assert_eq!(world.running(&two), ["p"]);
    // The tombstone is acknowledged and forgotten.
    assert!(world.store.sets[&one].items.is_empty());
    assert_eq!(world.status(&pod("p")).counts.targeted, 1);
    let three = world.enrol("three", &[("site", "a")]);
    world.connect(&three);
    world.settle();
    assert_eq!(world.running(&three), ["p"]);
}

#[test]
fn the_scope_is_anded_for_ever() {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    let mut deployment = wanted("p", "* OR tags.site = 'a'");
    deployment.spec.target.scope = "tags.site = 'b'".to_owned();
    world.call(deployment.put()).unwrap();
    assert!(world.store.assignments.is_empty());
    world.set_tags(&one, &[("site", "b")]);
    assert_eq!(world.store.assignments.len(), 1);
}

#[test]
fn a_claim_brings_work_but_never_takes_it_away() {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    world.connect(&one);
    world
        .call(wanted("p", "tags.site = 'a' AND facts.arch = 'arm64'").put())
        .unwrap();
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
    let starts = world.models[&one].starts.clone();

    world.disconnect(&one);
    "amd64".clone_into(&mut world.models.get_mut(&one).unwrap().facts.arch);
    world.connect(&one);
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
    // Another manifest still reaches it.
    world
        .call(
            wanted("p", "tags.site = 'a' AND facts.arch = 'arm64'")
                .image("app:2")
                .put(),
        )
        .unwrap();
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
    assert_eq!(world.models[&one].starts, starts);
    // An unrelated tag changes nothing; the one of the condition does.
    world.set_tags(&one, &[("site", "a"), ("x", "y")]);
    world.settle();
    assert_eq!(world.running(&one), ["p"]);
    world.set_tags(&one, &[("site", "b")]);
    world.settle();
    assert!(world.running(&one).is_empty());
}

#[test]
fn an_authoritative_term_takes_work_away_even_where_a_claim_could_have_kept_it() {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    world.connect(&one);
    world
        .call(wanted("p", "tags.site = 'a' OR facts.arch = 'amd64'").put())
        .unwrap();
    world.settle();
    world.set_tags(&one, &[("site", "b")]);
    world.settle();
    assert!(world.running(&one).is_empty());
}

#[test]
fn putting_the_same_again_changes_nothing_and_other_content_is_a_revision() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    world.call(wanted("p", "*").put()).unwrap();
    let (written, generation) = (world.store.written.len(), world.generation(&one));
    world.call(wanted("p", "*").put()).unwrap();
    assert_eq!(
        (world.store.written.len(), world.generation(&one)),
        (written, generation)
    );

    world.call(wanted("p", "*").image("app:2").put()).unwrap();
    let view = world.hub.deployment(&pod("p")).unwrap();
    assert_eq!(view.record.revision.0, 2);
    assert_eq!(world.generation(&one).n, generation.n + 1);

    // A change that leaves the manifest alone is no news to a device.
    world
        .call(wanted("p", "deviceId = 'one'").image("app:2").put())
        .unwrap();
    assert_eq!(world.hub.deployment(&pod("p")).unwrap().record.revision.0, 3);
    assert_eq!(world.generation(&one).n, generation.n + 1);
}

#[test]
fn a_changed_condition_moves_the_work() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    let two = world.enrol("two", &[]);
    world.connect(&one);
    world.connect(&two);
    world.call(wanted("p", "deviceId = 'one'").put()).unwrap();
    world.settle();
    world.call(wanted("p", "deviceId = 'two'").put()).unwrap();
    world.settle();
    assert!(world.running(&one).is_empty());
    assert_eq!(world.running(&two), ["p"]);
}

#[track_caller]
fn check_refused(call: Call, expect: &CallError) {
    let mut world = World::new();
    world.enrol("one", &[]);
    world.call(wanted("held", "*").put()).unwrap();
    let written = world.store.written.len();
    assert_eq!(world.call(call).as_ref(), Err(expect));
    assert_eq!(
        world.store.written.len(),
        written,
        "a refused call changed something"
    );
}

#[test]
fn what_is_not_valid_is_refused_and_changes_nothing() {
    check_refused(
        wanted("p", "tags.a = ").put(),
        &CallError::BadCondition {
            field: "condition",
            position: 10,
            message: "expected a text in single quotes or a number".to_owned(),
        },
    );
    let mut scoped = wanted("p", "*");
    scoped.spec.target.scope = "x".to_owned();
    let mut world = World::new();
    let refused = world.call(scoped.put());
    assert!(
        matches!(
            refused,
            Err(CallError::BadCondition {
                field: "scope",
                position: 1,
                ..
            })
        ),
        "{refused:?}"
    );

    let mut other = wanted("p", "*");
    other.manifest.uid = pod("q");
    check_refused(
        other.put(),
        &CallError::BadManifest("its uid q is not the deployment's".to_owned()),
    );
    let mut garbage = wanted("p", "*").spec();
    garbage.manifest = "[]".to_owned();
    let refused = world.call(Call::PutDeployment {
        spec: Box::new(garbage),
        objects: Vec::new(),
    });
    assert!(matches!(refused, Err(CallError::BadManifest(_))), "{refused:?}");
    let large = wanted("p", "*").label("big", "x".repeat(1 << 20));
    assert!(matches!(world.call(large.put()), Err(CallError::BadManifest(_))));

    let mut foreign = wanted("held", "*").image("evil");
    foreign.spec.source.node = "other".to_owned();
    check_refused(foreign.put(), &CallError::NotYours);
    let mut theirs = delete(&pod("held"), None);
    if let Call::DeleteDeployment { source_node, .. } = &mut theirs {
        *source_node = Some("other".to_owned());
    }
    check_refused(theirs, &CallError::NotYours);
    check_refused(delete(&pod("p"), None), &CallError::NoSuchDeployment(pod("p")));
    check_refused(release(&pod("p")), &CallError::NoSuchDeployment(pod("p")));
    check_refused(
        Call::SetTags {
            device: device("no"),
            tags: tag_map(&[]),
        },
        &CallError::NoSuchDevice(device("no")),
    );
    check_refused(
        Call::SetTags {
            device: device("one"),
            tags: tag_map(&[("a", "b\n")]),
        },
        &CallError::BadTags("'b\\u{a}' contains control characters".to_owned()),
    );
}

#[test]
fn secrets_need_an_authoritative_term() {
    let mut world = World::new();
    let sealed = |condition: &str| wanted("p", condition).object("Secret", "s", "sealed").put();
    let refused = world.call(sealed("facts.arch = 'arm64'"));
    assert!(
        matches!(refused, Err(CallError::BadCondition { .. })),
        "{refused:?}"
    );
    world
        .call(sealed("facts.arch = 'arm64' AND group = 'plant'"))
        .unwrap();
}

#[test]
fn a_further_enrolment_keeps_what_people_said_of_the_device() {
    let mut world = World::new();
    let one = world.enrol("one", &[("site", "a")]);
    world.set_tags(&one, &[("site", "b")]);
    world.connect(&one);
    let second = Enrolment {
        link: LinkClass::Satellite,
        ..enrolment(2, &[("site", "a")])
    };
    world.call(enrol_again("one", second.clone())).unwrap();
    let record = world.hub.device(&one).unwrap().record;
    assert_eq!((record.enrolment, record.link), (serial(2), LinkClass::default()));
    assert_eq!(record.sealing_key, sealing_key(2));
    assert_eq!(record.tags["site"], "b");
    let second = Enrolment {
        expected_previous: None,
        ..second
    };
    world.call(enrol_again("two", second)).unwrap();
    let new = world.store.devices[&device("two")].clone();
    assert_eq!((new.tags["site"].as_str(), new.link), ("a", LinkClass::Satellite));
    assert_eq!(world.cuts.last().unwrap().2, "enrolled again");
    // The old key opens nothing any more.
    world.models.get_mut(&one).unwrap().lose_link();
    world.connect(&one);
    assert_eq!(world.cuts.last().unwrap().2, "not an active enrolment");
}

#[test]
fn a_decommissioned_device_leaves_every_roll_up() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    let two = world.enrol("two", &[]);
    world.connect(&one);
    world.connect(&two);
    world.call(wanted("p", "*").put()).unwrap();
    world.call(wanted("q", "*").put()).unwrap();
    world.settle();
    world.disconnect(&two);
    world.call(delete(&pod("q"), None)).unwrap();
    world.settle();
    world.set_state(&two, DeviceState::Decommissioned);
    assert_eq!(world.status(&pod("p")).counts.targeted, 1);
    // It was the last that owed.
    assert!(world.hub.deployment(&pod("q")).is_none());
    assert!(world.changes.contains(&Change::DeploymentEnded { uid: pod("q") }));
    // What it never acknowledged may still run: its id is not given again.
    assert_eq!(
        world.call(enrol_again("two", enrolment(2, &[]))),
        Err(CallError::TombstonesLive {
            device: two,
            count: 1
        })
    );
    world.set_state(&one, DeviceState::Decommissioned);
    assert_eq!(world.status(&pod("p")).counts.targeted, 0);
    world.call(enrol_again("one", enrolment(2, &[]))).unwrap();
    assert_eq!(world.status(&pod("p")).counts.targeted, 1);
}

#[test]
fn one_tag_change_among_ten_thousand_devices_touches_only_its_own() {
    let mut world = World::new();
    for n in 0..10_000 {
        let site = format!("site-{}", n % 100);
        world
            .call(enrol_call(&format!("d{n}"), &[("site", &site)]))
            .unwrap();
    }
    for n in 0..100 {
        let condition = format!("tags.site = 'site-{n}'");
        world.call(wanted(&format!("p{n}"), &condition).put()).unwrap();
    }
    assert_eq!(world.store.assignments.len(), 10_000);
    let before = world.store.written.len();
    world.set_tags(&device("d7"), &[("site", "site-8")]);
    let touched = &world.store.written[before..];
    for write in touched {
        match write {
            Write::PutDevice(record) => assert_eq!(record.id, device("d7")),
            Write::PutDeviceSet { device: id, set } => {
                assert_eq!(*id, device("d7"));
                // It was never told of the first one: nothing to stop.
                let items: Vec<_> = set
                    .items
                    .iter()
                    .map(|item| (item.uid.as_str(), item.state))
                    .collect();
                assert_eq!(items, [("p8", ItemState::Run)]);
            }
            Write::PutAssignment(record) => {
                assert_eq!((&record.uid, &record.device), (&pod("p8"), &device("d7")));
            }
            Write::DropAssignment { uid, device: id } => assert_eq!((uid, id), (&pod("p7"), &device("d7"))),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(touched.len(), 4);
}

#[test]
fn release_keeps_the_workload_and_a_returned_pod_takes_it_back() {
    let mut world = World::new();
    let one = world.enrol("one", &[]);
    world.connect(&one);
    world.call(wanted("p", "*").put()).unwrap();
    world.settle();
    world.call(release(&pod("p"))).unwrap();
    world.settle();
    assert_eq!(
        world.store.sets[&one].items.get(&pod("p")).unwrap().state,
        ItemState::Orphan
    );
    assert_eq!(world.running(&one), ["p"]);
    assert!(matches!(
        world.status(&pod("p")).state,
        DeploymentState::Released { .. }
    ));
    assert!(world.status(&pod("p")).ready, "an orphan's word counts on");
    // Nobody new is given an orphan, and scope does not take it away.
    let two = world.enrol("two", &[]);
    assert!(world.store.sets[&two].items.is_empty());

    world.call(wanted("p", "*").put()).unwrap();
    world.settle();
    assert_eq!(
        world.store.sets[&one].items.get(&pod("p")).unwrap().state,
        ItemState::Run
    );
    // Orphan and run again are each a newer item than the one before.
    assert_eq!(world.hub.deployment(&pod("p")).unwrap().record.revision.0, 3);
    assert_eq!(world.models[&one].starts[&pod("p")], 1);
    assert_eq!(world.store.sets[&two].items.len(), 1);
}
