//! Events on the wire.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use virtual_kubelet::EventText;
use virtual_kubelet::core::events::About;
use virtual_kubelet::events::EventsTask;

use crate::api::{Api, Asked, not_found, status};

fn text(at: &str) -> EventText {
    EventText {
        warning: true,
        reason: "Unhealthy".into(),
        message: "Liveness probe failed".into(),
        teller: None,
        field_path: Some("spec.containers{main}".into()),
        at: Some(at.parse().unwrap()),
    }
}

fn about() -> About {
    About {
        kind: "Pod",
        namespace: Some("shop".into()),
        name: "web".into(),
        uid: "u1".into(),
    }
}

/// What the API server was asked to write when these were told.
async fn told(api: &Api, times: &[&str]) -> Vec<Asked> {
    let (queue, task) = EventsTask::new(api.cluster.clone(), 64);
    let mut handle = queue.of_node("press-7", 64);
    for at in times {
        handle.tell(&about(), text(at));
    }
    drop((handle, queue));
    task.run().await;
    api.writes()
}

#[tokio::test]
async fn what_was_told_late_has_its_own_time_and_what_comes_again_is_counted() {
    // The API server has forgotten it when it comes for the third time.
    let patches = AtomicU32::new(0);
    let api = Api::start(move |asked| match asked.method.as_str() {
        "PATCH" if patches.fetch_add(1, Ordering::Relaxed) > 0 => not_found(),
        _ => (201, asked.body.clone()),
    })
    .await;
    let times = [
        "2026-01-02T03:04:05.5Z",
        "2026-01-02T03:05:00Z",
        "2026-01-02T03:06:00Z",
    ];
    let writes = told(&api, &times).await;
    let methods: Vec<&str> = writes.iter().map(|write| write.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "PATCH", "POST"]);
    let event = &writes[0].body;
    assert_eq!(writes[0].path, "/api/v1/namespaces/shop/events");
    assert_eq!(event["firstTimestamp"], "2026-01-02T03:04:05Z");
    assert_eq!(
        event["source"],
        json!({"component": "kubelet", "host": "press-7"})
    );
    assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{main}");
    let changes =
        json!({"count": 2, "lastTimestamp": "2026-01-02T03:05:00Z", "message": "Liveness probe failed"});
    assert_eq!(writes[1].body, changes);
    let name = event["metadata"]["name"].as_str().unwrap();
    assert_eq!(writes[1].path, format!("/api/v1/namespaces/shop/events/{name}"));
    let whole = &writes[3].body;
    assert_eq!(
        (
            &whole["metadata"]["name"],
            &whole["firstTimestamp"],
            &whole["count"]
        ),
        (&json!(name), &json!("2026-01-02T03:04:05Z"), &json!(3))
    );
}

#[tokio::test]
async fn a_server_with_too_much_to_do_is_asked_again_and_any_other_answer_is_one() {
    let tries = AtomicU32::new(0);
    let api = Api::start(move |asked| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => status(429, "TooManyRequests", "later"),
        1 => status(409, "AlreadyExists", "it is there"),
        2 => status(403, "Forbidden", "no"),
        3 => status(500, "InternalError", "a webhook does not answer"),
        _ => (201, asked.body.clone()),
    })
    .await;
    for sent in [2, 3, 4] {
        let writes = told(&api, &["2026-01-02T03:04:05.5Z"]).await;
        assert_eq!(writes.len(), sent);
    }
}

#[tokio::test]
async fn what_does_not_find_room_is_said_on_the_node() {
    let api = Api::start(|asked| (201, asked.body.clone())).await;
    let (queue, task) = EventsTask::new(api.cluster.clone(), 4);
    let mut handle = queue.of_node("press-7", 64);
    for at in 0..7 {
        handle.tell(&about(), text(&format!("2026-01-02T03:04:0{at}Z")));
    }
    let task = tokio::spawn(task.run());
    // One place for the next event, one for what is said of the others.
    while api.writes().len() < 2 {
        tokio::task::yield_now().await;
    }
    handle.tell(&about(), text("2026-01-02T03:05:00Z"));
    drop((handle, queue));
    task.await.unwrap();
    let writes = api.writes();
    let said = writes
        .iter()
        .find(|write| write.body["reason"] == "EventsDropped");
    let said = &said.unwrap().body;
    let node = json!({"apiVersion": "v1", "kind": "Node", "name": "press-7", "uid": "press-7"});
    assert_eq!(said["involvedObject"], node);
    assert!(
        said["message"].as_str().unwrap().starts_with("3 events"),
        "{said}"
    );
}
