//! Streams that the hub orders: what is opened, what is told to be impossible, and what is passed over in silence.

use edge_agent_core::{Input, StreamTask, StreamWork};
use edge_protocol::v1::{LogQuery, Stdio, StreamOrder, StreamRefusal, StreamRequest};
use edge_protocol::{DeviceId, EnrolmentSerial, HubId, Lane, Nonce, SessionEpoch};

use crate::hub::{container, manifest, uid};
use crate::world::World;

const OUT: Stdio = Stdio {
    stdin: false,
    stdout: true,
    stderr: false,
    tty: false,
};

fn exec(pod: &str, container: &str) -> StreamRequest {
    StreamRequest::Exec {
        uid: uid(pod),
        container: container.to_owned(),
        command: vec!["true".to_owned()],
        stdio: OUT,
    }
}

fn logs(pod: &str, container: &str, previous: bool) -> StreamRequest {
    StreamRequest::Logs {
        uid: uid(pod),
        container: container.to_owned(),
        query: LogQuery {
            previous,
            ..LogQuery::default()
        },
    }
}

fn forward(pod: &str, port: u16) -> StreamRequest {
    StreamRequest::PortForward { uid: uid(pod), port }
}

/// Pods `one` with container `c0`, which runs, and `two`, whose `c0` waits for an image that no registry has.
fn running() -> World {
    let mut world = World::new();
    world.runtime.bad_images.insert("bad:1".to_owned());
    world.link_up();
    world.hub.run(&manifest("one", &["a:1"]));
    world.hub.run(&manifest("two", &["bad:1"]));
    world.settle();
    world.push();
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 1);
    world
}

fn order(world: &mut World, ticket: u8, request: StreamRequest) {
    let bytes = world.hub.seal_order(&world.hub.order(ticket, request));
    world.give(Input::Frame(Lane::Command, bytes));
}

#[track_caller]
fn check_opened(world: &mut World, request: StreamRequest) -> StreamTask {
    order(world, 1, request);
    let task = world.opened.pop();
    task.unwrap_or_else(|| panic!("{:?}", world.declined))
}

#[track_caller]
fn check_declined(world: &mut World, request: StreamRequest, why: StreamRefusal, message: &str) {
    order(world, 2, request);
    let refused = world.declined.pop().expect("it is declined");
    assert_eq!((refused.why, refused.message.as_str()), (why, message));
    assert!(world.opened.is_empty());
    // So that the next command is another one.
    world.link_down();
    world.link_up();
    world.settle();
}

#[test]
fn what_runs_is_found_by_what_the_runtime_calls_it() {
    let mut world = running();
    let container_id = world.runtime.containers[0].id.clone();
    let sandbox_id = world.runtime.containers[0].sandbox_id.clone();
    let task = check_opened(&mut world, exec("one", "c0"));
    assert_eq!(
        (task.pod.namespace.as_str(), task.pod.name.as_str()),
        ("default", "one")
    );
    assert_eq!(task.operator.user.as_deref(), Some("ada"));
    assert_eq!(
        task.work,
        StreamWork::Exec {
            container: "c0".to_owned(),
            container_id,
            command: vec!["true".to_owned()],
            stdio: OUT,
        }
    );
    let task = check_opened(&mut world, forward("one", 80));
    assert_eq!(task.work, StreamWork::PortForward { sandbox_id, port: 80 });
    let task = check_opened(&mut world, logs("one", "c0", false));
    assert_eq!(attempt(&task), 0);
    assert!(world.declined.is_empty());
}

#[test]
fn what_cannot_be_is_said_in_the_kubelets_words() {
    let world = &mut running();
    let not_found = StreamRefusal::NotFound;
    let not_running = StreamRefusal::NotRunning;
    let no_pod = "pod does not exist";
    check_declined(world, exec("three", "c0"), not_found, no_pod);
    check_declined(world, forward("three", 80), not_found, no_pod);
    check_declined(world, logs("three", "c0", false), not_found, no_pod);
    let foreign = "container c9 is not valid for pod one";
    check_declined(world, exec("one", "c9"), not_found, foreign);
    check_declined(world, logs("one", "c9", false), not_found, foreign);
    check_declined(
        world,
        exec("two", "c0"),
        not_running,
        "container not found (\"c0\")",
    );
    let waits = "container \"c0\" in pod \"two\" is waiting to start: image can't be pulled";
    check_declined(world, logs("two", "c0", false), not_running, waits);
    let first = "previous terminated container \"c0\" in pod \"one\" not found";
    check_declined(world, logs("one", "c0", true), not_found, first);
    check_declined(
        world,
        forward("one", 0),
        StreamRefusal::Failed,
        "port 0 must be > 0",
    );
    let silent = StreamRequest::Attach {
        uid: uid("one"),
        container: "c0".to_owned(),
        stdio: Stdio {
            stderr: true,
            tty: true,
            ..Stdio::default()
        },
    };
    let words = "you must specify at least 1 of stdin, stdout, stderr";
    check_declined(world, silent, StreamRefusal::Failed, words);
    let words = "the device's agent does not know this kind of stream";
    check_declined(world, StreamRequest::Unknown, StreamRefusal::Unsupported, words);
    world.runtime.kill_sandbox(&uid("one"));
    world.look();
    check_declined(
        world,
        forward("one", 80),
        not_running,
        "pod not found (\"one_default\")",
    );
}

#[track_caller]
fn attempt(task: &StreamTask) -> u32 {
    match task.work {
        StreamWork::Logs { attempt, .. } => attempt,
        _ => panic!("{task:?}"),
    }
}

/// A container that ended has no commands, and its log is there; after its restart the log before is, too.
#[test]
fn a_log_outlives_its_container() {
    let mut world = running();
    let now = world.now.wall_ms;
    world.runtime.exit(&uid("one"), "c0", 1, now);
    // The runtime has it as it was; the restart is backed off.
    world.look();
    let task = check_opened(&mut world, logs("one", "c0", false));
    assert_eq!(attempt(&task), 0);
    world.pass(60_000);
    assert_eq!(world.runtime.running(&uid("one")), 1);
    let task = check_opened(&mut world, logs("one", "c0", false));
    assert_eq!(attempt(&task), 1);
    let task = check_opened(&mut world, logs("one", "c0", true));
    assert_eq!(attempt(&task), 0);
}

/// An initial container is a container.
#[test]
fn an_initial_container_that_runs_is_served() {
    let mut world = World::new();
    let mut pod = manifest("one", &["a:1"]);
    pod.workload.init_containers = vec![container("init", "a:1")];
    world.link_up();
    world.hub.run(&pod);
    world.settle();
    world.push();
    world.settle();
    assert_eq!(world.runtime.running(&uid("one")), 1);
    check_opened(&mut world, exec("one", "init"));
}

/// Every way in which an order may be for someone else. It opens nothing, and nobody is told.
#[test]
fn what_is_not_for_this_session_is_only_reported() {
    type Spoil = fn(&mut StreamOrder);
    let spoilt: [(&str, Spoil); 6] = [
        ("other device", |o| o.device = DeviceId::new("press-8").unwrap()),
        ("other session", |o| o.session = SessionEpoch(99)),
        ("other hello", |o| o.nonce = Nonce::from_bytes([9; 16])),
        ("other enrolment", |o| {
            o.enrolment = EnrolmentSerial::new("ab13").unwrap();
        }),
        ("other hub", |o| o.hub = HubId(uuid::Uuid::from_u128(2))),
        ("newer protocol", |o| o.v = 2),
    ];
    for (what, spoil) in spoilt {
        let mut world = running();
        let mut order = world.hub.order(1, exec("one", "c0"));
        spoil(&mut order);
        let bytes = world.hub.seal_order(&order);
        check_silent(&mut world, what, Lane::Command, bytes);
    }
    let mut world = running();
    let bytes = world.hub.seal_order(&world.hub.order(1, exec("one", "c0")));
    check_silent(&mut world, "other lane", Lane::Desired, bytes.clone());
    world.link_down();
    check_silent(&mut world, "no session", Lane::Command, bytes.clone());
    world.link_up();
    check_silent(
        &mut world,
        "before the hub's first word",
        Lane::Command,
        bytes.clone(),
    );
    world.settle();
    check_silent(&mut world, "the session before", Lane::Command, bytes);
}

#[track_caller]
fn check_silent(world: &mut World, what: &str, lane: Lane, bytes: Vec<u8>) {
    world.notes.clear();
    let said = world.to_hub.len();
    world.give(Input::Frame(lane, bytes));
    assert!(world.opened.is_empty() && world.declined.is_empty(), "{what}");
    assert_eq!(world.to_hub.len(), said, "{what}");
    let kinds: Vec<_> = world.notes.iter().map(edge_agent_core::Note::kind).collect();
    assert_eq!(kinds, ["frame_refused"], "{what}");
}

/// The hub gives a ticket out once, but a command would have run twice by then.
#[test]
fn a_command_that_is_ordered_twice_runs_once() {
    let mut world = running();
    let bytes = world.hub.seal_order(&world.hub.order(1, exec("one", "c0")));
    world.give(Input::Frame(Lane::Command, bytes.clone()));
    assert_eq!(std::mem::take(&mut world.opened).len(), 1);
    check_silent(&mut world, "doubled", Lane::Command, bytes);
    order(&mut world, 2, exec("one", "c0"));
    assert_eq!(world.opened.len(), 1, "another command is another one");
}

#[test]
fn an_agent_that_has_no_streams_opens_none() {
    let mut world = World::new();
    world.features.clear();
    world.crash();
    world.link_up();
    world.hub.run(&manifest("one", &["a:1"]));
    world.settle();
    let bytes = world.hub.seal_order(&world.hub.order(1, exec("one", "c0")));
    check_silent(&mut world, "no ability", Lane::Command, bytes);
}

#[test]
fn before_the_first_look_nothing_is_said_of_what_runs() {
    let mut world = running();
    world.crash();
    world.link_up();
    while world.talk() {}
    order(&mut world, 1, exec("one", "c0"));
    let refused = world.declined.pop().unwrap();
    assert_eq!(refused.why, StreamRefusal::Failed, "{}", refused.message);
}
