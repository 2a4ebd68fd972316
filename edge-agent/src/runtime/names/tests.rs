use super::*;

fn names(fqdn: Option<&str>, hostname_is_fqdn: bool) -> Names {
    Names {
        fqdn: fqdn.map(str::to_owned),
        hostname_is_fqdn,
        host_aliases: vec![HostAlias {
            ip: "10.9.9.9".into(),
            hostnames: vec!["db".into(), "db.local".into()],
        }],
        ..Names::default()
    }
}

#[test]
fn hosts_is_the_kubelets() {
    let head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    let tail = "\n# Entries added by HostAliases.\n10.9.9.9\tdb\tdb.local\n";
    let one: [IpAddr; 1] = ["10.1.0.5".parse().unwrap()];
    let plain = hosts(&one, "web-0", &Names::default());
    assert_eq!(plain, format!("{head}10.1.0.5\tweb-0\n"));
    let both: [IpAddr; 2] = [one[0], "fd00::5".parse().unwrap()];
    let whole = hosts(
        &both,
        "web-0",
        &names(Some("web-0.web.shop.svc.cluster.local"), false),
    );
    let names_of_it = "web-0.web.shop.svc.cluster.local\tweb-0";
    let lines = format!("10.1.0.5\t{names_of_it}\nfd00::5\t{names_of_it}\n");
    assert_eq!(whole, format!("{head}{lines}{tail}"));
    let of_device = hosts_of_device("127.0.0.1 localhost\n", &names(None, false));
    let head = "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n";
    assert_eq!(of_device, format!("{head}{tail}"));
}

#[test]
fn the_kernels_name_is_the_whole_one_if_it_fits() {
    assert_eq!(
        kernel_hostname("web-0", &names(Some("web-0.web"), false)).unwrap(),
        "web-0"
    );
    assert_eq!(
        kernel_hostname("web-0", &names(Some("web-0.web"), true)).unwrap(),
        "web-0.web"
    );
    assert_eq!(kernel_hostname("web-0", &names(None, true)).unwrap(), "web-0");
    let long = "x".repeat(65);
    assert!(kernel_hostname("x", &names(Some(&long[..64]), true)).is_ok());
    let error = kernel_hostname("x", &names(Some(&long), true))
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("is too long (64 characters is the max, 65 characters requested)"),
        "{error}"
    );
}

const OF_DEVICE: &str = "# by hand\nnameserver 192.0.2.53\nsearch old.example\nsearch corp.example. . lab.example\noptions ndots:2 rotate\noptions ndots:3\n";

#[track_caller]
fn check(spec: &DnsSpec, resolver: &Resolver, expect: (&[&str], &[&str], &[&str])) {
    let conf = resolv_conf("shop", spec, resolver, Some(OF_DEVICE));
    let (servers, searches, options) = expect;
    assert_eq!(
        (conf.servers, conf.searches, conf.options),
        (
            servers.iter().map(ToString::to_string).collect(),
            searches.iter().map(ToString::to_string).collect(),
            options.iter().map(ToString::to_string).collect(),
        )
    );
}

#[test]
fn each_policy_has_its_base() {
    let cluster = Resolver {
        cluster_dns: vec!["10.96.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        resolv_conf: None,
    };
    let of = |policy| DnsSpec {
        policy,
        ..DnsSpec::default()
    };
    let own: (&[&str], &[&str], &[&str]) = (
        &["192.0.2.53"],
        &["corp.example", "lab.example"],
        &["ndots:3", "rotate"],
    );
    check(&of(DnsPolicy::Default), &cluster, own);
    // Without a cluster's resolver, the device's.
    check(&of(DnsPolicy::ClusterFirst), &Resolver::default(), own);
    check(&of(DnsPolicy::None), &cluster, (&[], &[], &[]));
    let searches = [
        "shop.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
        "corp.example",
        "lab.example",
    ];
    check(
        &of(DnsPolicy::ClusterFirst),
        &cluster,
        (&["10.96.0.10"], &searches, &["ndots:5"]),
    );
    let nothing = resolv_conf("shop", &of(DnsPolicy::Default), &cluster, None);
    assert_eq!(
        (nothing.servers, nothing.searches),
        (vec!["127.0.0.1".into()], vec![".".to_owned()])
    );
}

#[test]
fn what_the_pod_adds_comes_after_and_wins_over_options() {
    let spec = DnsSpec {
        policy: DnsPolicy::Default,
        nameservers: vec!["192.0.2.53".into(), "9.9.9.9".into()],
        searches: vec!["lab.example".into(), "more.example".into()],
        options: vec!["ndots:9".into(), "edns0".into()],
    };
    check(
        &spec,
        &Resolver::default(),
        (
            &["192.0.2.53", "9.9.9.9"],
            &["corp.example", "lab.example", "more.example"],
            &["ndots:9", "rotate", "edns0"],
        ),
    );
}

#[test]
fn what_exceeds_the_bounds_is_left_out() {
    let with = |nameservers: Vec<String>, searches: Vec<String>| {
        let spec = DnsSpec {
            policy: DnsPolicy::None,
            nameservers,
            searches,
            options: Vec::new(),
        };
        resolv_conf("shop", &spec, &Resolver::default(), None)
    };
    let many =
        |count: usize, width: usize| -> Vec<String> { (0..count).map(|n| format!("{n:0width$}")).collect() };
    let fits = with(many(3, 1), many(32, 2));
    assert_eq!((fits.searches.len(), fits.left_out.len()), (32, 0));
    let servers = with(many(4, 1), Vec::new());
    assert_eq!(servers.servers, ["0", "1", "2"]);
    assert_eq!(
        servers.left_out,
        [
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 0 1 2"
        ]
    );
    assert_eq!(with(Vec::new(), many(33, 2)).searches.len(), 32);
    let long = with(Vec::new(), vec!["x".repeat(254), "a".into(), "b".into()]);
    assert_eq!(
        long.left_out,
        [
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: a b"
        ]
    );
    assert_eq!(
        with(Vec::new(), vec!["x".repeat(254), "ok".into()]).searches,
        ["ok"]
    );
    // Ten of 204 bytes and nine blanks are one byte too much.
    assert_eq!(with(Vec::new(), many(11, 203)).searches.len(), 10);
    assert_eq!(with(Vec::new(), many(10, 204)).searches.len(), 9);
}
