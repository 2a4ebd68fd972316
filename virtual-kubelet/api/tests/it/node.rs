//! What a node answers as a whole.

use http::StatusCode;

use crate::world::World;

#[tokio::test]
async fn every_route_answers_as_the_kubelets() {
    let world = World::start().await;
    let pods = r#""kind":"PodList","metadata":{}"#;
    let table: [(&str, &str, u16, &str); 25] = [
        ("GET", "/healthz", 200, "ok"),
        (
            "GET",
            "/healthz?verbose",
            200,
            "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n",
        ),
        (
            "GET",
            "/healthz?verbose&exclude=log&exclude=x",
            200,
            "[+]log excluded: ok\n",
        ),
        ("GET", "/healthz/syncloop", 200, "ok"),
        ("GET", "/healthz/nothing", 404, "404 page not found\n"),
        ("GET", "/pods", 200, pods),
        ("GET", "/pods/", 200, pods),
        ("GET", "/%70ods", 200, pods),
        ("POST", "/pods", 405, "405: Method Not Allowed"),
        ("GET", "/runningpods/", 200, r#""items":[]"#),
        ("GET", "/runningpods", 301, ""),
        ("GET", "/stats/summary", 200, r#""nodeName":"edge""#),
        (
            "POST",
            "/stats/summary?only_cpu_and_memory=true",
            200,
            r#""nodeName":"edge""#,
        ),
        ("GET", "/metrics", 200, "# EOF\n"),
        ("GET", "/metrics/resource", 200, "resource_scrape_error 0\n"),
        ("GET", "/metrics/cadvisor", 200, "container_scrape_error 0\n"),
        ("GET", "/metrics/probes", 200, "process_start_time_seconds"),
        (
            "GET",
            "/configz",
            200,
            r#""streamingConnectionIdleTimeout":"4h0m0s""#,
        ),
        ("GET", "/statusz", 200, "Binary version: v1.37.0-outrigger.1"),
        ("GET", "/flagz", 200, "config=/etc/kubelet.toml\n"),
        ("GET", "/logs/", 405, "logs endpoint is disabled.\n"),
        (
            "POST",
            "/checkpoint/shop/web/none",
            404,
            "container none does not exist",
        ),
        (
            "POST",
            "/checkpoint/shop/web/main",
            501,
            "checkpointing of shop/web/main failed",
        ),
        ("GET", "/nothing", 404, "404: Page Not Found"),
        ("GET", "/exec/shop/web", 404, "404: Page Not Found"),
    ];
    for (method, path, status, words) in table {
        let said = world.ask(method, path).await;
        assert_eq!(said.status.as_u16(), status, "{method} {path}: {}", said.body);
        assert!(said.body.contains(words), "{method} {path}: {}", said.body);
    }
    let said = world.ask("PUT", "/exec/shop/web/main").await;
    assert_eq!(said.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(said.headers["allow"], "GET, POST");
}
