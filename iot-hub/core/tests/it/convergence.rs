//! Any order of changes, losses and crashes ends where it should, and on the way nothing stops without a tombstone.

use edge_protocol::v1::DeploymentState;
use edge_protocol::{DeviceId, ItemState, PodUid};
use iot_hub_core::Call;
use proptest::prelude::*;

use crate::support::World;
use crate::support::build::{delete, device, pod, release, tag_map, wanted};

const SITES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Op {
    Tag(usize, usize),
    Put(usize, usize, usize),
    Delete(usize),
    Release(usize),
    Connect(usize),
    Disconnect(usize),
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    Pass(u64),
    Commit,
    Crash,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..3_usize, 0..3_usize).prop_map(|(d, s)| Op::Tag(d, s)),
        4 => (0..3_usize, 0..4_usize, 0..2_usize).prop_map(|(p, c, i)| Op::Put(p, c, i)),
        2 => (0..3_usize).prop_map(Op::Delete),
        1 => (0..3_usize).prop_map(Op::Release),
        3 => (0..3_usize).prop_map(Op::Connect),
        1 => (0..3_usize).prop_map(Op::Disconnect),
        12 => (0..3_usize).prop_map(Op::Deliver),
        2 => (0..4_usize).prop_map(Op::Lose),
        2 => (0..4_usize).prop_map(Op::Repeat),
        2 => (0..60_000_u64).prop_map(Op::Pass),
        10 => Just(Op::Commit),
        1 => Just(Op::Crash),
    ]
}

fn id(n: usize) -> DeviceId {
    device(&format!("d{n}"))
}

fn uid(n: usize) -> PodUid {
    pod(&format!("p{n}"))
}

fn condition(n: usize) -> String {
    SITES
        .get(n)
        .map_or("*".to_owned(), |site| format!("tags.site = '{site}'"))
}

fn run(world: &mut World, op: &Op) {
    match op {
        Op::Tag(d, site) => {
            world.request(Call::SetTags {
                device: id(*d),
                tags: tag_map(&[("site", SITES[*site])]),
            });
        }
        Op::Put(p, c, image) => {
            let deployment = wanted(uid(*p).as_str(), &condition(*c)).image(["app:1", "app:2"][*image]);
            world.request(deployment.put());
        }
        Op::Delete(p) => drop(world.request(delete(&uid(*p), None))),
        Op::Release(p) => drop(world.request(release(&uid(*p)))),
        Op::Connect(d) => world.connect(&id(*d)),
        Op::Disconnect(d) => world.disconnect(&id(*d)),
        Op::Deliver(n) => drop(world.deliver(*n)),
        Op::Lose(n) if *n < world.wire.len() => drop(world.wire.remove(*n)),
        Op::Repeat(n) if *n < world.wire.len() => world.wire.push(world.wire[*n].clone()),
        Op::Lose(_) | Op::Repeat(_) => {}
        Op::Pass(ms) => world.pass(*ms),
        Op::Commit => drop(world.commit_one()),
        Op::Crash => {
            let store = world.store.clone();
            world.restart(store);
        }
    }
    // Nothing of a set is seen before it is on disk.
    for (device, model) in &world.models {
        if let (Some((generation, _)), Some(set)) = (&model.set, world.store.sets.get(device)) {
            assert!(
                *generation <= set.generation,
                "{device} has a set that the disk has not"
            );
        }
        assert!(
            model.vanished.is_empty(),
            "{:?} stopped on {device} without a tombstone",
            model.vanished
        );
    }
}

fn heal(world: &mut World) {
    world.commit_at_once = true;
    while world.commit_one() {}
    for n in 0..3 {
        world.connect(&id(n));
    }
    for _ in 0..5 {
        world.settle();
        world.pass(15_000);
    }
    world.settle();
}

fn judge(world: &World) {
    for n in 0..3 {
        let set = &world.store.sets[&id(n)];
        let model = &world.models[&id(n)];
        assert_eq!(
            model.set.as_ref().map(|(g, s)| (*g, s)),
            Some((set.generation, &set.items))
        );
        assert_eq!(set.acknowledged.as_ref().map(|(g, _)| *g), Some(set.generation));
        assert!(
            set.items.iter().all(|item| item.state != ItemState::Stop),
            "a tombstone is left"
        );
        let named: Vec<_> = set.items.iter().map(|item| item.uid.clone()).collect();
        assert_eq!(model.running.keys().cloned().collect::<Vec<_>>(), named);
        for p in 0..3 {
            let Some(record) = world.store.deployments.get(&uid(p)) else {
                assert!(set.items.get(&uid(p)).is_none(), "an item of nothing");
                continue;
            };
            let site = &world.store.devices[&id(n)].tags["site"];
            let wants = record.spec.target.condition == "*"
                || record.spec.target.condition.contains(&format!("'{site}'"));
            match record.state {
                DeploymentState::Active => {
                    assert_eq!(
                        set.items.get(&uid(p)).map(|item| item.digest),
                        wants.then_some(record.manifest)
                    );
                }
                DeploymentState::Released { .. } => {}
                DeploymentState::Deleting { .. } => panic!("{} does not end", uid(p)),
            }
        }
    }
    for view in world.hub.deployments() {
        let held = (0..3)
            .filter(|n| world.store.sets[&id(*n)].items.get(&view.status.uid).is_some())
            .count();
        let counts = view.status.counts;
        assert_eq!((counts.targeted as usize, counts.healthy), (held, counts.counted));
        assert_eq!(view.status.ready, counts.counted > 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_history_converges(history in prop::collection::vec(ops(), 0..120)) {
        let mut world = World::new();
        for (n, site) in SITES.iter().enumerate() {
            world.enrol(&format!("d{n}"), &[("site", site)]);
        }
        world.commit_at_once = false;
        for op in &history {
            run(&mut world, op);
        }
        heal(&mut world);
        judge(&world);
        // Converged, it plans nothing; a restart finds the same.
        let written = world.store.written.len();
        let seen: Vec<_> = world.hub.deployments().map(|view| view.status).collect();
        world.settle();
        prop_assert_eq!(world.store.written.len(), written);
        let store = world.store.clone();
        world.restart(store);
        let after: Vec<_> = world.hub.deployments().map(|view| view.status).collect();
        for (before, after) in seen.iter().zip(&after) {
            prop_assert_eq!(before.counts, after.counts);
            prop_assert_eq!(&before.containers, &after.containers);
        }
        prop_assert_eq!(seen.len(), after.len());
    }
}
