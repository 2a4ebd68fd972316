//! Who gets in, and what the API server is asked about it.

use http::StatusCode;
use virtual_kubelet_api::{Nodes, StatsAccess, client_roots};

use crate::authority::Authority;
use crate::client::Http;
use crate::fake::FakePods;
use crate::world::{ADMIN, World};

#[tokio::test]
async fn a_certificate_of_the_cluster_or_a_token_that_it_knows_makes_somebody_known() {
    let world = World::start().await;
    let stranger = Authority::new().client(ADMIN, &["system:masters"]);
    for http in [Http::One, Http::Two] {
        for unknown in [None, Some(&stranger)] {
            let mut connection = world.connect(unknown, http).await;
            for path in ["/pods", "/healthz", "/no/such/path"] {
                let said = connection.ask("GET", path, &[]).await;
                assert_eq!(
                    (said.status, said.body.as_str()),
                    (StatusCode::UNAUTHORIZED, "Unauthorized"),
                    "{path}"
                );
            }
            let bad = connection
                .ask("GET", "/pods", &[("authorization", "Bearer bad")])
                .await;
            assert_eq!(bad.status, StatusCode::UNAUTHORIZED);
        }
        let mut connection = world.connect(Some(&world.admin), http).await;
        let said = connection.ask("GET", "/pods", &[]).await;
        assert_eq!(said.status, StatusCode::OK, "{}", said.body);
    }
    assert!(world.pods.asked().is_empty());
    // Shown on four connections, asked about once.
    assert_eq!(world.reviews.asked("TokenReview").len(), 1);
}

#[tokio::test]
async fn the_cluster_is_asked_as_a_kubelet_asks_it() {
    let world = World::start().await;
    let mut connection = world.connect(None, Http::One).await;
    let token = [("authorization", "Bearer good")];
    for _ in 0..2 {
        let said = connection.ask("GET", "/pods", &token).await;
        let words = "Forbidden (user=robot, verb=get, resource=nodes, subresource(s)=[pods proxy])\n";
        assert_eq!((said.status, said.body.as_str()), (StatusCode::FORBIDDEN, words));
    }
    assert_eq!(world.reviews.asked("TokenReview").len(), 1);
    let asked = world.reviews.asked("SubjectAccessReview");
    let subresource = |asked: &serde_json::Value| asked["spec"]["resourceAttributes"]["subresource"].clone();
    let subresources: Vec<_> = asked.iter().map(subresource).collect();
    assert_eq!(subresources, ["pods", "proxy"], "the finest first, and each once");
    let expected = serde_json::json!({
        "user": "robot", "uid": "7", "groups": ["robots", "system:authenticated"], "extra": {"scope": ["shop"]},
        "resourceAttributes": {"verb": "get", "version": "v1", "resource": "nodes", "subresource": "pods", "name": "edge"},
    });
    assert_eq!(asked[0]["spec"], expected);

    // Whoever may the finer need not the coarser; whatever runs something is `create`, by GET too.
    let allowed = ["robot get pods edge", "robot get proxy edge"];
    world.reviews.word.lock().unwrap().allowed = allowed.map(str::to_owned).to_vec();
    let said = connection.ask("GET", "/runningpods/", &token).await;
    assert_eq!(said.status, StatusCode::FORBIDDEN, "the refusal is remembered");
    let said = connection
        .ask("GET", "/exec/shop/web/main?command=true&output=1", &token)
        .await;
    assert!(
        said.body.contains("verb=create") && said.body.contains("[proxy]"),
        "{}",
        said.body
    );
    assert!(world.pods.asked().is_empty());
}

#[tokio::test]
async fn nobody_gets_in_when_the_cluster_does_not_answer() {
    let world = World::start().await;
    world.reviews.word.lock().unwrap().broken = Some(403);
    let mut connection = world.connect(Some(&world.admin), Http::One).await;
    let said = connection.ask("GET", "/pods", &[]).await;
    let words = "Authorization error (user=admin, verb=get, resource=nodes, subresource=pods)";
    assert_eq!(
        (said.status, said.body.as_str()),
        (StatusCode::INTERNAL_SERVER_ERROR, words)
    );
    let mut connection = world.connect(None, Http::One).await;
    let said = connection
        .ask("GET", "/pods", &[("authorization", "Bearer good")])
        .await;
    assert_eq!(said.status, StatusCode::UNAUTHORIZED);
    // An error is no answer, and not remembered as one.
    world.reviews.word.lock().unwrap().broken = None;
    assert_eq!(world.ask("GET", "/pods").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_new_authority_counts_at_once_and_the_old_one_no_longer_on_open_connections_either() {
    let world = World::start().await;
    let mut old = world.connect(Some(&world.admin), Http::One).await;
    assert_eq!(old.ask("GET", "/pods", &[]).await.status, StatusCode::OK);
    let next = Authority::new();
    let roots = client_roots(next.pem().as_bytes()).unwrap();
    world.roots.send_replace(Some(roots));
    assert_eq!(
        old.ask("GET", "/pods", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    let admin = next.client(ADMIN, &[]);
    let mut new = world.connect(Some(&admin), Http::Two).await;
    assert_eq!(new.ask("GET", "/pods", &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn figures_can_be_open_and_nothing_else_is() {
    let world = World::with(|parts| parts.stats_access = StatsAccess::Open, None).await;
    let mut connection = world.connect(None, Http::One).await;
    for (path, status) in [
        ("/stats/summary", StatusCode::OK),
        ("/metrics/resource", StatusCode::OK),
        ("/pods", StatusCode::UNAUTHORIZED),
        ("/metrics/none", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(connection.ask("GET", path, &[]).await.status, status, "{path}");
    }
}

/// A shared port finds the node by the pod; what a node answers as a whole is not there.
#[tokio::test]
async fn a_shared_port_asks_for_the_node_of_the_pod() {
    let pods = FakePods::new();
    let served = pods.clone();
    let find = move |namespace: &str, name: &str| {
        (namespace == "shop" && name == "web").then(|| virtual_kubelet_api::ServedNode {
            name: "edge".into(),
            streams: served.clone(),
        })
    };
    let shared = Nodes::Shared {
        of_pod: std::sync::Arc::new(find),
        whole: None,
    };
    let world = World::with(|_| {}, Some(shared)).await;
    let said = world.ask("GET", "/containerLogs/shop/web/main").await;
    assert_eq!((said.status, said.body.as_str()), (StatusCode::OK, "one\ntwo\n"));
    // Whose pod it would be is told to those who may ask every node.
    for path in ["/containerLogs/shop/other/main", "/pods"] {
        assert_eq!(
            world.ask("GET", path).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    let world_of_all = world.authority.client("all", &[]);
    let lines = ["all get proxy ", "all get pods ", "all get healthz "].map(str::to_owned);
    world.reviews.word.lock().unwrap().allowed.extend(lines);
    let mut connection = world.connect(Some(&world_of_all), Http::One).await;
    let mut status = async |path: &str| connection.ask("GET", path, &[]).await.status;
    assert_eq!(
        status("/containerLogs/shop/other/main").await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(status("/pods").await, StatusCode::NOT_FOUND);
    assert_eq!(status("/healthz").await, StatusCode::OK);
    assert_eq!(
        status("/containerLogs/shop/web/main").await,
        StatusCode::FORBIDDEN,
        "one node is not all"
    );
}
