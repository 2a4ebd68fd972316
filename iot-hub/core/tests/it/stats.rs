//! What a device uses: asked of it once for all who want it, kept in memory, and told with its age.

use edge_protocol::v1::{Stats, StatsAsk, StatsReport, Up, WorkloadStats, ability};
use edge_protocol::{DeviceId, PodUid};
use iot_hub_core::{CallError, DeviceState, Note, RequestId};

use crate::support::World;
use crate::support::build::{config, enrol_call};

fn connected() -> (World, DeviceId) {
    let (mut world, [one]) = World::of(["one"]);
    world.run("p", "*");
    (world, one)
}

fn sample(workloads: &[&str]) -> Stats {
    let workload = |uid: &&str| -> WorkloadStats {
        let containers = serde_json::json!([{ "name": "main" }]);
        serde_json::from_value(serde_json::json!({ "uid": uid, "containers": containers })).unwrap()
    };
    serde_json::from_value(serde_json::json!({
        "at": {"boot_id": "00000000-0000-0000-0000-000000000001", "mono_ms": 7, "wall_ms": 1, "wall_trusted": true},
        "node": {"started_ms": 5},
        "workloads": workloads.iter().map(workload).collect::<Vec<_>>(),
    }))
    .unwrap()
}

/// The device tells a sample.
fn tell(world: &mut World, id: &DeviceId, number: u64, workloads: &[&str]) {
    for part in StatsReport::parts(number, 0, sample(workloads)) {
        world.say(id, Up::Stats(part));
    }
}

/// What the device was asked since it was looked at last: interval and for how long.
fn asks(world: &mut World, id: &DeviceId) -> Vec<(u64, u64)> {
    world.settle();
    let asks = std::mem::take(&mut world.models.get_mut(id).unwrap().asks);
    asks.iter()
        .map(
            |StatsAsk {
                 interval_ms, for_ms, ..
             }| (*interval_ms, *for_ms),
        )
        .collect()
}

fn replied(world: &mut World, request: RequestId) -> Option<Result<(), CallError>> {
    world.replies.remove(&request)
}

#[test]
fn many_callers_cost_one_ask_and_all_have_the_answer() {
    let (mut world, one) = connected();
    let requests: Vec<_> = (0..20).map(|_| world.want_stats(&one, 15_000)).collect();
    assert_eq!(
        asks(&mut world, &one),
        [(10_000, 0)],
        "once, for whoever asks for the first time"
    );
    assert!(world.replies.is_empty());
    tell(&mut world, &one, 1, &["p"]);
    for request in requests {
        assert_eq!(replied(&mut world, request), Some(Ok(())));
    }
    let view = world.hub.stats(&one).unwrap();
    assert_eq!(
        (view.heard_ms, view.stats.workloads.len()),
        (world.now.mono_ms, 1)
    );
    world.pass(9_000);
    let request = world.want_stats(&one, 15_000);
    assert_eq!(replied(&mut world, request), Some(Ok(())), "it is young enough");
}

#[test]
fn who_asks_regularly_has_the_device_sample_by_itself_for_a_while() {
    let (mut world, one) = connected();
    world.want_stats(&one, 15_000);
    asks(&mut world, &one);
    tell(&mut world, &one, 1, &[]);
    let mut asked = 0;
    for number in 2..42 {
        world.pass(15_000);
        tell(&mut world, &one, number, &[]);
        let request = world.want_stats(&one, 15_000);
        assert_eq!(replied(&mut world, request), Some(Ok(())), "at once");
        let asks = asks(&mut world, &one);
        assert!(asks.iter().all(|ask| *ask == (10_000, 45_000)), "{asks:?}");
        asked += asks.len();
    }
    assert!((12..=21).contains(&asked), "{asked} renewals in ten minutes");
}

#[test]
fn the_fastest_of_all_sets_the_rhythm_while_it_asks() {
    let (mut world, one) = connected();
    let want = |world: &mut World, age_ms| {
        let request = world.want_stats(&one, age_ms);
        let asked = asks(world, &one);
        tell(world, &one, 1, &[]);
        assert_eq!(replied(world, request), Some(Ok(())));
        asked
    };
    want(&mut world, 60_000);
    world.pass(5_000);
    assert_eq!(want(&mut world, 60_000), [(20_000, 180_000)]);
    world.pass(5_000);
    assert_eq!(
        want(&mut world, 15_000),
        [(10_000, 175_000)],
        "the longest time of all"
    );
    for _ in 0..3 {
        world.pass(15_000);
        assert_eq!(want(&mut world, 60_000), []);
    }
    world.pass(45_000);
    assert_eq!(
        want(&mut world, 60_000),
        [(20_000, 180_000)],
        "the fast one asks no more"
    );
}

#[test]
fn a_lost_ask_is_repeated_and_a_silent_device_is_not_waited_for_for_ever() {
    let (mut world, one) = connected();
    let request = world.want_stats(&one, 0);
    world.wire.clear();
    world.pass(2_000);
    assert_eq!(asks(&mut world, &one), [(10_000, 0)]);
    world.pass(2_999);
    assert_eq!(replied(&mut world, request), None);
    world.pass(1);
    assert_eq!(
        replied(&mut world, request),
        Some(Err(CallError::NotAnswered(one.clone())))
    );
    // With something to show, that is shown.
    tell(&mut world, &one, 1, &[]);
    world.pass(60_000);
    world.say(&one, Up::Heartbeat);
    let request = world.want_stats(&one, 15_000);
    world.pass(5_000);
    assert_eq!(replied(&mut world, request), Some(Ok(())));
    assert!(world.now.mono_ms - world.hub.stats(&one).unwrap().heard_ms > 60_000);
}

#[test]
fn an_absent_device_shows_what_it_last_said() {
    let (mut world, one) = connected();
    let waits = world.want_stats(&one, 15_000);
    world.disconnect(&one);
    assert_eq!(
        replied(&mut world, waits),
        Some(Err(CallError::NotConnected(one.clone())))
    );
    world.connect(&one);
    world.settle();
    world.want_stats(&one, 15_000);
    tell(&mut world, &one, 1, &["p"]);
    world.disconnect(&one);
    world.pass(300_000);
    let request = world.want_stats(&one, 15_000);
    assert_eq!(replied(&mut world, request), Some(Ok(())));
    assert!(world.hub.stats(&one).is_some());
    world.pass(600_000);
    assert!(world.hub.stats(&one).is_none(), "nobody asked for ten minutes");
}

#[test]
fn a_session_ends_what_was_asked_in_it() {
    let (mut world, one) = connected();
    for _ in 0..2 {
        world.want_stats(&one, 15_000);
        tell(&mut world, &one, 1, &[]);
    }
    assert_eq!(asks(&mut world, &one).len(), 2);
    world.disconnect(&one);
    world.connect(&one);
    world.settle();
    world.notes.clear();
    tell(&mut world, &one, 2, &["p"]);
    assert!(
        matches!(world.notes[..], [Note::FrameRefused { .. }]),
        "{:?}",
        world.notes
    );
    assert!(world.hub.stats(&one).unwrap().stats.workloads.is_empty());
    world.want_stats(&one, 15_000);
    assert_eq!(asks(&mut world, &one).len(), 1, "the new session knows of no ask");
}

#[test]
fn a_device_without_the_ability_is_not_asked() {
    let (mut world, [one]) = World::of(["one"]);
    let features = &mut world.models.get_mut(&one).unwrap().features;
    features.retain(|word| word != ability::STATS);
    world.disconnect(&one);
    world.connect(&one);
    world.settle();
    let request = world.want_stats(&one, 15_000);
    assert_eq!(
        replied(&mut world, request),
        Some(Err(CallError::NoStats(one.clone())))
    );
    let nobody: DeviceId = "nobody".parse().unwrap();
    let request = world.want_stats(&nobody, 15_000);
    assert_eq!(
        replied(&mut world, request),
        Some(Err(CallError::NoSuchDevice(nobody)))
    );
    assert_eq!(asks(&mut world, &one), []);
}

#[test]
fn a_sample_is_shown_when_all_its_parts_came_in_order() {
    let (mut world, one) = connected();
    world.want_stats(&one, 15_000);
    let names: Vec<String> = (0..70).map(|number| format!("u{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let parts = |number| StatsReport::parts(number, 0, sample(&names));
    let [first, second, third]: [StatsReport; 3] = parts(1).try_into().unwrap();
    for part in [second.clone(), third.clone()] {
        world.say(&one, Up::Stats(part));
    }
    assert!(world.hub.stats(&one).is_none(), "its beginning is lost");
    for part in [first.clone(), third.clone(), second.clone(), third.clone()] {
        world.say(&one, Up::Stats(part));
    }
    assert!(world.hub.stats(&one).is_none(), "out of order");
    let other = parts(2).remove(0);
    for part in [first, other, second, third] {
        world.say(&one, Up::Stats(part));
    }
    assert!(world.hub.stats(&one).is_none(), "of two samples");
    for part in parts(3) {
        world.say(&one, Up::Stats(part));
    }
    let told = &world.hub.stats(&one).unwrap().stats;
    assert!(told.workloads.is_empty(), "none of them is the device's");
    assert_eq!(told.node.as_ref().unwrap().started_ms, Some(5));
}

#[test]
fn what_is_not_the_devices_own_is_not_kept() {
    let (mut world, one) = connected();
    world.want_stats(&one, 15_000);
    tell(&mut world, &one, 1, &["p", "of-another"]);
    let told = &world.hub.stats(&one).unwrap().stats.workloads;
    let uids: Vec<&PodUid> = told.iter().map(|workload| &workload.uid).collect();
    assert_eq!(uids, [&"p".parse::<PodUid>().unwrap()]);
}

#[test]
fn a_flood_of_samples_is_cut_off() {
    let (mut world, one) = connected();
    world.want_stats(&one, 15_000);
    for number in 0..1_000 {
        tell(&mut world, &one, number, &[]);
    }
    assert_eq!(world.hub.device(&one).unwrap().surplus.stats, 1_000 - 128);
}

#[test]
fn memory_is_bounded_and_the_longest_unwanted_gives_way() {
    let mut small = config();
    small.limits.stats_bytes = 1_500;
    let mut world = World::with(small);
    let ids = ["a", "b", "c", "d"].map(|name| world.enrol(name, &[]));
    for id in &ids {
        world.connect(id);
        world.settle();
        world.want_stats(id, 15_000);
        tell(&mut world, id, 1, &[]);
        world.pass(1);
    }
    let kept: Vec<bool> = ids.iter().map(|id| world.hub.stats(id).is_some()).collect();
    assert!(!kept[0] && kept[3], "{kept:?}");
}

#[test]
fn a_device_that_is_gone_leaves_nothing() {
    let (mut world, one) = connected();
    world.want_stats(&one, 15_000);
    tell(&mut world, &one, 1, &["p"]);
    world.set_state(&one, DeviceState::Decommissioned);
    assert!(world.hub.stats(&one).is_none());
    let request = world.want_stats(&one, 15_000);
    assert_eq!(
        replied(&mut world, request),
        Some(Err(CallError::NoSuchDevice(one.clone())))
    );

    let (mut world, one) = connected();
    world.want_stats(&one, 15_000);
    tell(&mut world, &one, 1, &["p"]);
    world.call(enrol_call("one", &[])).unwrap();
    assert!(world.hub.stats(&one).is_some(), "the same machine");
}

#[test]
fn callers_that_wait_are_bounded() {
    let (mut world, one) = connected();
    for _ in 0..64 {
        world.want_stats(&one, 15_000);
    }
    let request = world.want_stats(&one, 15_000);
    let refused = replied(&mut world, request).unwrap();
    assert!(
        matches!(refused, Err(CallError::LimitReached { .. })),
        "{refused:?}"
    );
}
