//! Forwarded connections over SPDY, through a tunnel, and over WebSocket channels.

use std::time::Duration;

use edge_streams::port_forward::{Forward, PortForwards, PortsError};
use edge_streams::spdy::Session;
use edge_streams::websocket::{ChannelProtocol, Message, Tunnel};
use edge_streams::{ConnectionError, Limits, Stream, StreamError};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::wire::{SOON, headers, open_in_vain, pattern, read_all, sessions, websockets, write_all};

const WITHIN: Duration = Duration::from_secs(30);

/// Serves what comes: an echo on 7, and nothing else listens.
async fn serve(mut forwards: PortForwards) -> ConnectionError {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let forward = match forwards.accept().await {
            Ok(forward) => forward,
            Err(reason) => break reason,
        };
        tasks.spawn(echo(forward));
    }
}

async fn echo(forward: Forward) {
    if forward.port != 7 {
        return forward.fail("connection refused").await;
    }
    let (mut read, mut write) = tokio::io::split(forward.data);
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

async fn open(client: &Session, kind: &str, port: &str, request: &str) -> Stream {
    let headers = headers(&[("streamtype", kind), ("port", port), ("requestid", request)]);
    client.open(headers).await.unwrap()
}

async fn ask(client: &Session, request: usize) {
    let request = request.to_string();
    let mut error = open(client, "error", "7", &request).await;
    error.shutdown().await.unwrap();
    let data = open(client, "data", "7", &request).await;
    let sent = pattern(200_000);
    let (mut read, mut write) = data.into_split();
    let ((), echoed) = tokio::join!(write_all(&mut write, &sent), read_all(&mut read));
    assert!(echoed == sent, "request {request}");
    assert_eq!(read_all(&mut error).await, b"");
}

async fn refused(client: &Session) {
    let mut error = open(client, "error", "8", "refused").await;
    let mut data = open(client, "data", "8", "refused").await;
    assert_eq!(read_all(&mut error).await, b"connection refused");
    let reset = data.read_u8().await.unwrap_err();
    assert!(
        matches!(StreamError::of(&reset), Some(StreamError::Reset(_))),
        "{reset:?}"
    );
}

#[tokio::test]
async fn connections_are_forwarded_over_spdy() {
    let (client, server) = sessions(Limits::default());
    let serving = tokio::spawn(serve(PortForwards::over_spdy(server, WITHIN)));
    let client = std::sync::Arc::new(client);
    let mut tasks = tokio::task::JoinSet::new();
    for request in 0..20 {
        let client = std::sync::Arc::clone(&client);
        tasks.spawn(async move { ask(&client, request).await });
    }
    tasks.join_all().await;
    refused(&client).await;
    ask(&client, 99).await;
    drop(client);
    assert!(matches!(serving.await.unwrap(), ConnectionError::Vanished));
}

#[tokio::test]
async fn connections_are_forwarded_through_a_tunnel() {
    let (client, server) = websockets().await;
    let client = Session::client(Tunnel::new(client), Limits::default());
    let server = Session::server(Tunnel::new(server), Limits::default());
    let serving = tokio::spawn(serve(PortForwards::over_spdy(server, WITHIN)));
    ask(&client, 0).await;
    refused(&client).await;
    let (first, second) = tokio::join!(client.close(), serving);
    first.unwrap();
    assert!(matches!(second.unwrap(), ConnectionError::Closed));
}

#[tokio::test]
async fn a_tunnel_refuses_text_and_ends_in_order() {
    let (mut client, server) = websockets().await;
    let mut tunnel = Tunnel::new(server);
    client.send(Frame::Binary(b"ab".to_vec().into())).await.unwrap();
    client.send(Frame::Binary(Vec::new().into())).await.unwrap();
    client.send(Frame::Ping(Vec::new().into())).await.unwrap();
    client.send(Frame::Binary(b"c".to_vec().into())).await.unwrap();
    let mut bytes = [0; 3];
    tunnel.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"abc");
    tunnel.write_all(b"d").await.unwrap();
    tunnel.shutdown().await.unwrap();
    assert!(client.next().await.unwrap().unwrap().is_pong());
    assert_eq!(client.next().await.unwrap().unwrap().into_data().as_ref(), b"d");
    let Frame::Close(Some(close)) = client.next().await.unwrap().unwrap() else {
        panic!("a Close");
    };
    assert_eq!(close.code, CloseCode::Normal);
    // The client answers, and waits for the server to go.
    tokio::select! {
        _ = client.next() => panic!("the server goes first"),
        end = tunnel.read(&mut bytes) => assert_eq!(end.unwrap(), 0),
    }

    let (mut client, server) = websockets().await;
    let mut tunnel = Tunnel::new(server);
    client.send(Frame::Text("text".into())).await.unwrap();
    let error = tunnel.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn old_clients_pair_by_stream_ids() {
    let (client, server) = sessions(Limits::default());
    let serving = tokio::spawn(serve(PortForwards::over_spdy(server, WITHIN)));
    let open = async |kind| {
        client
            .open(headers(&[("streamtype", kind), ("port", "7")]))
            .await
            .unwrap()
    };
    for _ in 0..3 {
        let _error = open("error").await;
        let mut data = open("data").await;
        write_all(&mut data, b"paired").await;
        assert_eq!(read_all(&mut data).await, b"paired");
    }
    serving.abort();
}

#[tokio::test]
async fn a_half_of_a_pair_is_given_up_after_its_time() {
    let (client, server) = sessions(Limits::default());
    let serving = tokio::spawn(serve(PortForwards::over_spdy(server, Duration::from_millis(20))));
    let mut error = open(&client, "error", "7", "lonely").await;
    let reset = timeout(SOON, error.read_u8()).await.unwrap().unwrap_err();
    assert!(
        matches!(StreamError::of(&reset), Some(StreamError::Reset(_))),
        "{reset:?}"
    );
    // A stream that makes no sense harms nobody.
    for (kind, port) in [("error", "0"), ("stdin", "7"), ("data", "x")] {
        open_in_vain(
            &client,
            &[("streamtype", kind), ("port", port), ("requestid", "1")],
        )
        .await;
    }
    serving.abort();
    let (client, server) = sessions(Limits::default());
    let serving = tokio::spawn(serve(PortForwards::over_spdy(server, WITHIN)));
    ask(&client, 1).await;
    serving.abort();
}

#[tokio::test]
async fn a_second_stream_of_one_kind_is_reset_and_the_first_lives() {
    let (client, server) = sessions(Limits::default());
    let serving = tokio::spawn(serve(PortForwards::over_spdy(server, WITHIN)));
    let _error = open(&client, "error", "7", "1").await;
    let like = [("streamtype", "error"), ("port", "7"), ("requestid", "1")];
    open_in_vain(&client, &like).await;
    let mut data = open(&client, "data", "7", "1").await;
    write_all(&mut data, b"first").await;
    assert_eq!(read_all(&mut data).await, b"first");
    serving.abort();
}

#[tokio::test]
async fn connections_are_forwarded_over_channels() {
    for protocol in [
        ChannelProtocol::Unnamed,
        ChannelProtocol::V4,
        ChannelProtocol::Base64V4,
    ] {
        let (mut client, server) = websockets().await;
        let forwards = PortForwards::over_websocket(server, protocol, &[7, 8080], Limits::default()).unwrap();
        let serving = tokio::spawn(async move {
            let mut forwards = forwards;
            let first = forwards.accept().await.unwrap();
            let second = forwards.accept().await.unwrap();
            assert_eq!((first.port, second.port), (7, 8080));
            let handle = async {
                second.fail("connection refused").await;
                // No client of this protocol can end its direction: the port does.
                let mut data = first.data;
                let mut bytes = vec![0; 100_000];
                data.read_exact(&mut bytes).await.unwrap();
                write_all(&mut data, &bytes).await;
                drop((data, first.error));
            };
            let (reason, ()) = tokio::join!(forwards.accept(), handle);
            reason.err()
        });
        let sent = pattern(100_000);
        let frame = |bytes: &[u8]| {
            let message = protocol.data(0, bytes);
            if protocol.is_base64() {
                Frame::Text(String::from_utf8(message).unwrap().into())
            } else {
                Frame::Binary(message.into())
            }
        };
        for chunk in sent.chunks(30_000) {
            client.send(frame(chunk)).await.unwrap();
        }
        let (mut messages, mut code) = (Vec::new(), None);
        while let Some(Ok(frame)) = client.next().await {
            match frame {
                Frame::Close(close) => code = close.map(|close| close.code),
                frame => match protocol.read(&frame.into_data()).unwrap() {
                    Message::Data { channel, bytes } => messages.push((channel, bytes)),
                    other => panic!("{other:?}"),
                },
            }
        }
        drop(client);
        let greetings = [
            (0, vec![7, 0]),
            (1, vec![7, 0]),
            (2, vec![0x90, 0x1f]),
            (3, vec![0x90, 0x1f]),
        ];
        assert_eq!(messages[..4], greetings);
        let of = |wanted: u8| {
            let rest = messages[4..].iter();
            rest.filter(|(channel, _)| *channel == wanted)
                .flat_map(|(_, bytes)| bytes.clone())
                .collect::<Vec<u8>>()
        };
        assert!(of(0) == sent, "{protocol:?}");
        assert_eq!(of(3), b"connection refused");
        assert_eq!((of(1), of(2)), (vec![], vec![]));
        assert_eq!(code, Some(CloseCode::Normal), "it ends when the last port did");
        let reason = serving.await.unwrap();
        assert!(matches!(reason, Some(ConnectionError::Closed)), "{reason:?}");
    }
}

#[tokio::test]
async fn ports_that_make_no_sense_are_refused() {
    let check = async |ports: &[u16], expected| {
        let (_client, server) = websockets().await;
        let refused = PortForwards::over_websocket(server, ChannelProtocol::V4, ports, Limits::default());
        assert_eq!(refused.err(), Some(expected));
    };
    check(&[], PortsError::None).await;
    check(&[80, 0], PortsError::Zero).await;
    check(&[80; 128], PortsError::TooMany(128)).await;
    let (_client, server) = websockets().await;
    let text = PortForwards::over_websocket(server, ChannelProtocol::Base64V4, &[80; 41], Limits::default());
    assert_eq!(text.err(), Some(PortsError::TooMany(41)));
    let (_client, server) = websockets().await;
    let most = PortForwards::over_websocket(server, ChannelProtocol::V4, &[80; 127], Limits::default());
    assert!(most.is_ok());
}
