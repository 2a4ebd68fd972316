//! Names, users, namespaces and last words.

use std::collections::BTreeMap;

use edge_agent_core::step::{ObservedState, StartContainer, Step};
use edge_protocol::v1::{
    ContainerSecurity, ContainerSpec, DnsPolicy, DnsSpec, HostAlias, Namespaces, Profile, Reason,
    TerminationMessage,
};

use super::{Pod, has, shell, started};
use crate::runtime::contract::device::logged;

#[tokio::test]
async fn names_security_and_last_words_are_the_pods() {
    let pod = Pod::new("identity", |manifest| {
        let workload = &mut manifest.workload;
        workload.names.fqdn = Some("identity.sub.default.svc.cluster.local".into());
        workload.names.hostname_is_fqdn = true;
        workload.names.host_aliases = vec![HostAlias {
            ip: "10.9.9.9".into(),
            hostnames: vec!["db".into()],
        }];
        workload.names.dns = DnsSpec {
            policy: DnsPolicy::None,
            nameservers: vec!["192.0.2.53".into()],
            searches: vec!["lab.example".into()],
            options: vec!["ndots:2".into()],
        };
        workload.security.supplemental_groups = vec![4712];
        workload.security.sysctls =
            BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".into(), "81".into())]);
    })
    .await;
    let up = pod.up().await;
    let container = ContainerSpec {
        security: ContainerSecurity {
            run_as_user: Some(1234),
            run_as_group: Some(1235),
            run_as_non_root: true,
            no_new_privileges: true,
            read_only_root_filesystem: true,
            drop_capabilities: vec!["ALL".into()],
            seccomp: Some(Profile::RuntimeDefault),
            ..ContainerSecurity::default()
        },
        termination_message: Some(TerminationMessage {
            path: "/dev/termination-log".into(),
            fall_back_to_log: true,
        }),
        working_dir: Some("/tmp".into()),
        ..shell(
            "main",
            "echo name $(hostname); cat /etc/hosts /etc/resolv.conf; id; pwd
            grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /x 2>/dev/null || echo the root is read-only
            cat /proc/sys/net/ipv4/ip_unprivileged_port_start
            echo 'first line\nsecond' > /dev/termination-log; code=3",
        )
    };
    let (lines, end) = Box::pin(pod.run(&up, container)).await;
    let fqdn = "identity.sub.default.svc.cluster.local";
    has(&lines, &format!("name {fqdn}"));
    has(&lines, &format!("{}\t{fqdn}\tidentity", up.1[0]));
    for line in [
        "10.9.9.9\tdb",
        "nameserver 192.0.2.53",
        "search lab.example",
        "options ndots:2",
        "uid=1234 gid=1235 groups=1235,4712",
        "/tmp",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "the root is read-only",
        "81",
    ] {
        has(&lines, line);
    }
    let ObservedState::Exited {
        exit_code: 3,
        message,
        ..
    } = end
    else {
        panic!("{end:?}")
    };
    assert_eq!(message, "first line\nsecond\n");
}

#[tokio::test]
async fn without_last_words_the_log_counts_and_root_is_refused() {
    let pod = Pod::new("words", |manifest| {
        manifest.workload.namespaces = Namespaces {
            host_network: true,
            share_process_namespace: true,
            ..Namespaces::default()
        };
    })
    .await;
    let up = pod.up().await;
    let container = ContainerSpec {
        termination_message: Some(TerminationMessage {
            path: "/dev/termination-log".into(),
            fall_back_to_log: true,
        }),
        ..shell("main", "head -1 /etc/hosts; ls -d /proc/[0-9]* | wc -l; code=1")
    };
    let (lines, end) = Box::pin(pod.run(&up, container)).await;
    has(&lines, "# Kubernetes-managed hosts file (host network).");
    assert!(
        lines[1].parse::<u32>().unwrap() > 1 + 2,
        "the sandbox's process is seen: {lines:?}"
    );
    let ObservedState::Exited { message, .. } = end else {
        panic!("{end:?}")
    };
    assert!(message.ends_with("the end\n"), "{message}");

    let as_root = ContainerSpec {
        security: ContainerSecurity {
            run_as_non_root: true,
            ..ContainerSecurity::default()
        },
        ..shell("root", "")
    };
    let (reason, message) = pod.refused(&up, as_root).await;
    assert_eq!(reason, Reason::CreateContainerConfigError);
    assert!(
        message.starts_with("container has runAsNonRoot and image will run as root"),
        "{message}"
    );
}

#[tokio::test]
async fn one_container_is_among_the_processes_of_another() {
    let pod = Pod::new("among", |_| {}).await;
    let up = pod.up().await;
    let main = started(&pod.runtime, pod.start(&up, shell("main", "exec sleep 4711"))).await;
    for (name, target, sees) in [("apart", None, "no"), ("beside", Some(main), "yes")] {
        let script = "cat /proc/[0-9]*/cmdline | busybox tr '\\0' ' ' | busybox grep -q 'sleep 471[1]' && echo yes || echo no";
        let Step::StartContainer(start) = pod.start(&up, shell(name, script)) else {
            unreachable!("it starts a container")
        };
        started(
            &pod.runtime,
            Step::StartContainer(Box::new(StartContainer { target, ..*start })),
        )
        .await;
        logged(&pod.workload.log(&pod.device.logs("device-a"), name, 0), sees).await;
    }
}
