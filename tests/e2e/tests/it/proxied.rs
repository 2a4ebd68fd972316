//! A device whose only way to the hub is an HTTP proxy: enrolment, the session, large objects and streams pass it.

use std::net::{IpAddr, SocketAddr};

use fault_proxy::connect::{ConnectOptions, ConnectProxy};
use serde_json::json;
use site::{DeviceSpec, ProxySpec};

use crate::support::{TestSite, TestSiteOptions, busybox, eventually, is_ready, pod};

/// As `Basic` has it, and its header.
const CREDENTIALS: &str = "Aladdin:open sesame";
const BASIC: &str = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
/// Of a config map. Two of them are more than travels inline over MQTT, so that one is fetched.
const LARGE: usize = 200 << 10;

#[test]
fn a_device_behind_a_proxy_is_like_any_other() {
    let site = TestSite::with(TestSiteOptions {
        devices: Vec::new(),
        ..TestSiteOptions::default()
    });
    let here = IpAddr::from(site.lab().address().unwrap());
    let proxy = ConnectProxy::start(ConnectOptions {
        authorization: Some(BASIC.to_owned()),
        ..ConnectOptions::at(SocketAddr::new(here, 0))
    });
    let proxy = proxy.unwrap();
    let device = site.add_device(&DeviceSpec {
        proxy: Some(ProxySpec {
            address: proxy.address(),
            credentials: CREDENTIALS.to_owned(),
        }),
        ..DeviceSpec::new("press-1", &[])
    });
    device.unwrap();

    let mut reads = pod("reads", &[], &[busybox("sh", "exec sleep 1000000")]);
    for name in ["first", "second"] {
        let data = json!({"data": name.repeat(LARGE / name.len())});
        site.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data,
        }));
    }
    reads["spec"]["volumes"] = json!([
        {"name": "first", "configMap": {"name": "first"}},
        {"name": "second", "configMap": {"name": "second"}},
    ]);
    reads["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "first", "mountPath": "/first"},
        {"name": "second", "mountPath": "/second"},
    ]);
    site.apply(&reads);
    eventually("the pod is Ready", || {
        let pod = site.pod("reads").unwrap();
        is_ready(&pod)
            .then_some(())
            .ok_or_else(|| pod["status"].to_string())
    });
    let session = proxy.asked().len();
    let counted = site.outrigger(&[
        "exec",
        "--device",
        "press-1",
        "default/reads",
        "--",
        "cat",
        "/first/data",
        "/second/data",
    ]);
    assert_eq!(
        counted.len(),
        "first".len() * (LARGE / 5) + "second".len() * (LARGE / 6)
    );

    // Enrolment, the session and a large object before, the tunnel after; all by a name that only the proxy knows.
    let asked = proxy.asked();
    assert!(session >= 3 && asked.len() > session, "{session} of {asked:?}");
    let by_name = asked
        .iter()
        .all(|target| target.starts_with("hub.behind-the-proxy.test:"));
    assert!(by_name, "{asked:?}");
}
