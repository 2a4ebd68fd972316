//! Stories of what a device takes in, and what it does not.

use edge_agent_core::Input;
use edge_agent_core::usage::{Disk, Room, Usage};
use edge_protocol::v1::{Amounts, Phase, PortProtocol, PortSpec, Reason, Rung};

use crate::hub::{manifest, uid};
use crate::order::{run, told, up, with_volume};
use crate::world::World;

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let mut world = up();
    let mut strange = manifest("strange", &["a:1"]);
    strange.requires = vec!["probes".to_owned(), "volumes".to_owned()];
    world.hub.run(&strange);
    world.push();
    world.settle();
    let status = world.status("strange");
    assert_eq!(
        (status.phase, status.reason),
        (Phase::Refused, Some(Reason::RequirementNotMet))
    );
    assert!(status.message.contains("probes, volumes"), "{}", status.message);
    assert!(world.runtime.sandboxes.is_empty() && world.runtime.images.is_empty());
    world.hub.stop(&uid("strange"), None);
    world.push();
    world.settle();
    assert_eq!(world.status("strange").phase, Phase::Gone);
}

#[test]
fn what_does_not_fit_fails_as_under_a_kubelet() {
    let mut world = up();
    let mut big = manifest("big", &["a:1"]);
    big.workload.containers[0].resources.cpu_request_milli = Some(3_000);
    let mut more = manifest("more", &["a:1"]);
    more.workload.containers[0].resources.cpu_request_milli = Some(2_000);
    world.hub.run(&big);
    world.push();
    world.settle();
    world.hub.run(&more);
    world.push();
    world.settle();
    let status = world.status("more");
    assert_eq!(
        (status.phase, status.reason),
        (Phase::Failed, Some(Reason::OutOfcpu))
    );
    let why = "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000";
    assert_eq!(status.message, format!("Pod was rejected: {why}"));
    assert_eq!(told(&world, Reason::OutOfcpu), [why]);
    assert!(status.containers.is_empty());
    assert_eq!(world.status("big").rung, Rung::Healthy);
}

#[test]
fn what_the_devices_policy_forbids_says_so_and_waits() {
    for volumes in [vec![], with_volume().workload.volumes] {
        let mut world = up();
        let mut wanted = manifest("one", &["a:1"]);
        wanted.workload.volumes.clone_from(&volumes);
        world.runtime.forbidden.insert(uid("one"));
        run(&mut world, &wanted);
        let status = world.status("one");
        let said = (status.phase, status.reason, status.message.as_str());
        let expect = (Phase::Pending, Some(Reason::DevicePolicy), "forbid_privileged");
        assert_eq!(said, expect, "{volumes:?}");
        assert_eq!(told(&world, Reason::DevicePolicy), ["forbid_privileged"]);
        assert!(world.runtime.sandboxes.is_empty());
        world.runtime.forbidden.clear();
        world.pass(60_000);
        let status = world.status("one");
        assert_eq!((status.rung, status.reason), (Rung::Healthy, None));
    }
}

#[test]
fn parameters_of_the_kernel_that_others_would_feel_are_not_set() {
    let mut world = up();
    let setting = |name: &str, sysctl: &str| {
        let mut wanted = manifest(name, &["a:1"]);
        let sysctls = &mut wanted.workload.security.sysctls;
        sysctls.insert(sysctl.to_owned(), "1".to_owned());
        wanted
    };
    run(&mut world, &setting("safe", "net.ipv4.tcp_syncookies"));
    run(&mut world, &setting("not", "net.core.somaxconn"));
    assert_eq!(world.status("safe").rung, Rung::Healthy);
    let status = world.status("not");
    let why = "forbidden sysctl: \"net.core.somaxconn\" not allowlisted";
    assert_eq!(
        (status.phase, status.reason, status.message.as_str()),
        (
            Phase::Failed,
            Some(Reason::SysctlForbidden),
            format!("Pod was rejected: {why}").as_str()
        )
    );
    assert_eq!(told(&world, Reason::SysctlForbidden), [why]);
}

#[test]
fn what_the_runtime_cannot_keep_to_is_not_taken_in_once_that_is_known() {
    let knows = |world: &mut World, runtime: &str, strict_groups: bool| {
        world.facts.runtime_name = runtime.to_owned();
        world.facts.strict_groups = strict_groups;
        world.give(Input::Facts(Box::new(world.facts.clone())));
        world.link_up();
        world.settle();
    };
    for (strict_groups, expect) in [
        (true, (Phase::Running, None)),
        (
            false,
            (Phase::Failed, Some(Reason::SupplementalGroupsPolicyNotSupported)),
        ),
    ] {
        let mut world = up();
        knows(&mut world, "", false);
        let mut wanted = manifest("one", &["a:1"]);
        wanted.workload.security.strict_supplemental_groups = true;
        run(&mut world, &wanted);
        assert_eq!(world.status("one").phase, Phase::Pending);
        knows(&mut world, "containerd", strict_groups);
        let status = world.status("one");
        assert_eq!((status.phase, status.reason), expect);
    }
}

#[test]
fn what_its_node_keeps_back_is_not_given_away() {
    let mut world = up();
    let asks = |name: &str, cpu_milli| {
        let mut wanted = manifest(name, &["a:1"]);
        wanted.workload.containers[0].resources.cpu_request_milli = Some(cpu_milli);
        wanted.workload.reserved = Some(Amounts {
            cpu_milli: 1_000,
            ..Amounts::default()
        });
        wanted
    };
    world.hub.run(&asks("fits", 3_000));
    world.hub.run(&asks("not", 3_001));
    world.push();
    world.settle();
    assert_eq!(world.status("fits").rung, Rung::Healthy);
    let status = world.status("not");
    assert_eq!(
        (status.phase, status.reason),
        (Phase::Failed, Some(Reason::OutOfcpu))
    );
    assert!(status.message.ends_with("capacity: 3000"), "{}", status.message);
}

#[test]
fn a_device_that_lacks_disk_takes_only_what_is_critical() {
    let mut world = up();
    world.give(Input::Usage(Box::new(Usage {
        node_disk: Some(Disk {
            bytes: Room {
                capacity: 1_000,
                available: 1,
            },
            ..Disk::default()
        }),
        ..Usage::default()
    })));
    let mut critical = manifest("critical", &["a:1"]);
    critical.workload.priority = 2_000_000_000;
    world.hub.run(&critical);
    world.hub.run(&manifest("other", &["a:1"]));
    world.push();
    world.settle();
    assert_eq!(world.status("critical").rung, Rung::Healthy);
    let status = world.status("other");
    assert_eq!(
        (status.phase, status.reason),
        (Phase::Failed, Some(Reason::Evicted))
    );
    assert_eq!(
        status.message,
        "Pod was rejected: The node had condition: [DiskPressure]. "
    );
}

#[test]
fn a_swap_in_one_set_waits_for_the_one_that_leaves() {
    let mut world = up();
    let mut first = manifest("first", &["a:1"]);
    first.workload.containers[0].ports = vec![PortSpec {
        name: None,
        container_port: 80,
        host_port: Some(8080),
        host_ip: None,
        protocol: PortProtocol::Tcp,
    }];
    let mut second = first.clone();
    (second.uid, second.name) = (uid("second"), "second".to_owned());
    world.hub.run(&first);
    world.push();
    world.settle();
    world.hub.run(&second);
    world.hub.stop(&uid("first"), None);
    world.push();
    world.settle();
    assert_eq!(
        (
            world.runtime.running(&uid("first")),
            world.runtime.running(&uid("second"))
        ),
        (0, 1)
    );
}
