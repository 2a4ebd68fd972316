//! Explicit ends: intent stops, reaction releases, and the pod object goes when it may.

use super::*;

#[test]
fn intent_deletes_and_finishes_when_no_online_device_owes() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.owing = 2;
    let effects = rig.delete("a", DeletionCause::Intent, Some(30));
    assert_eq!(deletes(&effects), ["a"]);
    assert!(finishes(&effects).is_empty());
    let mut stopped = rig.hub[&id("a")].clone();
    stopped.status.stopping_online = 0;
    stopped.status.stopping_offline = vec!["far".parse().unwrap()];
    let effects = rig.input(Input::DeploymentChanged(Box::new(stopped)));
    assert_eq!(finishes(&effects), ["a"]);
    assert!(matches!(
        last_view(&effects, "a"),
        Some(PodView::Stopped(Some(_)))
    ));
    assert!(finishes(&rig.list_deployments()).is_empty(), "once is enough");
}

#[test]
fn the_one_device_of_a_node_holds_its_pod_until_it_has_answered() {
    let mut rig = Rig::cold();
    let config = BridgeConfig {
        dark: Dark::Holds,
        ..BridgeConfig::new("outrigger")
    };
    rig.bridge = Bridge::new(config, Memory::default(), 1);
    rig.pods.insert(id("a"), pod("a"));
    rig.list_deployments();
    rig.list();
    rig.owing = 1;
    rig.delete("a", DeletionCause::Intent, Some(30));
    let mut dark = rig.hub[&id("a")].clone();
    dark.status.stopping_online = 0;
    dark.status.stopping_offline = vec!["far".parse().unwrap()];
    let effects = rig.input(Input::DeploymentChanged(Box::new(dark)));
    assert!(finishes(&effects).is_empty(), "nobody knows what runs there");
    rig.hub.clear();
    let effects = rig.input(Input::DeploymentEnded { uid: id("a") });
    assert_eq!(finishes(&effects), ["a"]);
}

#[test]
fn the_end_of_the_deployment_finishes_too() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.owing = 1;
    rig.delete("a", DeletionCause::Intent, None);
    rig.hub.clear();
    let effects = rig.input(Input::DeploymentEnded { uid: id("a") });
    assert_eq!(finishes(&effects), ["a"]);
    assert!(matches!(
        last_view(&effects, "a"),
        Some(PodView::Stopped(Some(_)))
    ));
}

#[test]
fn a_deployment_that_is_not_yet_deleting_does_not_finish_the_pod() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.hub_down = true;
    let effects = rig.delete("a", DeletionCause::Intent, None);
    assert!(finishes(&effects).is_empty());
    assert!(finishes(&rig.list_deployments()).is_empty());
    rig.hub_down = false;
    assert_eq!(finishes(&rig.wake_in(60_001)), ["a"]);
}

#[test]
fn only_a_shorter_grace_is_sent_again() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.owing = 1;
    let check = |rig: &mut Rig, grace, sent: usize| {
        let effects = rig.delete("a", DeletionCause::Intent, grace);
        assert_eq!(deletes(&effects).len(), sent, "{grace:?}");
    };
    check(&mut rig, Some(30), 1);
    check(&mut rig, Some(30), 0);
    check(&mut rig, None, 0);
    check(&mut rig, Some(60), 0);
    check(&mut rig, Some(1), 1);
    rig.seen.clear();
    rig.restart();
    assert!(deletes(&rig.seen).is_empty());
}

#[test]
fn nothing_is_put_after_a_deletion() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.owing = 1;
    rig.delete("a", DeletionCause::Intent, None);
    assert!(puts(&rig.see(pod("a"))).is_empty(), "an old state of the object");
    rig.hub.clear();
    rig.input(Input::DeploymentEnded { uid: id("a") });
    assert!(puts(&rig.seen).is_empty());
}

#[test]
fn a_put_that_may_have_arrived_is_deleted_before_the_pod_goes() {
    let mut rig = Rig::with_pods(&[]);
    rig.hub_down = true;
    rig.see(pod("a"));
    let effects = rig.delete("a", DeletionCause::Intent, None);
    assert!(finishes(&effects).is_empty());
    rig.hub_down = false;
    let effects = rig.wake_in(60_001);
    assert_eq!(deletes(&effects), ["a"]);
    assert_eq!(finishes(&effects), ["a"], "the hub never had it");
    assert!(matches!(last_view(&effects, "a"), Some(PodView::Stopped(None))));
}

#[test]
fn a_reaction_releases_and_finishes_at_once() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.owing = 3;
    let effects = rig.delete("a", DeletionCause::Reaction, Some(30));
    assert_eq!(releases(&effects), ["a"]);
    assert_eq!(finishes(&effects), ["a"]);
    assert!(deletes(&effects).is_empty());
    assert!(matches!(last_view(&effects, "a"), Some(PodView::Deployed(_))));
}

#[test]
fn the_release_is_at_the_hub_before_the_pod_object_goes() {
    let mut rig = Rig::with_pods(&["a"]);
    rig.hub_down = true;
    assert!(finishes(&rig.delete("a", DeletionCause::Reaction, Some(30))).is_empty());
    rig.hub_down = false;
    assert_eq!(finishes(&rig.wake_in(60_001)), ["a"]);
}

#[test]
fn disconnect_replace_declares_the_reaction_to_be_intent() {
    let mut rig = Rig::with_pods(&[]);
    let replaceable = WantedPod {
        disconnect: Disconnect::Replace,
        ..pod("a")
    };
    rig.see(replaceable);
    let effects = rig.delete("a", DeletionCause::Reaction, Some(30));
    assert_eq!(deletes(&effects), ["a"]);
    assert!(releases(&effects).is_empty());
}

#[test]
fn a_forced_delete_stops_and_a_garbage_collected_pod_is_released() {
    let mut rig = Rig::with_pods(&["a", "b"]);
    let effects = rig.vanish("a", DeletionCause::Intent);
    assert_eq!(deletes(&effects), ["a"]);
    let effects = rig.vanish("b", DeletionCause::Reaction);
    assert_eq!(releases(&effects), ["b"]);
    assert!(deletes(&effects).is_empty());
    assert!(finishes(&rig.seen).is_empty(), "there is no object to finish");
}

#[test]
fn intent_may_follow_a_release_but_not_the_reverse() {
    let mut rig = Rig::with_pods(&["a", "b"]);
    rig.hub_down = true;
    rig.delete("a", DeletionCause::Reaction, None);
    rig.delete("a", DeletionCause::Intent, None);
    rig.delete("b", DeletionCause::Intent, None);
    rig.delete("b", DeletionCause::Reaction, None);
    rig.hub_down = false;
    rig.wake_in(60_001);
    for uid in ["a", "b"] {
        assert!(
            matches!(rig.state(uid), Some(DeploymentState::Deleting { .. })),
            "{uid}"
        );
    }
}

#[test]
fn a_finish_that_fails_is_repeated() {
    let mut rig = Rig::with_pods(&[]);
    let now = Now {
        mono_ms: rig.now_ms,
        wall_ms: 0,
        boot_id: BootId(uuid::Uuid::nil()),
    };
    let mut doomed = refused("a", "x");
    doomed.deletion = Some(Deletion {
        grace_period_s: None,
        cause: DeletionCause::Intent,
    });
    let effects = rig.bridge.step(now, Input::PodSeen(Box::new(doomed)));
    let Some(Effect::Finish { op, .. }) = effects.last() else {
        panic!("{effects:?}")
    };
    let outcome = Outcome::Unavailable {
        message: "503".into(),
    };
    rig.input(Input::Ended { op: *op, outcome });
    assert_eq!(finishes(&rig.wake_in(60_001)), ["a"]);
    assert!(finishes(&rig.wake_in(60_001)).is_empty());
}
