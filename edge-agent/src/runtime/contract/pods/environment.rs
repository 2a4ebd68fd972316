//! Variables and arguments.

use edge_agent_core::step::StepOutcome;
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{ContainerSpec, EnvFrom, EnvVar, ObjectKind, PodField, Reason, ValueFrom};

use super::{Pod, shell};
use crate::runtime::ContainerRuntime;
use crate::runtime::contract::device::logged;

#[tokio::test]
async fn variables_and_arguments_are_made_at_the_start() {
    let mut pod = Pod::new("env", |_| {}).await;
    pod.put(kind::CONFIG_MAP, "settings", &[("COLOUR", "blue")]);
    pod.put(kind::SERVICES, "services", &[("DB_SERVICE_HOST", "10.0.0.9")]);
    let up = pod.up().await;
    let field = EnvVar {
        from: Some(ValueFrom::Field {
            field: PodField::PodIp,
        }),
        ..EnvVar::literal("ADDRESS", "")
    };
    let container = ContainerSpec {
        expand: true,
        env_from: vec![EnvFrom {
            prefix: "P_".into(),
            object: ObjectKind::ConfigMap,
            name: "settings".into(),
            optional: false,
        }],
        env: vec![field, EnvVar::literal("ALL", "$(P_COLOUR) $(DB_SERVICE_HOST)")],
        ..shell(
            "main",
            "echo arg $(ALL) $$(P_COLOUR); echo env $ALL $ADDRESS $DB_SERVICE_HOST",
        )
    };
    let started = pod.runtime.run(pod.start(&up, container)).await;
    assert!(matches!(started, StepOutcome::Started { .. }), "{started:?}");
    let log = pod.workload.log(&pod.device.logs("device-a"), "main", 0);
    logged(&log, "arg blue 10.0.0.9").await;
    logged(&log, &format!("env blue 10.0.0.9 {} 10.0.0.9", up.1[0])).await;

    let waits = ContainerSpec {
        env_from: vec![EnvFrom {
            prefix: String::new(),
            object: ObjectKind::Secret,
            name: "absent".into(),
            optional: false,
        }],
        ..shell("waits", "")
    };
    let refused = pod.refused(&up, waits).await;
    assert_eq!(
        refused,
        (
            Reason::CreateContainerConfigError,
            "secret \"absent\" not found".into()
        )
    );
}
