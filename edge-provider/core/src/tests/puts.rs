//! When a deployment is put, and with what in it.

use edge_protocol::v1::DeploymentState;

use super::*;

#[test]
fn nothing_is_sent_before_both_sides_are_known() {
    let mut rig = Rig::cold();
    rig.pods.insert(id("a"), pod("a"));
    assert!(puts(&rig.see(pod("a"))).is_empty());
    assert!(puts(&rig.list()).is_empty());
    assert!(removals(&rig.delete("gone", DeletionCause::Intent, None)).is_empty());
    rig.pods.remove(&id("gone"));
    let effects = rig.list_deployments();
    assert_eq!(puts(&effects).len(), 1);
    assert_eq!(finishes(&effects), ["gone"]);
}

#[test]
fn the_order_of_the_first_lists_does_not_matter() {
    for pods_first in [true, false] {
        let mut rig = Rig::cold();
        rig.pods.insert(id("a"), pod("a"));
        if pods_first {
            rig.list();
            rig.list_deployments();
        } else {
            rig.list_deployments();
            rig.list();
        }
        assert_eq!(rig.state("a"), Some(DeploymentState::Active));
        assert_eq!(rig.hub[&id("a")].spec.source, source());
        assert_eq!(rig.hub[&id("a")].spec.node_uid.as_deref(), Some(NODE));
    }
}

#[test]
fn a_put_is_sent_only_for_another_content() {
    let mut rig = Rig::with_pods(&["a"]);
    assert!(puts(&rig.see(pod("a"))).is_empty());
    assert!(puts(&rig.list_twice()).is_empty());
    assert!(puts(&rig.list_deployments()).is_empty());
    let mut changed = pod("a");
    changed.plan.as_mut().unwrap().target.condition = "tags.zone = 'a'".into();
    assert_eq!(puts(&rig.see(changed.clone())).len(), 1);
    assert!(puts(&rig.see(changed)).is_empty());
}

/// A hub that was restored does not know what the devices got after its backup, and overrules them only for one who asks now (law 4).
#[test]
fn what_a_restored_hub_holds_is_asked_for_again_whatever_it_is() {
    let mut rig = Rig::with_pods(&["runs", "ends", "orphan", "other"]);
    rig.owing = 1;
    rig.delete("ends", DeletionCause::Intent, None);
    rig.delete("orphan", DeletionCause::Reaction, None);
    assert_eq!(puts(&rig.unconfirm("runs")), [rig.hub[&id("runs")].spec.clone()]);
    assert_eq!(deletes(&rig.unconfirm("ends")), ["ends"]);
    assert!(removals(&rig.list_deployments()).is_empty(), "once");
    assert!(puts(&rig.list_deployments()).is_empty(), "once");
    let effects = rig.unconfirm("orphan");
    assert_eq!((releases(&effects).len(), removals(&effects).len()), (1, 1));
}

#[test]
fn a_restart_puts_nothing_again() {
    let mut rig = Rig::with_pods(&["a", "b"]);
    rig.seen.clear();
    rig.restart();
    assert!(puts(&rig.seen).is_empty());
}

#[test]
fn other_bytes_of_the_same_manifest_change_nothing() {
    let mut rig = Rig::with_pods(&["a"]);
    let stored = &mut rig.hub.get_mut(&id("a")).unwrap().spec.manifest;
    let value: serde_json::Value = serde_json::from_str(stored).unwrap();
    *stored = serde_json::to_string_pretty(&value).unwrap();
    rig.seen.clear();
    rig.restart();
    assert!(puts(&rig.seen).is_empty());
}

#[test]
fn node_uid_is_kept_from_the_first_put() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.node_uid = Some("node-2".into());
    rig.restart();
    let mut changed = pod("a");
    changed.plan.as_mut().unwrap().target.condition = "x".into();
    let effects = rig.see(changed);
    assert_eq!(puts(&effects)[0].node_uid.as_deref(), Some(NODE));
    assert_eq!(puts(&rig.see(pod("b")))[0].node_uid.as_deref(), Some("node-2"));
}

#[test]
fn a_node_that_was_made_anew_is_known_before_the_next_list() {
    let mut rig = Rig::with_pods(&[]);
    let uid = Some("node-2".to_owned());
    rig.input(Input::NodeSeen { uid: uid.clone() });
    assert_eq!(puts(&rig.see(pod("a")))[0].node_uid, uid);
}

/// The pod may have gone with the Node before the new one was made.
#[test]
fn a_pod_is_bound_to_no_node_that_is_younger_than_its_last_sight() {
    let mut rig = Rig::cold();
    rig.node_uid = None;
    rig.pods.insert(id("a"), pod("a"));
    rig.list();
    rig.node_uid = Some("node-2".into());
    rig.input(Input::NodeSeen {
        uid: rig.node_uid.clone(),
    });
    rig.list_deployments();
    assert_eq!(rig.hub[&id("a")].spec.node_uid, None);
    rig.pods.clear();
    rig.list();
    rig.now_ms += crate::inference::ABSENCE_MS;
    rig.list();
    assert_eq!((deletes(&rig.seen), releases(&rig.seen)), (vec![], vec!["a"]));
}

#[test]
fn a_node_uid_that_was_not_known_is_filled_in_once() {
    let mut rig = Rig::cold();
    rig.node_uid = None;
    rig.list_deployments();
    rig.list();
    assert_eq!(puts(&rig.see(pod("a")))[0].node_uid, None);
    let uid = Some(NODE.to_owned());
    rig.input(Input::NodeSeen { uid: uid.clone() });
    assert_eq!(puts(&rig.see(pod("a")))[0].node_uid, uid);
    rig.input(Input::NodeSeen {
        uid: Some("node-2".into()),
    });
    assert!(puts(&rig.see(pod("a"))).is_empty());
}

#[test]
fn an_unavailable_hub_is_retried_for_ever_and_changes_nothing_else() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.hub_down = true;
    let effects = rig.see(pod("b"));
    assert_eq!(last_view(&effects, "b"), Some(PodView::Accepted));
    for _ in 0..50 {
        let effects = rig.wake_in(60_001);
        assert_eq!(puts(&effects).len(), 1);
        assert!(removals(&effects).is_empty());
        let Some(Note::Retried { in_ms, .. }) = notes(&effects).pop() else {
            panic!("no retry in {effects:?}")
        };
        assert!((1..=60_000).contains(&in_ms));
    }
    rig.hub_down = false;
    rig.wake_in(60_001);
    assert_eq!(rig.state("b"), Some(DeploymentState::Active));
}

#[test]
fn a_put_that_the_hub_refuses_is_shown_and_not_repeated_at_once() {
    let mut rig = Rig::with_pods(&[]);
    let now = |rig: &Rig| Now {
        mono_ms: rig.now_ms,
        wall_ms: 0,
        boot_id: BootId(uuid::Uuid::nil()),
    };
    let at = now(&rig);
    let effects = rig.bridge.step(at, Input::PodSeen(Box::new(pod("a"))));
    let Some(Effect::Put { op, .. }) = effects.first() else {
        panic!("{effects:?}")
    };
    let outcome = Outcome::Refused {
        reason: "BadCondition",
        message: "at 3".into(),
    };
    let effects = rig.bridge.step(at, Input::Ended { op: *op, outcome });
    assert!(
        matches!(last_view(&effects, "a"), Some(PodView::Refused(refusal)) if refusal.reason == "BadCondition")
    );
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Event { .. }))
    );
    rig.pods.insert(id("a"), pod("a"));
    assert!(puts(&rig.list_twice()).is_empty());
    let mut mended = pod("a");
    mended.plan.as_mut().unwrap().target.condition = "x".into();
    assert_eq!(puts(&rig.see(mended)).len(), 1);
}

#[test]
fn a_refused_plan_reaches_no_device_and_is_told_once() {
    let mut rig = Rig::with_pods(&[]);
    let events = |effects: &[Effect]| {
        effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Event { .. }))
            .count()
    };
    let effects = rig.see(refused("a", "spec.hostPID"));
    assert!(puts(&effects).is_empty());
    assert!(matches!(last_view(&effects, "a"), Some(PodView::Refused(_))));
    assert_eq!(events(&effects), 1);
    assert_eq!(events(&rig.see(refused("a", "spec.hostPID"))), 0);
    assert_eq!(events(&rig.list()), 0);
    assert_eq!(events(&rig.see(refused("a", "spec.hostIPC"))), 1);
    assert_eq!(finishes(&rig.delete("a", DeletionCause::Intent, Some(30))), ["a"]);
}

#[test]
fn a_pod_that_becomes_refused_keeps_what_runs() {
    let mut rig = Rig::with_pods(&["a"]);
    let effects = rig.see(refused("a", "namespace lost its entry"));
    assert!(removals(&effects).is_empty());
    assert!(matches!(
        last_view(&effects, "a"),
        Some(PodView::EditRefused { .. })
    ));
    assert_eq!(rig.state("a"), Some(DeploymentState::Active));
}

#[test]
fn a_pod_in_a_final_phase_is_not_started() {
    let mut rig = Rig::with_pods(&[]);
    let mut done = pod("a");
    done.terminal = true;
    assert!(puts(&rig.see(done)).is_empty());
}

#[test]
fn a_new_pod_takes_the_place_of_one_orphan_of_its_line() {
    let mut rig = Rig::with_pods(&[]);
    for uid in ["a", "b", "c"] {
        rig.see(pod_of(uid, "1", UpdateStrategy::Surge));
    }
    for uid in ["a", "b"] {
        rig.delete(uid, DeletionCause::Reaction, Some(30));
    }
    let take = |rig: &mut Rig, uid| replaced(&puts(&rig.see(pod_of(uid, "1", UpdateStrategy::Surge)))[0]);
    assert_eq!(take(&mut rig, "x"), ["a"]);
    assert_eq!(take(&mut rig, "y"), ["b"]);
    assert!(take(&mut rig, "z").is_empty());
}

/// The second successor came before the first had taken the place on every device: on a dark one the first orphan still runs.
#[test]
fn a_successor_of_a_successor_takes_all_their_places() {
    let mut rig = Rig::with_pods(&[]);
    let take = |rig: &mut Rig, uid| replaced(&puts(&rig.see(pod_of(uid, "1", UpdateStrategy::Surge)))[0]);
    take(&mut rig, "c");
    rig.delete("c", DeletionCause::Reaction, Some(30));
    assert_eq!(take(&mut rig, "b"), ["c"]);
    rig.delete("b", DeletionCause::Reaction, Some(30));
    assert_eq!(take(&mut rig, "a"), ["b", "c"]);
}

/// So does an update that comes before the one before it is through.
#[test]
fn an_update_of_an_update_takes_both_their_places() {
    let mut rig = Rig::with_pods(&[]);
    let take =
        |rig: &mut Rig, uid, hash| replaced(&puts(&rig.see(pod_of(uid, hash, UpdateStrategy::Replace)))[0]);
    take(&mut rig, "a", "1");
    assert_eq!(take(&mut rig, "b", "2"), ["a"]);
    assert_eq!(take(&mut rig, "c", "3"), ["b", "a"]);
}

#[test]
fn claims_outlive_a_restart_and_later_puts_keep_them() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.vanish("a", DeletionCause::Reaction);
    let mut successor = pod("b");
    successor.name = "pod-a".into();
    assert_eq!(replaced(&puts(&rig.see(successor.clone()))[0]), ["a"]);
    rig.restart();
    let mut third = pod("c");
    third.name = "pod-a".into();
    assert!(replaced(&puts(&rig.see(third))[0]).is_empty());
    successor
        .plan
        .as_mut()
        .unwrap()
        .manifest
        .labels
        .insert("x".into(), "y".into());
    assert_eq!(replaced(&puts(&rig.see(successor))[0]), ["a"]);
}

#[test]
fn replace_takes_the_older_revisions_and_surge_none() {
    for (update, expected) in [
        (UpdateStrategy::Surge, vec![]),
        (UpdateStrategy::Replace, vec!["a", "b"]),
    ] {
        let mut rig = Rig::with_pods(&[]);
        rig.see(pod_of("a", "1", update));
        rig.see(pod_of("b", "1", update));
        rig.see(pod("stranger"));
        let first = rig.see(pod_of("x", "2", update));
        assert_eq!(replaced(&puts(&first)[0]), expected);
        let sibling = rig.see(pod_of("y", "2", update));
        assert!(replaced(&puts(&sibling)[0]).is_empty());
    }
}

#[test]
fn the_first_put_waits_for_the_fate_of_a_missing_predecessor() {
    let mut rig = Rig::with_pods(&[]);
    rig.see(pod_of("a", "1", UpdateStrategy::Surge));
    rig.pods.clear();
    rig.node_uid = Some("node-2".into());
    rig.restart();
    let effects = rig.see(pod_of("b", "1", UpdateStrategy::Surge));
    assert!(puts(&effects).is_empty());
    assert!(matches!(&notes(&effects)[..], [Note::PutWaits { missing, .. }] if missing.as_str() == "a"));
    assert!(!puts(&rig.see(pod("stranger"))).is_empty());
    rig.list();
    let asked = rig.wake_in(60_000);
    assert!(asked.contains(&Effect::ListPods), "{asked:?}");
    let effects = rig.list();
    assert_eq!(releases(&effects), ["a"]);
    assert_eq!(replaced(&puts(&effects)[0]), ["a"]);
}

#[test]
fn a_refused_put_is_tried_again_seldom_and_whenever_the_hub_is_listed() {
    let mut rig = Rig::with_pods(&[]);
    rig.hub_refuses = true;
    let told = |effects: &[Effect]| {
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Event { .. }))
    };
    assert!(told(&rig.see(pod("a"))));
    let quiet = rig.wake_in(299_999);
    assert!(puts(&quiet).is_empty());
    let again = rig.wake_in(1);
    assert_eq!(puts(&again).len(), 1);
    assert!(!told(&again), "the same refusal is told once");
    let listed = rig.list_deployments();
    assert_eq!(puts(&listed).len(), 1);
    assert!(matches!(last_view(&rig.list(), "a"), Some(PodView::Refused(_))));
    rig.hub_refuses = false;
    rig.wake_in(300_000);
    assert_eq!(rig.state("a"), Some(DeploymentState::Active), "the grant came");
}

/// Owner references are its author's to write: a pod of another namespace may name any controller.
#[test]
fn nothing_of_another_namespace_is_replaced() {
    for update in [UpdateStrategy::Surge, UpdateStrategy::Replace] {
        let mut rig = Rig::with_pods(&[]);
        rig.see(pod_of("orphan", "1", update));
        rig.see(pod_of("active", "1", update));
        rig.delete("orphan", DeletionCause::Reaction, Some(30));
        let mut stranger = pod_of("x", "2", update);
        stranger.namespace = "other".into();
        stranger.name = "pod-orphan".into();
        assert!(replaced(&puts(&rig.see(stranger))[0]).is_empty());
    }
}
