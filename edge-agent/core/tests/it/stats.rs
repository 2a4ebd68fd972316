//! Stories of what the device uses being asked for.

use edge_agent_core::{Input, Note, Sample};
use edge_protocol::v1::{
    CpuStats, Down, DownFrame, LinkClass, NodeStats, StatsAsk, StatsReport, Up, WorkloadStats,
};
use edge_protocol::{Lane, SessionEpoch, frame};

use crate::hub::{manifest, uid};
use crate::order::{run, up};
use crate::world::World;

fn give(world: &mut World, ask: StatsAsk) {
    let body = Down::StatsAsk(ask);
    let bytes = frame::encode(&DownFrame { v: 1, body }).unwrap();
    world.give(Input::Frame(Lane::Command, bytes));
}

fn ask(world: &mut World, interval_ms: u64, for_ms: u64) {
    let ask = world.hub.ask_stats(interval_ms, for_ms);
    give(world, ask);
}

fn workload(name: &str) -> WorkloadStats {
    serde_json::from_value(serde_json::json!({ "uid": uid(name) })).unwrap()
}

/// The sample under way ends, and the hub hears what there is to hear.
fn end(world: &mut World, workloads: usize) {
    let sample = Sample {
        node: NodeStats {
            cpu: Some(CpuStats {
                at_ms: world.now.mono_ms,
                usage_ns: Some(7),
                ..CpuStats::default()
            }),
            ..NodeStats::default()
        },
        workloads: (0..workloads)
            .map(|number| workload(&format!("w{number}")))
            .collect(),
    };
    world.give(Input::Sampled(Some(Box::new(sample))));
    world.settle();
}

fn heard(world: &World) -> Vec<StatsReport> {
    let frames = world.hub.heard.iter();
    let reports = frames.filter_map(|frame| match &frame.body {
        Up::Stats(report) => Some(report.clone()),
        _ => None,
    });
    reports.collect()
}

/// How many samples begin while so much time passes, each ended at once.
fn begun(world: &mut World, ms: u64) -> usize {
    let (before, until) = (world.samples.len(), world.now.mono_ms + ms);
    let mut ended = before;
    while world.now.mono_ms < until {
        let left = until - world.now.mono_ms;
        world.pass(left.min(1_000));
        while ended < world.samples.len() {
            ended += 1;
            end(world, 0);
        }
    }
    world.samples.len() - before
}

#[test]
fn an_ask_is_answered_at_once_then_at_the_interval_and_lapses() {
    let mut world = up();
    run(&mut world, &manifest("one", &["c:1", "c:1"]));
    assert_eq!(begun(&mut world, 60_000), 0, "nobody asks");
    ask(&mut world, 15_000, 45_000);
    let targets = world.samples.pop().expect("at once");
    assert_eq!(targets.len(), 1);
    let names: Vec<_> = targets[0]
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!((&targets[0].uid, names), (&uid("one"), vec!["c0", "c1"]));
    assert!(targets[0].sandbox_id.is_some() && targets[0].started_ms.is_some());
    assert!(world.samples.is_empty(), "one at a time");
    end(&mut world, 40);
    let told = heard(&world);
    assert_eq!(
        told.iter().map(|part| (part.part, part.of)).collect::<Vec<_>>(),
        [(0, 2), (1, 2)]
    );
    assert_eq!(told[0].interval_ms, 15_000);
    assert_eq!(
        told[0].stats.node.as_ref().unwrap().cpu.unwrap().usage_ns,
        Some(7)
    );
    assert_eq!(
        told.iter().map(|part| part.stats.workloads.len()).sum::<usize>(),
        40
    );
    assert_eq!(begun(&mut world, 300_000), 3, "and no more");
    let last = heard(&world).pop().unwrap();
    assert_eq!(
        (last.sample, last.interval_ms),
        (4, 0),
        "the last says that it is"
    );
}

#[test]
fn one_ask_may_be_for_one_sample() {
    let mut world = up();
    ask(&mut world, 15_000, 0);
    end(&mut world, 0);
    assert_eq!((begun(&mut world, 100_000), heard(&world)[0].interval_ms), (0, 0));
}

#[test]
fn the_floor_holds_whoever_asks_and_however_often() {
    let mut world = up();
    for _ in 0..100 {
        ask(&mut world, 1, 60_000);
    }
    assert_eq!(world.samples.len(), 1);
    end(&mut world, 0);
    assert_eq!(heard(&world)[0].interval_ms, 10_000);
    let mut samples = 0;
    for _ in 0..600 {
        ask(&mut world, 0, 0);
        samples += begun(&mut world, 100);
    }
    assert_eq!(samples, 6, "in a minute");
    ask(&mut world, 0, 0);
    assert_eq!(
        begun(&mut world, 100_000),
        1,
        "an ask that must wait is good for one"
    );
}

#[test]
fn what_is_asked_is_bounded() {
    let mut world = up();
    ask(&mut world, u64::MAX, u64::MAX);
    end(&mut world, 0);
    assert_eq!(heard(&world)[0].interval_ms, 600_000);
    assert_eq!(begun(&mut world, 3_600_000), 1);
}

#[test]
fn a_link_that_counts_bytes_has_a_floor_of_its_own() {
    for (link, floor_ms) in [(LinkClass::Cellular, 30_000), (LinkClass::Satellite, 120_000)] {
        let mut world = up();
        world.hub.link = link;
        world.push();
        world.settle();
        ask(&mut world, 10_000, 60_000);
        end(&mut world, 0);
        let told = heard(&world)[0].interval_ms;
        assert_eq!(told, if floor_ms > 60_000 { 0 } else { floor_ms }, "{link:?}");
    }
}

#[test]
fn an_ask_ends_with_its_session() {
    let mut world = up();
    ask(&mut world, 10_000, 600_000);
    world.link_down();
    end(&mut world, 3);
    world.link_up();
    world.settle();
    assert!(heard(&world).is_empty(), "the answer was for somebody else");
    assert_eq!(begun(&mut world, 120_000), 0);
    ask(&mut world, 10_000, 0);
    end(&mut world, 0);
    assert_eq!(heard(&world).len(), 1);
}

#[test]
fn an_ask_of_another_session_counts_for_nothing() {
    let mut world = up();
    let good = world.hub.ask_stats(10_000, 60_000);
    let other_session = StatsAsk {
        session: SessionEpoch(world.hub.session + 1),
        ..good.clone()
    };
    let other_nonce = StatsAsk {
        nonce: edge_protocol::Nonce::from_bytes([0xee; 16]),
        ..good.clone()
    };
    for bad in [other_session, other_nonce] {
        world.notes.clear();
        give(&mut world, bad);
        assert!(world.samples.is_empty());
        assert!(
            matches!(world.notes[..], [Note::FrameRefused { .. }]),
            "{:?}",
            world.notes
        );
    }
    world.link_down();
    give(&mut world, good);
    assert!(world.samples.is_empty());
}

#[test]
fn a_device_that_does_not_tell_is_not_made_to() {
    let mut world = World::new();
    world
        .features
        .retain(|word| word != edge_protocol::v1::ability::STATS);
    world.crash();
    world.link_up();
    world.settle();
    ask(&mut world, 10_000, 60_000);
    assert!(world.samples.is_empty());
}

#[test]
fn a_sample_that_fails_is_passed_over_and_the_next_comes() {
    let mut world = up();
    ask(&mut world, 10_000, 30_000);
    world.give(Input::Sampled(None));
    world.settle();
    assert!(heard(&world).is_empty());
    assert_eq!(begun(&mut world, 30_000), 3);
    // One that nobody asked for.
    world.give(Input::Sampled(Some(Box::default())));
    world.settle();
    assert_eq!(heard(&world).len(), 3);
}
