//! Streams from a caller of the API through the hub to a device, and who gets none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use edge_protocol::v1::log_frames::{encode_data, encode_end};
use edge_protocol::v1::{LogPosition, LogQuery, StreamAnswer, StreamRefusal, StreamRequest, Ticket};
use iot_hub::grant::{Grant, Role, SourceRule};
use iot_hub_client::api::{CreateEnrolmentToken, DeviceState, StreamCall};
use iot_hub_client::{HubClient, LogPart, LogTarget, StreamError, StreamPipe};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::device::{Device, HubPort};
use crate::mqtt::begin;
use crate::site::{DEADLINE, Site, deployment, uid, within};
use crate::tunnel::{Dialled, Pipe, Streamer};

fn port_of(pod: &str) -> StreamCall {
    StreamCall {
        request: StreamRequest::PortForward {
            uid: uid(pod),
            port: 80,
        },
        user: Some("ada".into()),
    }
}

/// One hub, one device in session with a tunnel, and an administrator.
struct Stage {
    site: Site,
    admin: HubClient,
    device: Streamer,
    tunnel: Dialled,
}

impl Stage {
    async fn set() -> Self {
        let site = Site::start().await;
        let device = Streamer::start(&site, "d1").await;
        let tunnel = Dialled::dial(&site, &device.device).await;
        Self {
            admin: site.admin().await,
            site,
            device,
            tunnel,
        }
    }

    /// A caller asks; what it is told, and the ticket that the device got.
    async fn ask(&mut self) -> (tokio::task::JoinHandle<Result<StreamPipe, StreamError>>, Ticket) {
        let (client, id) = (self.admin.clone(), self.device.id().clone());
        let asking = tokio::spawn(async move { client.open_stream(&id, &port_of("u1")).await });
        (asking, self.device.order().await.ticket)
    }

    /// A stream that has begun, both ends of it.
    async fn open(&mut self) -> (StreamPipe, Pipe) {
        let (asking, ticket) = self.ask().await;
        let far = self.tunnel.open(ticket, StreamAnswer::Begun).await;
        let near = within("the beginning", asking).await.unwrap().unwrap();
        (near, far)
    }
}

async fn read_all(what: &str, pipe: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    within(what, pipe.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

/// Reads until an error, which must come.
async fn fails(what: &str, pipe: &mut StreamPipe) {
    let mut bytes = Vec::new();
    let read = within(what, pipe.read_to_end(&mut bytes)).await;
    assert!(read.is_err(), "{what}: it ended in order");
}

/// yamux tells of a reset as of an end.
async fn is_reset(what: &str, mut pipe: Pipe) {
    assert_eq!(read_all(what, &mut pipe).await, b"", "{what}");
}

fn refusal(error: &StreamError) -> StreamRefusal {
    match error {
        StreamError::Refused { why, .. } => *why,
        other => panic!("not refused: {other}"),
    }
}

/// The value of a gauge without labels.
async fn gauge(site: &Site, name: &str) -> i64 {
    let mut http = TcpStream::connect(site.addresses.health).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n";
    http.write_all(request).await.unwrap();
    let text = String::from_utf8(read_all("the metrics", &mut http).await).unwrap();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .split(' ')
        .nth(1);
    value.unwrap().parse().unwrap()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_direction_ends_apart() {
    let mut stage = Stage::set().await;
    let id = stage.device.id().clone();
    let client = stage.admin.clone();
    let asking = tokio::spawn(async move { client.open_stream(&id, &port_of("u1")).await });
    let order = stage.device.order().await;
    assert_eq!(order.request, port_of("u1").request);
    assert_eq!(order.operator.principal, "tester");
    assert_eq!(order.operator.user.as_deref(), Some("ada"));

    let mut far = stage.tunnel.open(order.ticket, StreamAnswer::Begun).await;
    let mut near = within("the beginning", asking).await.unwrap().unwrap();
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(read_all("the question", &mut far).await, b"question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(read_all("the answer", &mut near).await, b"answer");

    let audit = stage.admin.audit().await.unwrap().items;
    let row = audit.iter().find(|row| row.action == "open-stream").unwrap();
    assert_eq!(row.principal, "tester");
    assert_eq!(row.subject, "d1 for \"ada\": port 80 of pod u1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_its_own_stream_only() {
    const LENGTH: usize = 64 << 20;
    const TURN: usize = 1 << 20;
    let mut stage = Stage::set().await;
    let (mut slow, mut far) = stage.open().await;
    let (mut near, mut echo) = stage.open().await;
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let writing = tokio::spawn(async move {
        let chunk = vec![7; 64 << 10];
        while count.load(Ordering::Relaxed) < LENGTH {
            far.write_all(&chunk).await.unwrap();
            count.fetch_add(chunk.len(), Ordering::Relaxed);
        }
        far.shutdown().await.unwrap();
        far
    });
    let echoing = tokio::spawn(async move {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let length = echo.read(&mut bytes).await.unwrap();
            if length == 0 {
                return echo.shutdown().await.unwrap();
            }
            echo.write_all(&bytes[..length]).await.unwrap();
        }
    });
    // Until the writer makes no progress during a turn of the other stream.
    let (mut to, turns) = (vec![0; TURN], vec![1; TURN]);
    within("the slow stream to be full", async {
        let mut before = None;
        while before != Some(written.load(Ordering::Relaxed)) {
            before = Some(written.load(Ordering::Relaxed));
            let (mut read, mut write) = tokio::io::split(&mut near);
            let (said, heard) = tokio::join!(
                async {
                    write.write_all(&turns).await?;
                    write.flush().await
                },
                read.read_exact(&mut to)
            );
            said.unwrap();
            heard.unwrap();
        }
    })
    .await;
    let held = written.load(Ordering::Relaxed);
    assert!(held < LENGTH / 2, "{held} bytes are held somewhere");
    near.shutdown().await.unwrap();
    within("the other stream's end", echoing).await.unwrap();
    let bytes = read_all("the slow stream", &mut slow).await;
    assert_eq!(bytes.len(), LENGTH);
    drop(within("its writer", writing).await.unwrap());
}

/// A frame of a log, the first so many bytes of its only file told with it.
fn told(offset: u64, text: &[u8]) -> (LogPosition, Vec<u8>) {
    let position = LogPosition {
        attempt: 0,
        file: 0,
        offset,
    };
    let mut frame = Vec::new();
    encode_data(position, text, &mut frame);
    (position, frame)
}

#[tokio::test]
async fn a_log_goes_on_after_a_cut_and_ends_with_its_end() {
    let mut stage = Stage::set().await;
    let whose = LogTarget {
        device: stage.device.id().clone(),
        uid: uid("u1"),
        container: "main".into(),
        patience: DEADLINE,
    };
    let query = LogQuery {
        tail_lines: Some(9),
        ..LogQuery::default()
    };
    let client = stage.admin.clone();
    let reading = tokio::spawn(async move {
        let mut reader = client.logs(whose, query, None).await.unwrap();
        let mut parts = Vec::new();
        while let Some(part) = reader.next().await.unwrap() {
            parts.push(part);
        }
        parts
    });
    let (position, frame) = told(4, b"one\n");
    let (_, next) = told(8, b"two\n");
    let ticket = stage.device.order().await.ticket;
    let mut far = stage.tunnel.open(ticket, StreamAnswer::Begun).await;
    far.write_all(&frame).await.unwrap();
    far.write_all(&next[..next.len() - 1]).await.unwrap();
    far.shutdown().await.unwrap();

    let again = stage.device.order().await;
    let StreamRequest::Logs { query, .. } = again.request else {
        panic!("{:?}", again.request);
    };
    assert_eq!((query.after, query.tail_lines), (Some(position), None));
    let mut rest = stage.tunnel.open(again.ticket, StreamAnswer::Begun).await;
    let mut end = next;
    encode_end(&mut end);
    rest.write_all(&end).await.unwrap();
    rest.shutdown().await.unwrap();
    let parts = within("the end of the log", reading).await.unwrap();
    let text = |text: &[u8]| LogPart::Text(text.to_vec());
    assert_eq!(parts, [text(b"one\n"), LogPart::Cut, text(b"two\n")]);
}

#[tokio::test]
async fn a_thousand_streams_leave_nothing_behind() {
    let mut stage = Stage::set().await;
    for number in 0..1_000 {
        let (near, far) = stage.open().await;
        // Whichever side goes first.
        if number % 2 == 0 {
            drop(near);
            is_reset("a stream whose caller has gone", far).await;
        } else {
            drop(far);
            let mut near = near;
            fails("a stream whose device has gone", &mut near).await;
        }
    }
    within("all streams to be over", async {
        while gauge(&stage.site, "hub_streams_open").await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(stage.open().await);
    }
    let error = stage.admin.open_stream(stage.device.id(), &port_of("u1")).await;
    assert_eq!(refusal(&error.unwrap_err()), StreamRefusal::TooMany);
}

#[tokio::test]
async fn who_gets_no_stream() {
    let site = Site::start().await;
    let admin = site.admin().await;
    admin.put_deployment(&deployment("mine", "*")).await.unwrap();
    let device = Streamer::start(&site, "d1").await;
    let token = site.enrolment_token(CreateEnrolmentToken::default()).await;
    let plain = Device::enrol(&site, &token, "plain").await;
    let without = begin(&site, &plain).await;
    let token = site.enrolment_token(CreateEnrolmentToken::default()).await;
    let away = Device::enrol(&site, &token, "away").await;

    // Before anything is said: by the route itself.
    let status = async |client: &HubClient, id: &str| {
        let id = edge_protocol::DeviceId::new(id).unwrap();
        let error = client.open_stream(&id, &port_of("mine")).await.unwrap_err();
        match error {
            StreamError::Call(error) => error.problem().expect("a problem").status,
            other => panic!("no problem: {other}"),
        }
    };
    assert_eq!(status(&admin, "nobody").await, 404);
    let viewer = site.client(Grant::unrestricted(Role::Viewer)).await;
    assert_eq!(status(&viewer, "d1").await, 403);
    let provider = Grant {
        streams: true,
        devices: "deviceId = 'plain'".into(),
        ..Grant::unrestricted(Role::Provider)
    };
    assert_eq!(status(&site.client(provider).await, "d1").await, 404);

    // By the hub, once it knows what is wanted.
    let why = async |client: &HubClient, id: &edge_protocol::DeviceId, call: StreamCall| {
        refusal(&client.open_stream(id, &call).await.unwrap_err())
    };
    let asked = why(&admin, &away.answer.device, port_of("mine")).await;
    assert_eq!(asked, StreamRefusal::NotConnected);
    drop(without);
    let older = Streamer::of(&site, plain, &["logs"]).await;
    assert_eq!(
        why(&admin, older.id(), port_of("mine")).await,
        StreamRefusal::NoStreams
    );
    let rule = |cluster: &str| SourceRule {
        cluster_uid: Some(cluster.into()),
        node: None,
    };
    let of = |cluster| Grant {
        streams: true,
        sources: vec![rule(cluster)],
        ..Grant::unrestricted(Role::Provider)
    };
    let other = site.client(of("another")).await;
    for pod in ["mine", "unknown"] {
        let asked = why(&other, device.id(), port_of(pod)).await;
        assert_eq!(asked, StreamRefusal::NotFound, "{pod}");
    }
    let mut device = device;
    let own = site.client(of("cluster-1")).await;
    let id = device.id().clone();
    let asking = tokio::spawn(async move { own.open_stream(&id, &port_of("mine")).await });
    assert_eq!(device.order().await.request, port_of("mine").request);
    asking.abort();
}

#[tokio::test]
async fn a_device_says_why_it_will_not() {
    let mut stage = Stage::set().await;
    let (asking, ticket) = stage.ask().await;
    let refused = StreamAnswer::Refused {
        why: StreamRefusal::NotRunning,
        message: "container \"main\" is not\u{1b} running".into(),
    };
    let _far = stage.tunnel.open(ticket, refused).await;
    let error = within("the refusal", asking).await.unwrap().unwrap_err();
    assert_eq!(refusal(&error), StreamRefusal::NotRunning);
    assert_eq!(error.to_string(), "container \"main\" is not\\u{1b} running");
}

#[tokio::test]
async fn a_ticket_is_good_once_and_for_its_own_device() {
    let mut stage = Stage::set().await;
    let other = Streamer::start(&stage.site, "d2").await;
    let stranger = Dialled::dial(&stage.site, &other.device).await;
    let guessed = Ticket::from_bytes([7; 32]);
    let far = stage.tunnel.open(guessed, StreamAnswer::Begun).await;
    is_reset("a ticket that nobody gave out", far).await;

    let (asking, ticket) = stage.ask().await;
    let far = stranger.open(ticket.clone(), StreamAnswer::Begun).await;
    is_reset("the ticket of another device", far).await;
    let mut far = stage.tunnel.open(ticket.clone(), StreamAnswer::Begun).await;
    let again = stage.tunnel.open(ticket, StreamAnswer::Begun).await;
    is_reset("a ticket that is spent", again).await;
    let mut near = within("the beginning", asking).await.unwrap().unwrap();
    far.write_all(b"here").await.unwrap();
    let mut bytes = [0; 4];
    within("the stream to go on", near.read_exact(&mut bytes))
        .await
        .unwrap();

    let audit = stage.admin.audit().await.unwrap().items;
    let refused = audit.iter().filter(|row| row.action == "present-ticket");
    let mut whose: Vec<_> = refused.map(|row| row.principal.as_str()).collect();
    whose.sort_unstable();
    assert_eq!(whose, ["device d1", "device d1", "device d2"]);
}

#[tokio::test]
async fn a_stream_that_begins_with_nonsense_is_reset_alone() {
    let mut stage = Stage::set().await;
    let (mut near, mut far) = stage.open().await;
    for (what, bytes) in [
        ("too large", &u32::MAX.to_be_bytes()[..]),
        ("no document", b"\0\0\0\x02hi"),
        ("not an opening", b"\0\0\0\x02{}"),
    ] {
        let mut stream = stage.tunnel.blank().await;
        stream.write_all(bytes).await.unwrap();
        is_reset(what, stream).await;
    }
    let mut cut = stage.tunnel.blank().await;
    cut.write_all(b"\0\0").await.unwrap();
    drop(cut);
    far.write_all(b"here").await.unwrap();
    let mut bytes = [0; 4];
    within("the stream to go on", near.read_exact(&mut bytes))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lost_tunnel_is_never_an_end_in_order() {
    let mut stage = Stage::set().await;
    let (mut near, _far) = stage.open().await;
    let (mut ended, _rest) = stage.open().await;
    ended.shutdown().await.unwrap();
    stage.tunnel = Dialled::dial(&stage.site, &stage.device.device).await;
    fails("a stream of the tunnel before", &mut near).await;
    fails("a stream whose caller had ended its direction", &mut ended).await;
    let (_near, _far) = stage.open().await;
}

#[tokio::test]
async fn a_device_that_is_disabled_loses_its_streams_at_once() {
    let mut stage = Stage::set().await;
    let (mut near, _far) = stage.open().await;
    let (asking, _ticket) = stage.ask().await;
    let id = stage.device.id().clone();
    stage
        .admin
        .set_device_state(&id, DeviceState::Disabled)
        .await
        .unwrap();
    fails("an open stream", &mut near).await;
    let error = within("the one that waits", asking).await.unwrap().unwrap_err();
    assert_eq!(refusal(&error), StreamRefusal::NotConnected);
    within("the tunnel's end", &mut stage.tunnel.carried)
        .await
        .unwrap();
    let device = &stage.device.device;
    assert!(Dialled::try_dial(&stage.site, device).await.is_err());
}

#[tokio::test]
async fn streams_end_with_the_session() {
    let mut stage = Stage::set().await;
    let (mut near, _far) = stage.open().await;
    let Stage { device, .. } = stage;
    drop(device);
    fails("an open stream", &mut near).await;
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_ticket_along() {
    let mut stage = Stage::set().await;
    let (asking, ticket) = stage.ask().await;
    asking.abort();
    drop(asking.await);
    // Until the hub has noticed, the stream would be given to nobody; either way it is reset.
    let far = stage.tunnel.open(ticket, StreamAnswer::Begun).await;
    is_reset("a stream that nobody waits for", far).await;
}

#[tokio::test]
async fn a_tunnel_wants_a_certificate() {
    let site = Site::start().await;
    let port = HubPort::of(&site);
    let request = port
        .http(None)
        .get(port.url("/tunnel"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 401);
}
