use edge_protocol::v1::{ContainerSpec, Resources};

use super::*;
use crate::runtime::fixture::Fixture;

#[test]
fn fields_are_those_of_the_downward_api() {
    let mut given = Fixture::new(Vec::new());
    given.manifest.workload.node_name = "edge-1".into();
    given.manifest.workload.service_account = "robot".into();
    let check = |given: &Fixture, field: PodField, expect: &str| {
        assert_eq!(given.sources().field(&field), expect, "{field:?}");
    };
    check(&given, PodField::Name, "web");
    check(&given, PodField::Namespace, "shop");
    check(&given, PodField::Uid, "uid-web");
    check(&given, PodField::NodeName, "edge-1");
    check(&given, PodField::ServiceAccountName, "robot");
    check(&given, PodField::PodIp, "10.1.0.5");
    check(&given, PodField::PodIps, "10.1.0.5,fd00::5");
    check(&given, PodField::HostIp, "192.0.2.7");
    check(&given, PodField::HostIps, "192.0.2.7");
    check(&given, PodField::Labels, "app=\"web\"\ntier=\"front\"");
    check(&given, PodField::Annotations, "note=\"say \\\"hi\\\"\\n\\x01\"");
    check(&given, PodField::Label("tier".into()), "front");
    check(&given, PodField::Annotation("absent".into()), "");
    given.manifest.workload.namespaces.host_network = true;
    check(&given, PodField::PodIp, "192.0.2.7");
    check(&given, PodField::PodIps, "192.0.2.7");
}

#[test]
fn resources_are_divided_and_rounded_up_and_no_limit_is_the_whole_device() {
    let resources = Resources {
        cpu_request_milli: Some(250),
        cpu_limit_milli: Some(1500),
        memory_request_bytes: Some((64 << 20) + 1),
        ..Resources::default()
    };
    let container = ContainerSpec {
        resources,
        ..ContainerSpec::new("main", "image")
    };
    let given = Fixture::new(vec![container]);
    let check = |resource, divisor_milli, expect: &str| {
        let field = ResourceField {
            container: "main".into(),
            resource,
            divisor_milli,
        };
        assert_eq!(given.sources().resource(&field).unwrap(), expect, "{resource:?}");
    };
    check(ContainerResource::RequestsCpu, 1000, "1");
    check(ContainerResource::RequestsCpu, 1, "250");
    check(ContainerResource::LimitsCpu, 1000, "2");
    check(ContainerResource::RequestsMemory, 1000, "67108865");
    check(ContainerResource::RequestsMemory, 1000 << 20, "65");
    check(ContainerResource::LimitsMemory, 1000 << 20, "8192");
    check(ContainerResource::RequestsEphemeralStorage, 1000, "0");
    check(ContainerResource::LimitsEphemeralStorage, 1000 << 30, "100");
    let unknown = ResourceField {
        container: "other".into(),
        resource: ContainerResource::LimitsCpu,
        divisor_milli: 1,
    };
    let error = given.sources().resource(&unknown).unwrap_err();
    assert_eq!(error.to_string(), "container other not found");
}

#[test]
fn text_is_quoted_as_go_does() {
    assert_eq!(
        quoted("tab\there \u{7f} é \u{a0} \u{1f600} \u{f0000}"),
        "\"tab\\there \\x7f é \\u00a0 \u{1f600} \\U000f0000\""
    );
}

#[test]
fn what_states_no_limit_gets_what_its_node_does_not_keep_back() {
    let mut given = Fixture::new(vec![ContainerSpec::new("main", "image")]);
    let limit = |given: &Fixture| {
        let field = ResourceField {
            container: "main".into(),
            resource: ContainerResource::LimitsCpu,
            divisor_milli: 1,
        };
        given.sources().resource(&field).unwrap()
    };
    assert_eq!(limit(&given), given.sources().capacity.cpu_milli.to_string());
    given.manifest.workload.reserved = Some(Amounts {
        cpu_milli: 100,
        ..Amounts::default()
    });
    assert_eq!(
        limit(&given),
        (given.sources().capacity.cpu_milli - 100).to_string()
    );
}
