//! Every write to a pod is bound to its UID.

use std::collections::BTreeMap;

use serde_json::json;
use virtual_kubelet::pod_writer::{PodWriter, Written};
use virtual_kubelet::{Annotations, ObservedPod};

use crate::api::{Api, Asked, not_found, pod, status};

fn observed(uid: &str) -> ObservedPod {
    ObservedPod {
        uid: uid.to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        raw: pod(uid),
        owner: None,
        namespace_labels: BTreeMap::new(),
        driven_away: false,
    }
}

#[tokio::test]
async fn a_status_patch_names_the_uid() {
    let api = Api::start(|_| (200, pod("u1"))).await;
    let writer = PodWriter::new(api.cluster.clone());
    let written = writer
        .show(&observed("u1"), &json!({"phase": "Running"}), &Annotations::new())
        .await;
    assert_eq!(written.unwrap(), Written::Changed(pod("u1")));
    let [patch] = &api.writes()[..] else {
        panic!("{:?}", api.writes())
    };
    assert_eq!(patch.method, "PATCH");
    assert_eq!(patch.path, "/api/v1/namespaces/shop/pods/web/status");
    assert_eq!(patch.content_type, "application/strategic-merge-patch+json");
    assert_eq!(
        patch.body,
        json!({"metadata": {"uid": "u1"}, "status": {"phase": "Running"}})
    );
}

#[tokio::test]
async fn annotations_travel_with_the_status() {
    let api = Api::start(|_| (200, pod("u1"))).await;
    let writer = PodWriter::new(api.cluster.clone());
    let mut seen = observed("u1");
    seen.raw["status"] = json!({"phase": "Running"});
    seen.raw["metadata"]["annotations"] = json!({"a": "1"});
    let same = json!({"phase": "Running"});
    let unchanged = Annotations::from([("a", Some("1".to_owned())), ("b", None)]);
    writer.show(&seen, &same, &unchanged).await.unwrap();
    assert_eq!(api.writes().len(), 0, "all of it is there");
    let changed = Annotations::from([("a", None), ("b", Some("2".to_owned()))]);
    writer.show(&seen, &same, &changed).await.unwrap();
    let [patch] = &api.writes()[..] else {
        panic!("{:?}", api.writes())
    };
    assert_eq!(patch.path, "/api/v1/namespaces/shop/pods/web/status");
    let metadata = json!({"uid": "u1", "annotations": {"a": null, "b": "2"}});
    assert_eq!(patch.body["metadata"], metadata);
}

#[tokio::test]
async fn another_uid_and_no_pod_are_gone_and_anything_else_is_an_error() {
    let table = [
        (404, "there is none", Some(Written::Gone)),
        (
            422,
            "Pod \"web\" is invalid: metadata.uid: Invalid value: field is immutable",
            Some(Written::Gone),
        ),
        (
            409,
            "Precondition failed: UID in precondition: u1, UID in object meta: u2",
            Some(Written::Gone),
        ),
        (
            422,
            "status.containerStatuses: may not transition to non-terminated",
            None,
        ),
        (409, "the object has been modified", None),
        (403, "forbidden", None),
        (500, "etcd", None),
    ];
    for (code, message, expected) in table {
        let api = Api::start(move |_| status(code, "Reason", message)).await;
        let writer = PodWriter::new(api.cluster.clone());
        let shown = writer
            .show(&observed("u1"), &json!({"phase": "Running"}), &Annotations::new())
            .await;
        let finished = writer.finish(&observed("u1"), None).await;
        assert_eq!(finished.is_ok(), expected.is_some(), "{code} {message}");
        assert_eq!(shown.ok(), expected, "{code} {message}");
    }
}

#[tokio::test]
async fn a_finish_is_a_last_status_and_then_a_delete_with_a_precondition() {
    let api = Api::start(|_| (200, pod("u1"))).await;
    let writer = PodWriter::new(api.cluster.clone());
    let last = json!({"phase": "Succeeded"});
    writer.finish(&observed("u1"), Some(&last)).await.unwrap();
    let [patch, delete] = &api.writes()[..] else {
        panic!("{:?}", api.writes())
    };
    assert_eq!(patch.body["metadata"]["uid"], "u1");
    assert_eq!(
        (delete.method.as_str(), delete.path.as_str()),
        ("DELETE", "/api/v1/namespaces/shop/pods/web")
    );
    assert_eq!(delete.body["gracePeriodSeconds"], 0);
    assert_eq!(delete.body["preconditions"]["uid"], "u1");
}

#[tokio::test]
async fn a_pod_that_failed_its_last_status_is_not_deleted() {
    let refuse = |asked: &Asked| match asked.method.as_str() {
        "PATCH" => status(500, "InternalError", "etcd"),
        _ => (200, pod("u1")),
    };
    let api = Api::start(refuse).await;
    let writer = PodWriter::new(api.cluster.clone());
    let last = json!({"phase": "Succeeded"});
    assert!(writer.finish(&observed("u1"), Some(&last)).await.is_err());
    assert_eq!(api.writes().len(), 1);
}

#[tokio::test]
async fn a_successor_of_the_same_name_is_not_deleted() {
    let api = Api::start(|_| not_found()).await;
    let writer = PodWriter::new(api.cluster.clone());
    let last = json!({"phase": "Succeeded"});
    writer.finish(&observed("u1"), Some(&last)).await.unwrap();
    assert_eq!(api.writes().len(), 1, "no delete after that");
}

#[tokio::test]
async fn toleration_seconds_are_cleared_under_a_test_of_the_uid() {
    let api = Api::start(|_| (200, pod("u1"))).await;
    let writer = PodWriter::new(api.cluster.clone());
    writer.clear_toleration_seconds(&observed("u1")).await.unwrap();
    let [patch] = &api.writes()[..] else {
        panic!("{:?}", api.writes())
    };
    assert_eq!(patch.content_type, "application/json-patch+json");
    assert_eq!(
        patch.body[0],
        json!({"op": "test", "path": "/metadata/uid", "value": "u1"})
    );
    assert_eq!(patch.body[2]["path"], "/spec/tolerations/0/tolerationSeconds");
}
