use super::*;

fn time() -> Timestamp {
    "2026-11-22T18:00:00.5Z".parse().unwrap()
}

fn cpu(nano_seconds: u64) -> CpuStats {
    CpuStats {
        time: time(),
        usage_nano_cores: Some(5),
        usage_core_nano_seconds: Some(nano_seconds),
        throttling: Some(Throttling {
            periods: 7,
            throttled_periods: 3,
            throttled_nano_seconds: 1_500_000_000,
        }),
    }
}

fn memory(working_set: u64) -> MemoryStats {
    MemoryStats {
        time: time(),
        available_bytes: None,
        usage_bytes: Some(2 * working_set),
        working_set_bytes: Some(working_set),
        rss_bytes: Some(1),
        page_faults: None,
        major_page_faults: None,
        cache_bytes: Some(9),
    }
}

fn network() -> NetworkStats {
    let default = InterfaceStats {
        name: "eth0".into(),
        rx_bytes: Some(10),
        rx_packets: Some(2),
        ..InterfaceStats::default()
    };
    NetworkStats {
        time: time(),
        interfaces: vec![default.clone()],
        default,
    }
}

fn fs() -> FsStats {
    FsStats {
        time: time(),
        available_bytes: Some(60),
        capacity_bytes: Some(100),
        used_bytes: Some(40),
        inodes_free: None,
        inodes: None,
        inodes_used: None,
    }
}

fn summary() -> Summary {
    let container = ContainerStats {
        name: "main".into(),
        start_time: "2026-11-22T17:00:00Z".parse().unwrap(),
        cpu: Some(cpu(2_000_000_000)),
        memory: Some(memory(4096)),
        rootfs: Some(fs()),
        logs: None,
        swap: None,
        identity: ContainerIdentity {
            cgroup: "/kubepods/pod1/c1".into(),
            image: "shop/\"web\"".into(),
            id: "c1".into(),
        },
        limits: ContainerLimits {
            cpu_quota: Some(-1),
            cpu_period: Some(100_000),
            ..ContainerLimits::default()
        },
        processes: Some(2),
    };
    let pod = PodStats {
        pod_ref: PodReference {
            name: "web".into(),
            namespace: "shop".into(),
            uid: "u".into(),
        },
        start_time: time(),
        containers: vec![container],
        cpu: Some(cpu(3_000_000_000)),
        memory: Some(memory(8192)),
        network: Some(network()),
        volumes: vec![VolumeStats {
            fs: fs(),
            name: "data".into(),
            claim: None,
        }],
        ephemeral_storage: None,
        processes: Some(ProcessStats { count: Some(3) }),
        swap: None,
    };
    let node = NodeStats {
        node_name: "edge".into(),
        start_time: time(),
        cpu: Some(cpu(9_000_000_000)),
        memory: Some(memory(1 << 30)),
        network: None,
        fs: Some(fs()),
        runtime: None,
        rlimit: None,
        swap: None,
        machine: Some(MachineStats {
            cores: 4,
            memory_bytes: 8 << 30,
        }),
    };
    Summary {
        node,
        pods: vec![pod],
    }
}

#[test]
fn the_summary_is_that_of_v1alpha1() {
    let shown = serde_json::to_value(summary()).unwrap();
    assert_eq!(shown["node"]["nodeName"], "edge");
    assert_eq!(shown["node"]["fs"]["capacityBytes"], 100);
    let pod = &shown["pods"][0];
    assert_eq!(pod["podRef"]["uid"], "u");
    assert_eq!(pod["cpu"]["usageCoreNanoSeconds"], 3_000_000_000_u64);
    assert_eq!(pod["memory"]["workingSetBytes"], 8192);
    assert_eq!(
        pod["network"]["rxBytes"], 10,
        "the default interface stands beside the list"
    );
    assert_eq!(pod["network"]["interfaces"][0]["name"], "eth0");
    assert_eq!(
        (&pod["volume"][0]["name"], &pod["volume"][0]["usedBytes"]),
        (&"data".into(), &40.into())
    );
    assert_eq!(pod["process_stats"]["process_count"], 3);
    assert_eq!(pod["startTime"], "2026-11-22T18:00:00.5Z");
    let container = &pod["containers"][0];
    for absent in ["identity", "limits", "processes", "logs", "swap"] {
        assert!(container.get(absent).is_none(), "{absent}");
    }
    let small = serde_json::to_value(summary().cpu_and_memory()).unwrap();
    assert_eq!(small["pods"][0]["cpu"], pod["cpu"]);
    for absent in ["network", "volume", "process_stats"] {
        assert!(small["pods"][0].get(absent).is_none(), "{absent}");
    }
    assert!(small["node"].get("fs").is_none() && small["pods"][0]["containers"][0].get("rootfs").is_none());
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|at| at == line), "{line} is not in\n{text}");
}

#[test]
fn resource_metrics_are_what_metrics_server_scrapes() {
    let text = resource(Some(&summary()));
    has(&text, "# TYPE container_cpu_usage_seconds_total counter");
    let labels = r#"{container="main",pod="web",namespace="shop"}"#;
    has(
        &text,
        &format!("container_cpu_usage_seconds_total{labels} 2 1795370400500"),
    );
    has(
        &text,
        &format!("container_memory_working_set_bytes{labels} 4096 1795370400500"),
    );
    has(&text, &format!("container_start_time_seconds{labels} 1795366800"));
    has(&text, "node_cpu_usage_seconds_total 9 1795370400500");
    has(
        &text,
        r#"pod_memory_working_set_bytes{namespace="shop",pod="web"} 8192 1795370400500"#,
    );
    has(&text, "resource_scrape_error 0");
    assert!(
        !text.contains("swap"),
        "a family without samples has no lines: {text}"
    );
    let failed = resource(None);
    has(&failed, "resource_scrape_error 1");
    has(&failed, "scrape_error 1");
}

#[test]
fn cadvisor_series_are_what_dashboards_ask_for() {
    let text = cadvisor(Some(&summary()));
    let of = r#"container="main",id="/kubepods/pod1/c1",image="shop/\"web\"",name="c1",namespace="shop",pod="web""#;
    has(
        &text,
        &format!("container_cpu_usage_seconds_total{{{of},cpu=\"total\"}} 2 1795370400500"),
    );
    has(
        &text,
        &format!("container_cpu_cfs_throttled_seconds_total{{{of}}} 1.5 1795370400500"),
    );
    has(&text, &format!("container_memory_cache{{{of}}} 9 1795370400500"));
    has(
        &text,
        &format!("container_fs_usage_bytes{{{of},device=\"\"}} 40 1795370400500"),
    );
    has(&text, &format!("container_spec_cpu_period{{{of}}} 100000"));
    has(&text, &format!("container_start_time_seconds{{{of}}} 1795366800"));
    assert!(!text.contains("container_spec_cpu_quota"), "no quota, no sample");
    let pod = r#"container="",id="",image="",name="",namespace="shop",pod="web""#;
    has(
        &text,
        &format!("container_network_receive_packets_total{{{pod},interface=\"eth0\"}} 2 1795370400500"),
    );
    let node = r#"container="",id="/",image="",name="",namespace="",pod="""#;
    has(
        &text,
        &format!("container_memory_working_set_bytes{{{node}}} 1073741824 1795370400500"),
    );
    has(&text, "machine_cpu_cores 4");
    has(&text, "container_scrape_error 0");
    has(&cadvisor(None), "container_scrape_error 1");
}
