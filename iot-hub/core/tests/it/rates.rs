//! A flooding device spends its own allowance: it makes no log grow, loses nothing that counts, and moves nobody else.

use edge_protocol::v1::{AckStage, DeviceEvent, EventReport, Phase, Rung, SetAck, StatusReport, Up};
use edge_protocol::{DeviceId, Digest, ItemState, SetGeneration, SetItem};
use iot_hub_core::{HubConfig, Note, Rate};

use crate::support::World;
use crate::support::build::{config, pod, wanted};
use crate::support::model::blank;

fn small() -> HubConfig {
    let mut config = config();
    let rate = Rate {
        burst: 5,
        per_minute: 2,
    };
    let rates = &mut config.limits.rates;
    (rates.hellos, rates.statuses, rates.events, rates.refusals) = (rate, rate, rate, rate);
    config
}

/// Two devices, both of which run `p`.
fn pair() -> (World, DeviceId, DeviceId) {
    let mut world = World::with(small());
    let (loud, calm) = (world.enrol("loud", &[]), world.enrol("calm", &[]));
    world.connect(&loud);
    world.connect(&calm);
    world.run("p", "*");
    world.pass_with(&[&loud, &calm], 600_000);
    world.notes.clear();
    (world, loud, calm)
}

fn count(world: &World, is: impl Fn(&Note) -> bool) -> usize {
    world.notes.iter().filter(|note| is(note)).count()
}

fn surplus(what: &'static str) -> impl Fn(&Note) -> bool {
    move |note| matches!(note, Note::Surplus { what: told, .. } if *told == what)
}

fn events(seqs: std::ops::RangeInclusive<u64>) -> Up {
    let event = |seq| -> DeviceEvent {
        serde_json::from_value(serde_json::json!({
            "seq": seq, "uid": "p", "level": "Normal", "reason": "Pulled", "message": "",
            "at": {"boot_id": "00000000-0000-0000-0000-000000000001", "mono_ms": 1, "wall_ms": 1, "wall_trusted": true},
        }))
        .unwrap()
    };
    Up::Events(EventReport {
        events: seqs.map(event).collect(),
    })
}

#[test]
fn refusals_are_told_up_to_a_rate_and_counted_beyond() {
    let (mut world, loud, calm) = pair();
    let announced = world.announced.len();
    for _ in 0..100 {
        world.send(&loud, &[b"noise".to_vec()]);
    }
    assert_eq!(world.announced.len(), announced, "no watcher is woken");
    world.send(&calm, &[b"noise".to_vec()]);
    let refused = |of: &DeviceId| {
        let of = of.clone();
        move |note: &Note| matches!(note, Note::FrameRefused { device, .. } if *device == of)
    };
    assert_eq!(count(&world, refused(&loud)), 5);
    assert_eq!(count(&world, refused(&calm)), 1);
    assert_eq!(count(&world, surplus("refusals")), 95);
    assert_eq!(world.hub.device(&loud).unwrap().surplus.refusals, 95);
    assert_eq!(world.hub.device(&calm).unwrap().surplus.refusals, 0);
}

#[test]
fn sessions_are_begun_up_to_a_rate() {
    let (mut world, loud, _) = pair();
    let written = world.store.written.len();
    for _ in 0..50 {
        world.connect(&loud);
    }
    let began = |note: &Note| matches!(note, Note::SessionBegan { .. });
    assert_eq!((count(&world, began), count(&world, surplus("hellos"))), (5, 45));
    let written = world.store.written.len() - written;
    assert!(written <= 10, "{written} rows for five sessions");
    assert_eq!(world.cuts.last().unwrap().2, "it begins sessions too often");
    // It waits, as every device does between two tries, and is let in.
    world.pass(30_000);
    world.connect(&loud);
    world.settle();
    assert_eq!(count(&world, began), 6);
    assert!(world.hub.device(&loud).unwrap().online);
}

#[test]
fn events_above_the_rate_come_again_and_none_is_lost() {
    let (mut world, loud, _) = pair();
    world.say(&loud, events(1..=9));
    assert_eq!(world.store.events.len(), 5);
    assert_eq!(world.store.devices[&loud].event_seq, 5);
    world.pass(60_000);
    world.say(&loud, events(6..=9));
    world.pass(60_000);
    world.say(&loud, events(8..=9));
    let stored: Vec<u64> = world.store.events.iter().map(|(_, event)| event.seq).collect();
    assert_eq!(stored, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn statuses_above_the_rate_are_not_acknowledged_and_cost_no_write() {
    let (mut world, loud, calm) = pair();
    for _ in 0..5 {
        let report = world.models.get_mut(&loud).unwrap().report();
        world.send(&loud, &report);
    }
    world.settle();
    let acknowledged = world.models[&loud].acked_upto;
    let written = world.store.written.len();
    let report = world.models.get_mut(&loud).unwrap().report();
    world.send(&loud, &report);
    world.settle();
    assert_eq!(world.models[&loud].acked_upto, acknowledged);
    assert_eq!(world.store.written.len(), written);
    let report = world.models.get_mut(&calm).unwrap().report();
    world.send(&calm, &report);
    world.settle();
    assert!(world.store.written.len() > written);
    world.pass(30_000);
    let report = world.models.get_mut(&loud).unwrap().report();
    world.send(&loud, &report);
    world.settle();
    assert!(world.models[&loud].acked_upto > acknowledged);
}

#[test]
fn strangers_in_a_report_are_told_once_and_not_kept() {
    let (mut world, loud, _) = pair();
    let workloads = (0..200).map(|n| {
        let item = SetItem {
            uid: pod(&format!("x{n}")),
            state: ItemState::Run,
            revision: edge_protocol::DeploymentRevision(1),
            digest: Digest::of("x"),
        };
        blank(&item, Rung::Healthy, Phase::Running)
    });
    let report = StatusReport {
        upto: 900,
        complete: false,
        workloads: workloads.collect(),
    };
    let kept = world.store.assignments.len();
    world.say(&loud, Up::Status(report));
    assert_eq!(world.store.assignments.len(), kept);
    let told: Vec<&Note> = world
        .notes
        .iter()
        .filter(|note| matches!(note, Note::Strangers { .. } | Note::FrameRefused { .. }))
        .collect();
    assert!(
        matches!(told.as_slice(), [Note::Strangers { count: 200, .. }]),
        "{told:?}"
    );
}

#[test]
fn a_set_that_is_refused_is_told_once_and_shown_until_one_is_taken() {
    let (mut world, loud, _) = pair();
    world.call(wanted("q", "*").put()).unwrap();
    world.wire.retain(|(id, ..)| *id != loud);
    let set = world.store.sets[&loud].clone();
    for _ in 0..20 {
        world.say(
            &loud,
            Up::Ack(SetAck {
                generation: set.generation,
                digest: set.items.digest(),
                stage: AckStage::Refused,
            }),
        );
    }
    assert_eq!(count(&world, |note| matches!(note, Note::SetRefused { .. })), 1);
    let refused = world.hub.device(&loud).unwrap().refused.unwrap();
    assert_eq!(
        (refused.generation, refused.stage),
        (set.generation, AckStage::Refused)
    );
    world.run("r", "*");
    assert_eq!(world.hub.device(&loud).unwrap().refused, None);
    let held: SetGeneration = world.models[&loud].set.as_ref().unwrap().0;
    assert_eq!(held, world.generation(&loud));
}
