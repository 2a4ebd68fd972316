//! Images on their way to the device: what is asked of registries, when, and what is told of it.

use edge_agent_core::{Input, Step, StepId, StepOutcome};
use edge_protocol::v1::{ContainerState, Manifest, PullPolicy, Reason};

use crate::hub::{manifest, uid};
use crate::world::World;

fn up() -> World {
    let mut world = World::new();
    world.link_up();
    world.settle();
    world
}

fn with(names: &[&str]) -> World {
    let mut world = up();
    for name in names {
        world.hub.run(&manifest(name, &["a:1", "b:1"]));
    }
    world.push();
    world.settle();
    world
}

fn run(world: &mut World, manifest: &Manifest) {
    world.hub.run(manifest);
    world.push();
    world.settle();
}

/// What was told of the first container of a workload, with the words that matter.
fn history(world: &World, name: &str) -> Vec<String> {
    let events = world.hub.events.iter();
    let told = events.filter(|event| event.uid == uid(name) && event.container.as_deref() == Some("c0"));
    told.map(|event| format!("{} {}", event.reason, event.message))
        .collect()
}

fn waits_for(world: &World, name: &str) -> Reason {
    match &world.status(name).containers[0].state {
        ContainerState::Waiting { reason, .. } => *reason,
        state => panic!("{state:?}"),
    }
}

#[test]
fn a_pull_that_fails_is_told_and_tried_again_as_by_a_kubelet() {
    let mut world = up();
    world.runtime.bad_images.insert("a:1".to_owned());
    run(&mut world, &manifest("one", &["a:1"]));
    assert_eq!(waits_for(&world, "one"), Reason::ErrImagePull);
    let failed = [
        "Pulling Pulling image \"a:1\"",
        "Failed Failed to pull image \"a:1\": not found",
        "Failed Error: ErrImagePull",
    ];
    assert_eq!(history(&world, "one"), failed);
    world.pass(1_000);
    assert_eq!(waits_for(&world, "one"), Reason::ImagePullBackOff);
    let backing_off = [
        "BackOff Back-off pulling image \"a:1\"",
        "Failed Error: ImagePullBackOff",
    ];
    let all = [failed.as_slice(), &backing_off].concat();
    assert_eq!(history(&world, "one"), all);
    world.pass(8_900);
    assert_eq!(history(&world, "one"), all, "not before ten seconds are over");
    world.pass(5_200);
    let again = [all.as_slice(), &failed].concat();
    assert_eq!(history(&world, "one"), again);
    assert_eq!(waits_for(&world, "one"), Reason::ErrImagePull);
    world.pass(10_000);
    assert_eq!(history(&world, "one"), [again.as_slice(), &backing_off].concat());
    world.runtime.bad_images.clear();
    world.pass(20_000);
    assert_eq!(world.runtime.running(&uid("one")), 1);
    let told = history(&world, "one");
    let pulled =
        "Pulled Successfully pulled image \"a:1\" in 0s (0s including waiting). Image size: 7 bytes.";
    assert!(told.iter().any(|event| event == pulled), "{told:?}");
}

#[test]
fn an_image_that_may_not_be_pulled_is_looked_for_at_each_look_of_a_kubelet_and_told_once() {
    let mut world = up();
    let mut never = manifest("one", &["a:1"]);
    never.workload.containers[0].pull_policy = PullPolicy::Never;
    run(&mut world, &never);
    let told = [
        "ErrImageNeverPull Container image \"a:1\" is not present with pull policy of Never",
        "Failed Error: ErrImageNeverPull",
    ];
    assert_eq!(waits_for(&world, "one"), Reason::ErrImageNeverPull);
    world.pass(100_000);
    assert_eq!(history(&world, "one"), told);
    world.runtime.images.insert("a:1".to_owned());
    world.pass(15_000);
    assert_eq!(world.runtime.running(&uid("one")), 1);
    let present = "Pulled Container image \"a:1\" already present on machine and can be accessed by the pod";
    assert_eq!(history(&world, "one")[2], present);
}

/// The pulls that the pump was given and that have not ended.
fn pulling(world: &World) -> Vec<String> {
    let steps = world.steps.iter();
    let images = steps.filter_map(|(_, step)| match step {
        Step::PullImage { image, .. } => Some(image.clone()),
        _ => None,
    });
    images.collect()
}

/// Everything but pulls happens.
fn settle_but_for_pulls(world: &mut World) {
    let mut held = Vec::new();
    for _ in 0..1_000 {
        if let Some((_, Step::PullImage { .. })) = world.steps.front() {
            held.extend(world.steps.pop_front());
        } else if !(world.commit() || world.talk() || world.fetch() || world.step()) {
            if !world.look_due {
                break;
            }
            world.look();
        }
    }
    for (id, step) in held.into_iter().rev() {
        world.steps.push_front((id, step));
    }
}

fn start(world: &mut World, names: &[&str]) {
    for name in names {
        world.hub.run(&manifest(name, &[&format!("{name}:1")]));
        world.push();
        settle_but_for_pulls(world);
    }
}

fn end_pull(world: &mut World) {
    assert!(matches!(world.steps.front(), Some((_, Step::PullImage { .. }))));
    world.step();
    settle_but_for_pulls(world);
}

#[test]
fn pulls_take_their_turns_and_hold_up_nothing_else() {
    let mut world = with(&["other"]);
    // Their names sort the other way round.
    start(&mut world, &["z", "y", "x"]);
    assert_eq!(pulling(&world), ["z:1"]);
    world.runtime.exit(&uid("other"), "c0", 1, world.now.wall_ms);
    world.look();
    settle_but_for_pulls(&mut world);
    assert_eq!(
        world.runtime.running(&uid("other")),
        2,
        "a restart waits for no pull"
    );
    assert_eq!(pulling(&world), ["z:1"]);
    world.now.mono_ms += 30_000;
    end_pull(&mut world);
    assert_eq!(pulling(&world), ["y:1"], "who came first");
    assert_eq!(world.runtime.running(&uid("z")), 1);
    world.now.mono_ms += 2_500;
    end_pull(&mut world);
    let told = history(&world, "y");
    assert!(told[1].contains("in 2.5s (32.5s including waiting)"), "{told:?}");
    assert_eq!(pulling(&world), ["x:1"]);
}

#[test]
fn as_many_pulls_as_are_allowed_go_on_at_a_time() {
    for (limit, expect) in [(std::num::NonZeroU32::new(2), 2), (None, 3)] {
        let mut world = up();
        world.parallel_pulls = limit;
        world.crash();
        world.link_up();
        world.settle();
        start(&mut world, &["z", "y", "x"]);
        assert_eq!(pulling(&world).len(), expect);
    }
}

#[test]
fn a_pull_that_takes_long_is_told_of_less_and_less_often() {
    let mut world = up();
    start(&mut world, &["one"]);
    for _ in 0..600 {
        world.now.mono_ms += 1_000;
        world.give(Input::Wake);
        settle_but_for_pulls(&mut world);
    }
    let told = history(&world, "one");
    let still = |after: &str| format!("Pulling Still pulling image \"one:1\" after {after}");
    assert_eq!(told[1..], ["1m0s", "2m0s", "4m0s", "8m0s"].map(still));
}

#[test]
fn who_waits_for_an_image_that_came_for_another_has_it_at_once() {
    let mut world = up();
    world.runtime.bad_images.insert("a:1".to_owned());
    run(&mut world, &manifest("one", &["a:1"]));
    world.pass(200_000);
    world.runtime.bad_images.clear();
    run(&mut world, &manifest("two", &["a:1"]));
    assert_eq!(world.runtime.running(&uid("one")), 1);
}

#[test]
fn what_a_runtime_says_to_a_pull_of_an_earlier_life_changes_nothing() {
    let mut world = up();
    start(&mut world, &["one"]);
    let outcome = StepOutcome::NoImage;
    world.give(Input::StepEnded {
        step: StepId(9_999),
        outcome,
    });
    assert_eq!(pulling(&world), ["one:1"]);
}

#[test]
fn a_restart_does_not_ask_the_registry() {
    let mut world = up();
    let mut always = manifest("one", &["a:1"]);
    always.workload.containers[0].pull_policy = PullPolicy::Always;
    world.hub.run(&always);
    world.push();
    world.settle();
    world.crash();
    world.runtime.exit(&uid("one"), "c0", 1, world.now.wall_ms);
    world.look();
    assert!(
        matches!(world.steps.front(), Some((_, Step::FindImage { .. }))),
        "{:?}",
        world.steps
    );
}

fn told<'a>(world: &'a World, name: &str, reason: Reason) -> Vec<&'a str> {
    let events = world.hub.events.iter();
    let told = events.filter(|event| event.uid == uid(name) && event.reason == reason);
    told.map(|event| event.container.as_deref().unwrap_or_default())
        .collect()
}

#[test]
fn an_image_is_told_once_per_container_that_waits_for_it() {
    let mut world = with(&["one"]);
    assert_eq!(told(&world, "one", Reason::Pulled), ["c0", "c1"]);
    world.hub.run(&manifest("one", &["a:1", "b:2"]));
    world.push();
    world.settle();
    assert_eq!(told(&world, "one", Reason::Pulled), ["c0", "c1", "c1"]);

    // A start that fails has its image looked for again.
    world.hub.run(&manifest("two", &["z:1"]));
    world.push();
    while !matches!(world.steps.front(), Some((_, Step::StartContainer(_)))) {
        assert!(world.talk() || world.commit() || world.step());
    }
    world.fail_step();
    world.settle();
    world.pass(5_000);
    assert_eq!(world.runtime.running(&uid("two")), 1);
    assert_eq!(told(&world, "two", Reason::Failed), ["c0"]);
    assert_eq!(told(&world, "two", Reason::Pulled), ["c0"]);

    // One that could not be had before is news.
    world.runtime.bad_images.insert("bad:1".to_owned());
    world.hub.run(&manifest("three", &["z:1", "bad:1"]));
    world.push();
    world.settle();
    world.pass(2_000);
    assert_eq!(told(&world, "three", Reason::BackOff), ["c1"]);
    world.runtime.bad_images.clear();
    world.pass(20_000);
    assert_eq!(told(&world, "three", Reason::Pulled), ["c0", "c1"]);
}

fn with_secret(name: &str, secret: &str) -> Manifest {
    let mut wanted = manifest(name, &["r.example/a:1"]);
    wanted.workload.pull_secrets = vec![secret.to_owned()];
    wanted
}

#[test]
fn a_pull_secret_that_the_cluster_does_not_have_is_told_of_when_a_pull_fails() {
    let told = |world: &World| {
        let events = world.hub.events.iter();
        let told = events.filter(|event| event.reason == Reason::FailedToRetrieveImagePullSecret);
        told.map(|event| event.message.clone()).collect::<Vec<_>>()
    };
    let mut world = up();
    run(&mut world, &with_secret("one", "nowhere"));
    assert_eq!(world.runtime.running(&uid("one")), 1, "it may be open to all");
    assert_eq!(told(&world), [""; 0]);
    world.runtime.images.clear();
    world.runtime.bad_images.insert("r.example/a:1".to_owned());
    run(&mut world, &with_secret("two", "nowhere"));
    assert_eq!(
        told(&world),
        [
            "Unable to retrieve some image pull secrets (nowhere); attempting to pull the image may not succeed."
        ]
    );
}

#[test]
fn an_image_that_took_a_credential_is_asked_for_by_who_has_none_also_after_a_crash() {
    let mut world = up();
    world.runtime.secret = Some("registry".to_owned());
    run(&mut world, &with_secret("one", "registry"));
    assert_eq!(world.runtime.running(&uid("one")), 1);
    world.crash();
    world.link_up();
    world.settle();
    world.runtime.bad_images.insert("r.example/a:1".to_owned());
    run(&mut world, &manifest("two", &["r.example/a:1"]));
    assert_eq!(
        waits_for(&world, "two"),
        Reason::ErrImagePull,
        "the registry has the say"
    );
    let mut never = manifest("three", &["r.example/a:1"]);
    never.workload.containers[0].pull_policy = PullPolicy::Never;
    run(&mut world, &never);
    assert_eq!(waits_for(&world, "three"), Reason::ErrImageNeverPull);
    // What ran from it goes on, whatever became of the secret.
    world.runtime.exit(&uid("one"), "c0", 1, world.now.wall_ms);
    world.look();
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 1);
}
