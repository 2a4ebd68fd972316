//! On directories that look like cgroups. What the kernel would refuse they take.

use std::collections::BTreeMap;

use edge_protocol::v1::{Manifest, VERSION, WorkloadSpec};

use super::*;

/// A directory that looks like a cgroup v2 mount as far as we read it. What the kernel would refuse it takes.
fn unified() -> (tempfile::TempDir, Cgroups, SandboxSpec) {
    let mount = tempfile::tempdir().unwrap();
    let spec = SandboxSpec {
        uid: "uid-1".parse().unwrap(),
        namespace: "default".into(),
        name: "web".into(),
        attempt: 0,
        hostname: "web".into(),
        qos: QosClass::Burstable,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ports: Vec::new(),
        manifest: std::sync::Arc::new(Manifest {
            v: VERSION,
            uid: "uid-1".parse().unwrap(),
            namespace: "default".into(),
            name: "web".into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            workload: WorkloadSpec::new("web", Vec::new()),
            objects: Vec::new(),
            requires: Vec::new(),
            replaces: Vec::new(),
        }),
        cpu_request_milli: 1000,
        cpu_limit_milli: Some(1500),
        memory_limit_bytes: None,
    };
    for level in ["", "agent", "agent/burstable", "agent/burstable/poduid-1"] {
        let directory = mount.path().join(level);
        fs::create_dir_all(&directory).unwrap();
        fs::write(
            directory.join("cgroup.controllers"),
            "cpuset cpu io memory hugetlb pids\n",
        )
        .unwrap();
    }
    let cgroups = Cgroups::new(mount.path(), "/agent", mount.path().join("pods"));
    (mount, cgroups, spec)
}

#[test]
fn a_unified_hierarchy_gets_weights_and_maxima() {
    let (mount, cgroups, spec) = unified();
    assert!(cgroups.is_v2());
    assert_eq!(cgroups.ensure_pod(&spec).unwrap(), "/agent/burstable/poduid-1");
    let read = |file: &str| fs::read_to_string(mount.path().join(file)).unwrap();
    for level in ["", "agent/", "agent/burstable/", "agent/burstable/poduid-1/"] {
        let delegated = read(&format!("{level}cgroup.subtree_control"));
        assert_eq!(delegated, "+cpuset +cpu +io +memory +pids", "{level}");
    }
    assert_eq!(read("agent/burstable/poduid-1/cpu.weight"), "39");
    assert_eq!(read("agent/burstable/cpu.weight"), "39");
    assert_eq!(read("agent/burstable/poduid-1/cpu.max"), "150000 100000");
    assert_eq!(read("agent/burstable/poduid-1/memory.max"), "max");
}

#[test]
fn processes_of_a_container_are_counted_whatever_its_class() {
    let (mount, cgroups, _) = unified();
    let container = mount.path().join("agent/burstable/poduid-1/c1");
    fs::create_dir(&container).unwrap();
    fs::write(container.join("cgroup.procs"), "17\n18\n4711\n").unwrap();
    let uid: PodUid = "uid-1".parse().unwrap();
    assert_eq!(cgroups.processes(&uid, "c1"), 3);
    assert_eq!(cgroups.processes(&uid, "c2"), 0);
}

#[test]
fn memory_is_that_of_the_pod_or_of_one_container() {
    let (mount, cgroups, spec) = unified();
    let pod = mount.path().join("agent/burstable/poduid-1");
    fs::create_dir(pod.join("c1")).unwrap();
    for (file, text) in [
        ("memory.current", "8192\n"),
        ("memory.max", "max\n"),
        ("c1/memory.current", "4096\n"),
        ("c1/memory.max", "65536\n"),
    ] {
        fs::write(pod.join(file), text).unwrap();
    }
    let memory = |id| cgroups.memory(&spec, id);
    let held = |used_bytes, limit_bytes| Memory {
        used_bytes,
        limit_bytes,
    };
    assert_eq!(memory(None), held(Some(8192), None));
    assert_eq!(memory(Some("c1")), held(Some(4096), Some(65536)));
    assert_eq!(memory(Some("c2")), Memory::default());
}

#[test]
fn a_failure_names_the_file() {
    let (mount, cgroups, spec) = unified();
    let missing = mount.path().join("agent/cgroup.controllers");
    fs::remove_file(&missing).unwrap();
    let error = cgroups.ensure_pod(&spec).unwrap_err();
    assert_eq!(error.path, missing);
}

#[test]
fn pods_stand_where_the_kubelet_has_them() {
    let cgroups = Cgroups::new("/nowhere", "agent/", "/nowhere");
    let uid: PodUid = "u".parse().unwrap();
    for (qos, expect) in [
        (QosClass::Guaranteed, "/agent/podu"),
        (QosClass::Burstable, "/agent/burstable/podu"),
        (QosClass::BestEffort, "/agent/besteffort/podu"),
    ] {
        assert_eq!(cgroups.pod(qos, &uid), expect);
    }
}

#[test]
fn the_burstable_class_weighs_what_its_pods_request_together() {
    let (_, _, spec) = unified();
    let of = |uid: &str, qos, cpu_request_milli| SandboxSpec {
        uid: uid.parse().unwrap(),
        qos,
        cpu_request_milli,
        ..spec.clone()
    };
    let mount = tempfile::tempdir().unwrap();
    let pods = tempfile::tempdir().unwrap();
    for hierarchy in ["cpu", "memory"] {
        fs::create_dir(mount.path().join(hierarchy)).unwrap();
    }
    // Each is the agent after a restart: nothing is remembered but what is on the disk.
    let cgroups = || Cgroups::new(mount.path(), "/agent", pods.path());
    let shares = |class: &str| {
        let file = mount.path().join("cpu/agent").join(class).join("cpu.shares");
        fs::read_to_string(file).unwrap()
    };
    let ensure = |spec: SandboxSpec| cgroups().ensure_pod(&spec).unwrap();
    cgroups().remove_pod(&"none".parse().unwrap()).unwrap();

    ensure(of("a", QosClass::Burstable, 1000));
    assert_eq!(shares("burstable"), "1024");
    ensure(of("b", QosClass::Burstable, 250));
    ensure(of("c", QosClass::Guaranteed, 4000));
    ensure(of("d", QosClass::BestEffort, 0));
    assert_eq!(
        (shares("burstable"), shares("besteffort")),
        ("1280".into(), "2".into())
    );
    // Resized.
    ensure(of("b", QosClass::Burstable, 500));
    assert_eq!(shares("burstable"), "1536");
    // Its processes have ended, and it is shown until somebody deletes it.
    cgroups().end_pod(&"a".parse().unwrap());
    assert_eq!(shares("burstable"), "512");
    ensure(of("a", QosClass::Burstable, 1000));
    assert_eq!(shares("burstable"), "1536");
    for uid in ["b", "a"] {
        // The kernel's files go with their directory.
        for hierarchy in ["cpu", "memory"] {
            let pod = mount
                .path()
                .join(hierarchy)
                .join("agent/burstable")
                .join(format!("pod{uid}"));
            for file in fs::read_dir(pod).unwrap() {
                fs::remove_file(file.unwrap().path()).unwrap();
            }
        }
        cgroups().remove_pod(&uid.parse().unwrap()).unwrap();
        // What ended before cannot come back.
        cgroups().end_pod(&uid.parse().unwrap());
        assert_eq!(shares("burstable"), if uid == "b" { "1024" } else { "2" });
    }
}
