//! The queue between machine and link, and what goes over a connection that is idle.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::test_tls::pair as tls;

const KEEP_ALIVE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_full_queue_asks_for_a_new_connection_and_cannot_swallow_the_wish() {
    let (sender, mut outgoing) = mpsc::channel(1);
    let (wisher, wishes) = watch::channel(Wishes {
        keep_alive: Duration::from_secs(30),
        reconnects: 0,
        why: String::new(),
    });
    let handle = LinkHandle {
        outgoing: sender,
        wishes: wisher,
    };
    handle.send(Lane::Status, vec![1]);
    assert_eq!(wishes.borrow().reconnects, 0);
    handle.send(Lane::Status, vec![2]);
    handle.reconnect("the session was not answered".to_owned());
    assert_eq!(wishes.borrow().reconnects, 2);
    assert_eq!(outgoing.recv().await, Some((Lane::Status, vec![1])));
}

/// A short packet, whole.
async fn packet(stream: &mut TlsStream<tokio::net::TcpStream>) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut packet = vec![0; usize::from(head[1])];
    stream.read_exact(&mut packet).await.unwrap();
    [head.as_slice(), &packet].concat()
}

/// Heartbeats are the machine's, and keep the connection alive: the link adds nothing of its own, which a metered device would pay for.
#[tokio::test]
async fn an_idle_connection_carries_the_machines_messages_and_no_pings() {
    let (acceptor, tls) = tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = LinkOptions {
        device: DeviceId::new("a").unwrap(),
        endpoints: vec![Endpoint::direct(
            "localhost",
            listener.local_addr().unwrap().port(),
        )],
        tls,
    };
    let (inputs, mut given) = mpsc::channel(4);
    let (task, link) = LinkTask::new(options, KEEP_ALIVE, inputs);
    let token = CancellationToken::new();
    let running = tokio::spawn(task.run(token.clone()));

    let (socket, _) = listener.accept().await.unwrap();
    let mut hub = acceptor.accept(socket).await.unwrap();
    let connect = packet(&mut hub).await;
    assert_eq!(
        connect[..12],
        *b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x01",
        "keep-alive 1 s"
    );
    hub.write_all(b"\x20\x02\x00\x00").await.unwrap();
    assert_eq!(packet(&mut hub).await[0], 0x82, "SUBSCRIBE");
    hub.write_all(b"\x90\x04\x00\x01\x01\x01").await.unwrap();
    assert!(matches!(given.recv().await, Some(Input::LinkUp { .. })));

    let silence = tokio::time::timeout(KEEP_ALIVE.mul_f32(1.5), packet(&mut hub)).await;
    assert!(silence.is_err(), "{silence:?}");
    link.send(Lane::Status, b"beat".to_vec());
    assert!(packet(&mut hub).await.ends_with(b"beat"));
    token.cancel();
    running.await.unwrap();
}

/// A stop says goodbye and does not wait for a hub that never closes its side.
#[tokio::test]
async fn a_stop_flushes_the_goodbye_and_is_prompt() {
    let (acceptor, tls) = tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = LinkOptions {
        device: DeviceId::new("a").unwrap(),
        endpoints: vec![Endpoint::direct(
            "localhost",
            listener.local_addr().unwrap().port(),
        )],
        tls,
    };
    let (inputs, mut given) = mpsc::channel(4);
    let (task, link) = LinkTask::new(options, Duration::from_secs(30), inputs);
    let token = CancellationToken::new();
    let running = tokio::spawn(task.run(token.clone()));

    let (socket, _) = listener.accept().await.unwrap();
    let mut hub = acceptor.accept(socket).await.unwrap();
    packet(&mut hub).await;
    hub.write_all(b"\x20\x02\x00\x00").await.unwrap();
    packet(&mut hub).await;
    hub.write_all(b"\x90\x04\x00\x01\x01\x01").await.unwrap();
    assert!(matches!(given.recv().await, Some(Input::LinkUp { .. })));
    hub.write_all(b"\x30\x0a\x00\x07dev/a/d?").await.unwrap();
    assert!(matches!(given.recv().await, Some(Input::Frame(Lane::Desired, _))));

    link.send(Lane::Status, b"bye".to_vec());
    let stopped = Instant::now();
    token.cancel();
    running.await.unwrap();
    assert!(stopped.elapsed() < CLOSE_TIMEOUT, "{:?}", stopped.elapsed());
    assert!(packet(&mut hub).await.ends_with(b"bye"));
    assert_eq!(packet(&mut hub).await, b"\xe0\x00", "DISCONNECT");
}

#[tokio::test]
async fn a_stop_while_dialling_waits_for_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = LinkOptions {
        device: DeviceId::new("a").unwrap(),
        endpoints: vec![Endpoint::direct(
            "localhost",
            listener.local_addr().unwrap().port(),
        )],
        tls: tls().1,
    };
    let (inputs, _given) = mpsc::channel(4);
    let (task, _link) = LinkTask::new(options, KEEP_ALIVE, inputs);
    let token = CancellationToken::new();
    let running = tokio::spawn(task.run(token.clone()));
    let _silent = listener.accept().await.unwrap();
    let stopped = Instant::now();
    token.cancel();
    running.await.unwrap();
    assert!(stopped.elapsed() < CLOSE_TIMEOUT, "{:?}", stopped.elapsed());
}
