//! A fleet that reconnects at once, over real mutual TLS, while another device goes on working.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iot_hub_mqtt::{DownLane, Event, RefuseReason, UpLane};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ClientConfig;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::raw::{Connect, Raw, puback, publish, tls};
use crate::site::{Site, device, until};

const CLIENTS: usize = 2_000;
const BOUND: Duration = Duration::from_mins(2);

fn raise_file_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        hard > 3 * CLIENTS as u64,
        "both ends of {CLIENTS} connections are needed, the limit is {hard}"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// Connects like an agent: a failure is tried again after a pause.
async fn connect(address: std::net::SocketAddr, name: String, config: Arc<ClientConfig>) -> Raw {
    loop {
        if let Ok(stream) = tls(address, &config).await {
            let mut raw = Raw { stream };
            raw.send(&Connect::of(&name).bytes()).await;
            if raw.try_packet().await.as_deref() == Some(&[0x20, 2, 0, 0]) {
                return raw;
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// All of them at once, on threads of their own: what they compute must not be taken for the endpoint's.
async fn storm(crowd: &Handle, site: &Site, fleet: &[(String, Arc<ClientConfig>)]) -> Vec<Raw> {
    let mut tasks = JoinSet::new();
    for (name, config) in fleet {
        tasks.spawn_on(connect(site.address, name.clone(), Arc::clone(config)), crowd);
    }
    timeout(BOUND, tasks.join_all())
        .await
        .expect("all are back in time")
}

/// Sends up and waits for the acknowledgement, gets a command and acknowledges it, over and over.
async fn steady(mut raw: Raw, site: Arc<Site>, stop: CancellationToken) -> (Raw, u64, Duration) {
    let (mut rounds, mut worst) = (0, Duration::ZERO);
    let connection = site.connection("steady").unwrap();
    while !stop.is_cancelled() {
        let begin = Instant::now();
        raw.send(&publish(0x32, "dev/steady/s", 1, rounds.to_string().as_bytes()))
            .await;
        assert_eq!(raw.packet().await, puback(1));
        site.handle
            .send(
                &device("steady"),
                connection,
                DownLane::Command,
                Bytes::from_static(b"x"),
            )
            .unwrap();
        let command = raw.packet().await;
        raw.send(&puback(u16::from_be_bytes([command[16], command[17]])))
            .await;
        site.log
            .message("steady", UpLane::Status, &rounds.to_string())
            .await;
        worst = worst.max(begin.elapsed());
        rounds += 1;
        sleep(Duration::from_millis(20)).await;
    }
    (raw, rounds, worst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_clients_reconnect_and_others_do_not_notice() {
    raise_file_limit();
    let site = Arc::new(Site::start());
    let fleet: Vec<_> = (0..CLIENTS)
        .map(|i| (format!("d{i}"), site.enrol(&format!("d{i}"))))
        .collect();
    let raw = Raw::subscribed(&site, "steady", &site.enrol("steady")).await;
    let stop = CancellationToken::new();
    let working = tokio::spawn(steady(raw, Arc::clone(&site), stop.clone()));

    let crowd = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let begin = Instant::now();
    let first = storm(crowd.handle(), &site, &fleet).await;
    let connected = begin.elapsed();
    assert_eq!(site.handle.sessions().len(), CLIENTS + 1);
    drop(first);
    until("all ends were noticed", || site.handle.sessions().len() == 1).await;
    let begin = Instant::now();
    let second = storm(crowd.handle(), &site, &fleet).await;
    let reconnected = begin.elapsed();
    assert_eq!(site.handle.sessions().len(), CLIENTS + 1);

    stop.cancel();
    let (_raw, rounds, worst) = working.await.unwrap();
    let evicted = site.handle.metrics().refused_for(RefuseReason::HandshakeEvicted);
    println!("{CLIENTS} full {connected:?}, resumed {reconnected:?}, evicted {evicted}");
    println!("steady: {rounds} rounds, worst {worst:?}");
    assert!(rounds >= 10, "{rounds} rounds");
    assert!(worst < Duration::from_secs(5), "worst round {worst:?}");
    let dropped =
        |event: &Event| matches!(event, Event::Disconnected { device, .. } if device.as_str() == "steady");
    assert!(!site.log.all().iter().any(dropped));
    drop(second);
    crowd.shutdown_background();
}
