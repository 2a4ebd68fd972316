//! Faults at every point, then peace: what must never happen does not, and what is desired comes about.

use edge_agent_core::{Input, ProbeKind, Step};
use edge_protocol::v1::{
    Action, ContainerSpec, Manifest, Medium, Phase, Probe, Probes, RestartPolicy, Rung, VolumeSource,
    VolumeSpec,
};
use edge_protocol::{ItemState, PodUid};
use proptest::prelude::*;

use crate::hub::{container, manifest, uid};
use crate::world::World;

/// What a pod has beside its two main containers.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Plain,
    /// An initial container between two sidecars.
    Initial,
    Probes,
    HooksAndVolumes,
}

#[derive(Debug, Clone)]
enum Event {
    Run {
        name: u8,
        image: u8,
        second: u8,
        replaces: Option<u8>,
        shape: Shape,
    },
    Release(u8),
    Stop {
        name: u8,
        grace: u8,
    },
    Forget(u8),
    Push,
    Deliver,
    LoseToDevice,
    DoubleToDevice,
    SwapToDevice,
    LoseToHub,
    LinkUp,
    LinkDown,
    Commit,
    Step,
    StepAndCrash,
    FailStep,
    /// The runtime did it and said it failed.
    AmbiguousStep,
    SkipStep,
    Look,
    BeginLook,
    RuntimeDown,
    Fetch,
    Crash,
    Reboot(u8),
    Exit {
        name: u8,
        code: u8,
    },
    KillSandbox(u8),
    BadImage(u8),
    GoodImages,
    /// A probe of the first container fails from now on.
    FailProbe(ProbeKind),
    BadHooks,
    BadVolumes(u8),
    Pass(u32),
}

fn events() -> impl Strategy<Value = Event> {
    let name = 0u8..3;
    prop_oneof![
        4 => (name.clone(), 0u8..3, 0u8..2, proptest::option::weighted(0.3, name.clone()), shapes())
            .prop_map(|(name, image, second, replaces, shape)| Event::Run { name, image, second, replaces, shape }),
        1 => name.clone().prop_map(Event::Release),
        2 => (name.clone(), 0u8..40).prop_map(|(name, grace)| Event::Stop { name, grace }),
        1 => name.clone().prop_map(Event::Forget),
        4 => Just(Event::Push),
        12 => Just(Event::Deliver),
        1 => Just(Event::LoseToDevice),
        1 => Just(Event::DoubleToDevice),
        1 => Just(Event::SwapToDevice),
        1 => Just(Event::LoseToHub),
        3 => Just(Event::LinkUp),
        1 => Just(Event::LinkDown),
        10 => Just(Event::Commit),
        12 => Just(Event::Step),
        1 => Just(Event::StepAndCrash),
        2 => Just(Event::FailStep),
        1 => Just(Event::AmbiguousStep),
        2 => Just(Event::SkipStep),
        8 => Just(Event::Look),
        4 => Just(Event::BeginLook),
        1 => Just(Event::RuntimeDown),
        3 => Just(Event::Fetch),
        1 => Just(Event::Crash),
        1 => (1u8..250).prop_map(Event::Reboot),
        2 => (name.clone(), 0u8..3).prop_map(|(name, code)| Event::Exit { name, code }),
        1 => name.clone().prop_map(Event::KillSandbox),
        1 => (0u8..3).prop_map(Event::BadImage),
        1 => Just(Event::GoodImages),
        1 => prop_oneof![Just(ProbeKind::Startup), Just(ProbeKind::Liveness), Just(ProbeKind::Readiness)]
            .prop_map(Event::FailProbe),
        1 => Just(Event::BadHooks),
        1 => name.clone().prop_map(Event::BadVolumes),
        3 => (1u32..400_000).prop_map(Event::Pass),
    ]
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        3 => Just(Shape::Plain),
        2 => Just(Shape::Initial),
        2 => Just(Shape::Probes),
        1 => Just(Shape::HooksAndVolumes),
    ]
}

fn shaped(name: &str, images: &[&str], shape: Shape) -> Manifest {
    let mut wanted = manifest(name, images);
    let spec = &mut wanted.workload;
    let exec = Action::Exec {
        command: vec!["true".to_owned()],
    };
    match shape {
        Shape::Plain => {}
        Shape::Initial => {
            spec.init_containers = ["s0", "i0", "s1"]
                .map(|name| ContainerSpec {
                    restart_policy: name.starts_with('s').then_some(RestartPolicy::Always),
                    ..container(name, "i:1")
                })
                .into();
        }
        Shape::Probes => {
            let probe = Probe {
                action: exec,
                initial_delay_s: 1,
                timeout_s: 1,
                period_s: 20,
                success_threshold: 1,
                failure_threshold: 2,
                termination_grace_period_s: None,
            };
            spec.containers[0].probes = Probes {
                startup: Some(probe.clone()),
                liveness: Some(probe.clone()),
                readiness: Some(probe),
            };
        }
        Shape::HooksAndVolumes => {
            spec.containers[0].lifecycle.post_start = Some(exec.clone());
            spec.containers[0].lifecycle.pre_stop = Some(exec);
            spec.volumes.push(VolumeSpec {
                name: "v".to_owned(),
                source: VolumeSource::EmptyDir {
                    medium: Medium::Disk,
                    size_limit_bytes: None,
                },
            });
        }
    }
    wanted
}

fn name(n: u8) -> PodUid {
    uid(&format!("w{n}"))
}

fn apply(world: &mut World, event: &Event) {
    match event {
        Event::Run {
            name: n,
            image,
            second,
            replaces,
            shape,
        } => {
            let images = [&*format!("a:{image}"), &*format!("b:{second}")];
            let mut wanted = shaped(&format!("w{n}"), &images, *shape);
            // An older one is replaced, never a newer: circles are a test of their own.
            wanted.replaces = replaces
                .iter()
                .filter(|old| **old < *n)
                .map(|old| name(*old))
                .collect();
            if *second > 0 {
                wanted.objects = vec![
                    world.hub.config_map("shared", &image.to_string()),
                    world.hub.config_map("own", &n.to_string()),
                ];
            }
            world.hub.run(&wanted);
        }
        Event::Release(n) => {
            if world
                .hub
                .set
                .get(&name(*n))
                .is_some_and(|item| item.state == ItemState::Run)
            {
                world.hub.release(&name(*n));
            }
        }
        Event::Stop { name: n, grace } => {
            if world.hub.set.get(&name(*n)).is_some() {
                world.hub.stop(&name(*n), Some(u32::from(*grace)));
            }
        }
        Event::Forget(n) => world.hub.forget(&name(*n)),
        Event::Push => world.push(),
        Event::Deliver => drop(world.talk()),
        Event::LoseToDevice => drop(world.to_device.pop_front()),
        Event::DoubleToDevice => {
            if let Some(frame) = world.to_device.front().cloned() {
                world.to_device.push_back(frame);
            }
        }
        Event::SwapToDevice => {
            if world.to_device.len() > 1 {
                world.to_device.swap(0, 1);
            }
        }
        Event::LoseToHub => drop(world.to_hub.pop_front()),
        Event::LinkUp => world.link_up(),
        Event::LinkDown => world.link_down(),
        Event::Commit => drop(world.commit()),
        Event::Step => drop(world.step()),
        Event::StepAndCrash => {
            world.step_unheard();
            world.crash();
        }
        Event::FailStep => world.fail_step(),
        Event::AmbiguousStep => world.ambiguous_step(),
        Event::SkipStep => {
            if let Some(step) = world.steps.pop_front() {
                world.steps.push_back(step);
            }
        }
        Event::Look => world.look(),
        Event::BeginLook => world.begin_look(),
        Event::RuntimeDown => {
            world.give(Input::RuntimeDown {
                message: "away".to_owned(),
            });
            world.look_due = true;
        }
        Event::Fetch => drop(world.fetch()),
        Event::Crash => world.crash(),
        Event::Reboot(boot) => world.reboot(u128::from(*boot) + 100),
        Event::Exit { name: n, code } => {
            let wall_ms = world.now.wall_ms;
            world.runtime.exit(&name(*n), "c0", i32::from(*code), wall_ms);
            world.look_due = true;
        }
        Event::KillSandbox(n) => {
            world.runtime.kill_sandbox(&name(*n));
            world.look_due = true;
        }
        Event::BadImage(n) => drop(world.runtime.bad_images.insert(format!("a:{n}"))),
        Event::GoodImages => world.runtime.bad_images.clear(),
        Event::FailProbe(kind) => drop(world.runtime.failing.insert(("c0".to_owned(), *kind))),
        Event::BadHooks => drop(world.runtime.bad_hooks.insert("c0".to_owned())),
        Event::BadVolumes(n) => drop(world.runtime.bad_volumes.insert(name(*n))),
        Event::Pass(ms) => {
            world.now.mono_ms += u64::from(*ms);
            world.now.wall_ms += i64::from(*ms);
            world.give(Input::Wake);
        }
    }
}

/// No more faults, and time enough for every back-off, one after the other.
fn peace(world: &mut World, rounds: u32) {
    world.runtime.bad_images.clear();
    world.runtime.failing.clear();
    world.runtime.bad_hooks.clear();
    world.runtime.bad_volumes.clear();
    world.runtime.init_ends = true;
    world.look_due = true;
    world.settle();
    world.link_down();
    world.link_up();
    world.settle();
    for _ in 0..rounds {
        world.pass(310_000);
        world.look_due = true;
        world.settle();
    }
}

fn check_converged(world: &mut World) {
    for item in world.hub.set.clone().iter() {
        let status = world
            .hub
            .statuses
            .get(&item.uid)
            .unwrap_or_else(|| panic!("no status of {}", item.uid));
        assert_eq!(status.revision, item.revision, "{status:?}");
        let superseded = status.reason == Some(edge_protocol::v1::Reason::SupersededOnDevice);
        match item.state {
            ItemState::Stop => {
                assert_eq!(status.phase, Phase::Gone, "{status:?}");
                assert_eq!(world.runtime.running(&item.uid), 0);
            }
            _ if superseded => assert_eq!(world.runtime.running(&item.uid), 0, "{status:?}"),
            _ => {
                assert_eq!(
                    (status.rung, status.phase),
                    (Rung::Healthy, Phase::Running),
                    "{status:?}"
                );
                let sidecars = status.init_containers.len() - usize::from(!status.init_containers.is_empty());
                assert_eq!(world.runtime.running(&item.uid), 2 + sidecars, "{status:?}");
            }
        }
    }
    let strangers = world
        .runtime
        .sandboxes
        .iter()
        .filter(|s| world.hub.set.get(&s.uid).is_none())
        .count();
    assert_eq!(strangers, 0, "a workload that is in no set is left behind");
    assert_eq!(world.disk.workloads.len(), world.hub.set.len());
    world.check_no_surplus();
    assert!(world.disk.events.is_empty(), "all history was told");
    let seqs: Vec<u64> = world.hub.events.iter().map(|event| event.seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b));
    // A converged state plans nothing.
    world.look();
    assert!(
        world.steps.is_empty() && world.commits.is_empty(),
        "{:?} {:?}",
        world.steps,
        world.commits
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_peace_brings_what_is_desired(events in prop::collection::vec(events(), 0..120)) {
        let mut world = World::new();
        world.hub.inline = events.len() % 2 == 0;
        for event in &events {
            apply(&mut world, event);
        }
        peace(&mut world, 6);
        check_converged(&mut world);
    }

    /// A bystander shares the device with everything else that happens, short of its own faults and of reboots.
    #[test]
    fn an_unchanged_workload_is_never_stopped(events in prop::collection::vec(events(), 0..120)) {
        let mut world = World::new();
        world.runtime.init_ends = true;
        world.link_up();
        world.settle();
        world.hub.run(&shaped("bystander", &["z:1"], Shape::Initial));
        world.push();
        world.settle();
        let before: Vec<_> = world.runtime.containers.clone();
        for event in events.iter().filter(|event| !matches!(event, Event::Reboot(_))) {
            apply(&mut world, event);
            let hit = |(_, step): &&(_, Step)| match step {
                Step::StopContainer { container_id, .. } | Step::RemoveContainer { container_id } => {
                    before.iter().any(|c| c.id == *container_id)
                }
                _ => false,
            };
            prop_assert!(world.steps.iter().find(hit).is_none());
        }
        peace(&mut world, 6);
        let after: Vec<_> = world.runtime.containers.iter().filter(|c| c.uid == uid("bystander")).cloned().collect();
        prop_assert_eq!(after, before);
    }
}

/// The process dies after every single effect of one rich story, and the next one finishes it.
#[test]
fn a_crash_after_any_effect_leaves_one_of_two_known_states() {
    let mut most = 0;
    for fatal in 0..600 {
        let mut world = World::new();
        let mut done = 0;
        let mut act = |world: &mut World| {
            for _ in 0..1_000 {
                if done == fatal {
                    done += 1;
                    world.crash();
                    world.link_up();
                }
                if !(world.commit() || world.talk() || world.step()) {
                    if !world.look_due {
                        return;
                    }
                    world.look();
                }
                done += 1;
            }
        };
        world.link_up();
        act(&mut world);
        world.runtime.init_ends = true;
        for image in ["a:1", "a:2"] {
            let mut wanted = shaped("w0", &[image, "b:1"], Shape::Initial);
            let hooked = shaped("w0", &[image, "b:1"], Shape::HooksAndVolumes);
            wanted.workload.containers = hooked.workload.containers;
            wanted.workload.volumes = hooked.workload.volumes;
            world.hub.run(&wanted);
            world.push();
            act(&mut world);
        }
        let mut new = manifest("w1", &["a:3", "b:1"]);
        new.replaces = vec![uid("w0")];
        world.hub.run(&new);
        world.push();
        act(&mut world);
        world.hub.stop(&uid("w0"), Some(1));
        world.push();
        act(&mut world);
        world.hub.forget(&uid("w0"));
        world.push();
        act(&mut world);
        most = done;
        peace(&mut world, 2);
        check_converged(&mut world);
        assert!(world.runtime.running(&uid("w1")) == 2 && world.runtime.running(&uid("w0")) == 0);
        if fatal > most {
            break;
        }
    }
    assert!(most > 60, "the story has {most} effects");
}

#[test]
fn a_circle_of_replacements_leaves_one_running() {
    let mut world = World::new();
    world.link_up();
    for (this, other) in [("w0", "w1"), ("w1", "w0")] {
        let mut wanted = manifest(this, &["a:1", "b:1"]);
        wanted.replaces = vec![uid(other)];
        world.hub.run(&wanted);
    }
    world.settle();
    peace(&mut world, 6);
    let running = [
        world.runtime.running(&uid("w0")),
        world.runtime.running(&uid("w1")),
    ];
    assert_eq!(running.iter().sum::<usize>(), 2, "{running:?}");
}
