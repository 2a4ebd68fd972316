//! Connections into a pod.

use std::fs;

use edge_agent_core::step::Step;
use edge_protocol::v1::StreamRefusal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Pod, done, shell, started};
use crate::runtime::contract::device::logged;
use crate::runtime::contract::within;

/// What a server of pages answers.
async fn page(mut stream: TcpStream) -> String {
    let get = async {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    };
    within("the page", get).await
}

#[tokio::test]
async fn a_port_of_the_pods_localhost_is_reached() {
    let pod = Pod::new("ports", |_| {}).await;
    let up = pod.up().await;
    let ip = up.1[0];
    let serve = format!(
        "mkdir /tmp/w; echo hello > /tmp/w/index.html
        busybox httpd -p 127.0.0.1:80 -h /tmp/w
        busybox httpd -p '[::1]:81' -h /tmp/w
        busybox httpd -p {ip}:82 -h /tmp/w
        echo ready; exec nc -ll -p 83 -e sh -c 'cat > /tmp/in; busybox wc -c < /tmp/in'"
    );
    let serve = serve.replace("mkdir", "busybox mkdir");
    let container = started(&pod.runtime, pod.start(&up, shell("main", &serve))).await;
    logged(
        &pod.workload.log(&pod.device.logs("device-a"), "main", 0),
        "ready",
    )
    .await;
    let network = || fs::read_link("/proc/thread-self/ns/net").unwrap();
    let own = network();

    for port in [80, 81] {
        let stream = pod.runtime.connect_to(&up.0, port).await.unwrap();
        let page = page(stream).await;
        assert!(page.ends_with("\r\n\r\nhello\n"), "{port}: {page}");
    }
    // Not what listens on the pod's own address alone, nor where nobody does.
    for port in [82, 9] {
        let fault = pod.runtime.connect_to(&up.0, port).await.unwrap_err();
        assert_eq!(fault.refusal(), StreamRefusal::Failed);
        let message = fault.message();
        let refused = format!(
            "failed to connect to localhost:{port} inside namespace {:?}, IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused \
             IPv6 dial tcp6 [::1]:{port}: connect: connection refused",
            up.0
        );
        assert!(
            message.starts_with("failed to execute portforward in network namespace \"/")
                && message.ends_with(&refused),
            "{message}"
        );
    }
    // The end of what is sent passes, and the answer comes after it.
    let mut stream = pod.runtime.connect_to(&up.0, 83).await.unwrap();
    let counted = async {
        stream.write_all(&vec![7; 5_000_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut count = String::new();
        stream.read_to_string(&mut count).await.unwrap();
        count
    };
    assert_eq!(within("the count", counted).await, "5000000\n");
    assert_eq!(network(), own, "nobody else changed networks");

    let other = pod.device.runtime("device-b");
    for (runtime, id) in [
        (&other, up.0.as_str()),
        (&pod.runtime, "0123456789abcdef"),
        (&pod.runtime, &container),
    ] {
        let fault = runtime.connect_to(id, 80).await.unwrap_err();
        let expect = (StreamRefusal::NotFound, format!("sandbox not found ({id:?})"));
        assert_eq!((fault.refusal(), fault.message()), expect);
    }
    done(
        &pod.runtime,
        Step::StopSandbox {
            sandbox_id: up.0.clone(),
        },
    )
    .await;
    let fault = pod.runtime.connect_to(&up.0, 80).await.unwrap_err();
    let expect = (
        StreamRefusal::NotRunning,
        "sandbox is in SANDBOX_NOTREADY state".to_owned(),
    );
    assert_eq!((fault.refusal(), fault.message()), expect);
}

#[tokio::test]
async fn on_the_devices_network_its_localhost_is_the_pods() {
    let pod = Pod::new("device-ports", |manifest| {
        manifest.workload.namespaces.host_network = true;
    })
    .await;
    pod.device.containerd.enter_network();
    let up = pod.up().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let connected = pod.runtime.connect_to(&up.0, port).await.unwrap();
    let (_, peer) = within("it is accepted", server.accept()).await.unwrap();
    assert_eq!(peer, connected.local_addr().unwrap());
    drop(server);
    let fault = pod.runtime.connect_to(&up.0, port).await.unwrap_err();
    let begins = "failed to execute portforward in network namespace \"host\": ";
    assert!(fault.message().starts_with(begins), "{fault}");
}
