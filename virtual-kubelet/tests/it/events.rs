//! Events on the wire.

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::json;
use virtual_kubelet::EventText;
use virtual_kubelet::events::EventsTask;

use crate::api::{Api, not_found};

fn text(at: &str) -> EventText {
    EventText {
        warning: true,
        reason: "Unhealthy".into(),
        action: "press-7/main".into(),
        note: "device press-7, container main: Liveness probe failed".into(),
        at: Some(at.parse().unwrap()),
    }
}

#[tokio::test]
async fn what_was_told_late_has_its_own_time_and_what_comes_again_is_a_series() {
    // The second of three was forgotten by the API server meanwhile.
    let api = Api::start(|asked| match asked.method.as_str() {
        "PATCH" => not_found(),
        _ => (201, asked.body.clone()),
    })
    .await;
    let (queue, task) = EventsTask::new(api.cluster.clone());
    let about = ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some("shop".into()),
        name: Some("web".into()),
        uid: Some("u1".into()),
        ..ObjectReference::default()
    };
    let handle = queue.of_node("press-7");
    for at in [
        "2026-01-02T03:04:05.5Z",
        "2026-01-02T03:05:00Z",
        "2026-01-02T03:06:00Z",
    ] {
        handle.tell(about.clone(), text(at));
    }
    drop((handle, queue));
    task.run().await;
    let writes = api.writes();
    let methods: Vec<&str> = writes.iter().map(|write| write.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "POST"]);
    let event = &writes[0].body;
    assert_eq!(event["eventTime"], "2026-01-02T03:04:05.500000Z");
    assert_eq!(event["regarding"]["uid"], "u1");
    assert_eq!(event["reportingInstance"], "press-7");
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-02T03:05:00.000000Z"}});
    assert_eq!(writes[1].body, series);
    assert_eq!(writes[2].body["eventTime"], "2026-01-02T03:06:00.000000Z");
}
