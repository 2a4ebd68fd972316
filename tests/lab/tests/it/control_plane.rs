//! The control plane answers, its controllers work, and it reacts to silent nodes.

use std::time::Duration;

use lab::{ControlPlaneOptions, LabOptions, Program, Times, until};

use crate::start;

/// Five times what the short times take: 8 s of grace and a second of monitoring.
const REACTION: Duration = Duration::from_secs(45);

const SILENT_NODE: &str = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"silent"},
  "status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;

#[test]
fn a_silent_node_is_tainted_while_the_kept_one_stays_ready() {
    let (directory, lab) = start(|options| LabOptions {
        control_plane: Some(ControlPlaneOptions {
            times: Times::Short,
            ..ControlPlaneOptions::default()
        }),
        ..options
    });
    let cluster = lab.control_plane().unwrap();
    assert_eq!(cluster.server().ip(), lab.address().unwrap());

    let node = directory.path().join("node.json");
    std::fs::write(&node, SILENT_NODE).unwrap();
    cluster.kubectl(["create", "-f", node.to_str().unwrap()]).unwrap();

    // Meanwhile, a service account gets in with its token and has no rights.
    let kubeconfig = directory.path().join("account.kubeconfig");
    cluster
        .write_service_account_kubeconfig(&kubeconfig, "default", "default")
        .unwrap();
    let asked = Program::new(cluster.binary("kubectl"))
        .flag("kubeconfig", kubeconfig.display())
        .args(["get", "nodes"])
        .run(Duration::from_secs(30));
    assert!(
        asked
            .unwrap_err()
            .to_string()
            .contains("system:serviceaccount:default:default")
    );

    // The API server dies and comes back with all that it had.
    cluster.api_server().kill().unwrap();
    assert_eq!(cluster.api_server().pid().unwrap(), None);
    cluster.api_server().start().unwrap();
    cluster.wait_until_ready().unwrap();

    let taints = |name: &str| {
        let query = ["get", "node", name, "-o", "jsonpath={.spec.taints[*].effect}"];
        cluster.kubectl(query).map(|output| output.stdout)
    };
    until("the silent node is tainted", REACTION, || {
        Ok(taints("silent")?.contains("NoExecute"))
    })
    .unwrap();
    assert_eq!(taints("always-ready").unwrap(), "NoSchedule");
}
