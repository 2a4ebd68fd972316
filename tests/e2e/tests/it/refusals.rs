//! Acceptance 6: what cannot be honoured is named, all of it at once, and nothing starts (law 7).

use serde_json::{Value, json};

use crate::support::{TestSite, condition, eventually, pod, server, uid};

#[test]
fn an_unsupported_pod_names_every_field_and_starts_nothing() {
    let site = TestSite::start();
    let mut wishes = pod(
        "wishes",
        &[("priority", "100")],
        &[server("web", &["http", "--port", "8080"])],
    );
    let spec = &mut wishes["spec"];
    spec["volumes"] = json!([
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "share", "nfs": {"server": "192.0.2.1", "path": "/"}},
    ]);
    spec["hostUsers"] = json!(false);
    spec["readinessGates"] = json!([{"conditionType": "example.com/open"}]);
    let web = &mut spec["containers"][0];
    web["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    web["securityContext"] = json!({"seLinuxOptions": {"level": "s0"}});
    web["resources"]["limits"]["example.com/gpu"] = json!("1");
    // The scheduler would wait for the claim; who names the node asks nobody.
    spec["nodeName"] = json!(site.node());
    site.api().create("/api/v1/namespaces/default/pods", &wishes);

    let refused = eventually("the pod is refused", || {
        let pod = site.pod("wishes").unwrap();
        if pod["status"]["reason"] == "UnsupportedField" {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    });
    assert_eq!(refused["status"]["phase"], "Pending");
    let (status, reason, message) = condition(&refused, "outrigger.io/Targeted");
    assert_eq!((status, reason), ("False", "UnsupportedField"));
    let named = [
        "persistentVolumeClaim",
        "nfs",
        "hostUsers",
        "readinessGates",
        "seLinuxOptions",
        "example.com/gpu",
        "outrigger.io/priority",
    ];
    for field in named {
        assert!(message.contains(field), "{field} is not named: {message}");
    }
    let told = eventually("an event tells", || {
        site.events(uid(&refused), "UnsupportedField")
            .pop()
            .ok_or_else(|| "none".to_owned())
    });
    for field in named {
        assert!(told.contains(field), "{field} is not named: {told}");
    }
    nothing_reached_a_device(&site);
    site.kubectl(&["delete", "pod", "wishes", "--timeout=30s"]);
}

/// Pods that tolerate everything, as daemon sets of network plugins do, are not meant for devices.
#[test]
fn a_toleration_without_a_key_acknowledges_nothing() {
    let site = TestSite::start();
    for name in ["proxy-1", "proxy-2"] {
        let mut tolerant = pod(name, &[], &[server("proxy", &["http", "--port", "8080"])]);
        tolerant["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        site.apply(&tolerant);
        eventually(&format!("{name} waits"), || {
            let status = site.pod(name).unwrap()["status"].take();
            if status["reason"] == "TaintNotAcknowledged" && status["phase"] == "Pending" {
                Ok(())
            } else {
                Err(status.to_string())
            }
        });
    }
    let notes = eventually("one event on the Node names both", || {
        let events = site.api().list("/api/v1/events");
        let told: Vec<Value> = events
            .into_iter()
            .filter(|event| event["reason"] == "TaintNotAcknowledged")
            .collect();
        let text = format!("{told:?}");
        if ["proxy-1", "proxy-2"].iter().all(|name| text.contains(name)) {
            Ok(told)
        } else {
            Err(text)
        }
    });
    assert!(
        notes
            .iter()
            .all(|event| event["involvedObject"]["kind"] == "Node"),
        "{notes:?}"
    );
    nothing_reached_a_device(&site);
}

fn nothing_reached_a_device(site: &TestSite) {
    assert!(site.containers().is_empty());
    assert_eq!(site.listed(&["deployment", "ls"]), Vec::<Value>::new());
}
