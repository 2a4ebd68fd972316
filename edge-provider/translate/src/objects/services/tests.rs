//! The table of `pkg/kubelet/envvars/envvars_test.go`, and whose variables a pod gets.

use serde_json::json;

use super::*;

fn service(namespace: &str, name: &str, address: &str, ports: &Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "clusterIP": address, "ports": ports },
    })
}

fn made(wanted: ServiceVariables, all: &[Value], api_server: ApiServer<'_>) -> Vec<(String, String)> {
    let data = services(wanted, "shop", all, api_server).unwrap();
    assert_eq!((data.kind.as_str(), data.name.as_str()), ("Services", "services"));
    data.text.into_iter().collect()
}

#[test]
fn as_the_kubelet_makes_them() {
    let port = |port: u16| json!([{ "port": port, "protocol": "TCP" }]);
    let named =
        json!([{ "name": "u-d-p", "port": 8084, "protocol": "UDP" }, { "name": "t-c-p", "port": 8084 }]);
    let all = [
        service("shop", "foo-bar", "1.2.3.4", &port(8080)),
        service("shop", "headless", "None", &port(1)),
        service("shop", "outside", "", &port(1)),
        service("shop", "super-ipv6", "2001:DB8::", &named),
        service(
            "shop",
            "sctp-1",
            "1.2.3.4",
            &json!([{ "port": 777, "protocol": "SCTP" }]),
        ),
    ];
    let expect = [
        ("FOO_BAR_PORT", "tcp://1.2.3.4:8080"),
        ("FOO_BAR_PORT_8080_TCP", "tcp://1.2.3.4:8080"),
        ("FOO_BAR_PORT_8080_TCP_ADDR", "1.2.3.4"),
        ("FOO_BAR_PORT_8080_TCP_PORT", "8080"),
        ("FOO_BAR_PORT_8080_TCP_PROTO", "tcp"),
        ("FOO_BAR_SERVICE_HOST", "1.2.3.4"),
        ("FOO_BAR_SERVICE_PORT", "8080"),
        ("SCTP_1_PORT", "sctp://1.2.3.4:777"),
        ("SCTP_1_PORT_777_SCTP", "sctp://1.2.3.4:777"),
        ("SCTP_1_PORT_777_SCTP_ADDR", "1.2.3.4"),
        ("SCTP_1_PORT_777_SCTP_PORT", "777"),
        ("SCTP_1_PORT_777_SCTP_PROTO", "sctp"),
        ("SCTP_1_SERVICE_HOST", "1.2.3.4"),
        ("SCTP_1_SERVICE_PORT", "777"),
        ("SUPER_IPV6_PORT", "udp://[2001:DB8::]:8084"),
        ("SUPER_IPV6_PORT_8084_TCP", "tcp://[2001:DB8::]:8084"),
        ("SUPER_IPV6_PORT_8084_TCP_ADDR", "2001:DB8::"),
        ("SUPER_IPV6_PORT_8084_TCP_PORT", "8084"),
        ("SUPER_IPV6_PORT_8084_TCP_PROTO", "tcp"),
        ("SUPER_IPV6_PORT_8084_UDP", "udp://[2001:DB8::]:8084"),
        ("SUPER_IPV6_PORT_8084_UDP_ADDR", "2001:DB8::"),
        ("SUPER_IPV6_PORT_8084_UDP_PORT", "8084"),
        ("SUPER_IPV6_PORT_8084_UDP_PROTO", "udp"),
        ("SUPER_IPV6_SERVICE_HOST", "2001:DB8::"),
        ("SUPER_IPV6_SERVICE_PORT", "8084"),
        ("SUPER_IPV6_SERVICE_PORT_T_C_P", "8084"),
        ("SUPER_IPV6_SERVICE_PORT_U_D_P", "8084"),
    ];
    let expect: Vec<_> = expect
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert_eq!(
        made(ServiceVariables::Namespace, &all, ApiServer::Unreachable),
        expect
    );
    let mut turned = all.to_vec();
    turned.reverse();
    assert_eq!(
        made(ServiceVariables::Namespace, &turned, ApiServer::Unreachable),
        expect
    );
}

#[test]
fn the_api_servers_always_and_others_by_namespace_and_wish() {
    let ports = json!([{ "name": "https", "port": 443 }]);
    let all = [
        service("default", "kubernetes", "10.0.0.1", &ports),
        service("default", "other", "10.0.0.2", &ports),
        service("shop", "web", "10.0.0.3", &ports),
    ];
    let hosts = |wanted, all: &[Value], api_server| -> Vec<String> {
        let made = made(wanted, all, api_server).into_iter();
        made.filter(|(name, _)| name.ends_with("_SERVICE_HOST") || name.ends_with("SERVICE_PORT_HTTPS"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    };
    let external = ApiServer::External {
        host: "api.example.com",
        port: 6443,
    };
    let in_cluster = [
        "KUBERNETES_SERVICE_HOST=10.0.0.1",
        "KUBERNETES_SERVICE_PORT_HTTPS=443",
    ];
    let web = ["WEB_SERVICE_HOST=10.0.0.3", "WEB_SERVICE_PORT_HTTPS=443"];
    let outside = [
        "KUBERNETES_SERVICE_HOST=api.example.com",
        "KUBERNETES_SERVICE_PORT_HTTPS=6443",
    ];
    assert_eq!(
        hosts(ServiceVariables::ApiServer, &all, ApiServer::InCluster),
        in_cluster
    );
    assert_eq!(
        hosts(ServiceVariables::Namespace, &all, ApiServer::InCluster),
        [in_cluster, web].concat()
    );
    assert_eq!(
        hosts(ServiceVariables::Namespace, &all, external),
        [outside, web].concat()
    );
    assert_eq!(
        hosts(ServiceVariables::Namespace, &all, ApiServer::Unreachable),
        web
    );
    assert_eq!(services(ServiceVariables::None, "shop", &all, external), None);

    // A namespace's own service of that name wins (`getServiceEnvVarMap` adds the master's only where none is).
    let own = [all[0].clone(), service("shop", "kubernetes", "10.0.0.9", &ports)];
    for order in [[0, 1], [1, 0]] {
        let all = order.map(|index: usize| own[index].clone());
        assert_eq!(
            hosts(ServiceVariables::Namespace, &all, ApiServer::InCluster)[0],
            "KUBERNETES_SERVICE_HOST=10.0.0.9"
        );
    }
}

#[test]
fn what_is_no_service_makes_no_panic() {
    for odd in [
        json!(null),
        json!({ "spec": { "clusterIP": "1.1.1.1", "ports": 7 } }),
    ] {
        services(ServiceVariables::Namespace, "", &[odd], ApiServer::InCluster);
    }
}
