//! Commands as SPDY and every WebSocket protocol have them.

use edge_streams::remote_command::{Command, Options, Outcome, Running, TerminalSize};
use edge_streams::spdy::Session;
use edge_streams::websocket::{ChannelProtocol, Message};
use edge_streams::{ConnectionError, Limits};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::peer::{ALL, TERMINAL};
use crate::wire::{headers, open_in_vain, pattern, read_all, sessions, settle, websockets};

/// As the kubelet's server ends: the outcome, then a reset of every stream.
#[tokio::test]
async fn a_reset_after_the_output_is_its_end() {
    let (client, mut server) = sessions(Limits::default());
    let options = Options {
        stdin: false,
        stdout: true,
        stderr: false,
        tty: false,
    };
    let serve = async {
        let mut error = server.accept().await.unwrap();
        let mut stdout = server.accept().await.unwrap();
        stdout.write_all(b"all of it").await.unwrap();
        stdout.flush().await.unwrap();
        error
            .write_all(Outcome::NonZeroExit(3).to_status().as_bytes())
            .await
            .unwrap();
        error.flush().await.unwrap();
        drop((error, stdout));
        server.close().await
    };
    let ask = async {
        let mut running = Running::start(client, options).await.unwrap();
        let output = read_all(running.stdout.as_mut().unwrap()).await;
        let outcome = running.verdict.outcome().await.unwrap();
        (output, outcome)
    };
    let ((output, outcome), _) = tokio::join!(ask, serve);
    assert_eq!(output, b"all of it");
    assert_eq!(outcome, Outcome::NonZeroExit(3));
}

#[tokio::test]
async fn streams_that_were_not_asked_for_are_reset() {
    let (client, server) = sessions(Limits::default());
    let options = Options {
        stdout: true,
        stdin: false,
        stderr: false,
        tty: false,
    };
    let serve = tokio::spawn(Command::over_spdy(server, options));
    open_in_vain(&client, &[("streamtype", "stdlog")]).await;
    open_in_vain(&client, &[("streamtype", "stdin")]).await;
    open_in_vain(&client, &[]).await;
    let open = async |kind: &str| client.open(headers(&[("streamtype", kind)])).await;
    let _error = open("error").await.unwrap();
    let _stdout = open("stdout").await.unwrap();
    let _command = serve.await.unwrap().unwrap();
    assert!(open("stdout").await.is_err(), "nothing more is taken");
    drop::<Session>(client);
}

/// What a client hears: messages by channel, and the code of the Close.
#[derive(Default)]
struct Heard {
    messages: Vec<(u8, Vec<u8>)>,
    close: Option<CloseCode>,
}

impl Heard {
    fn channel(&self, channel: u8) -> Vec<u8> {
        let of = |(at, bytes): &(u8, Vec<u8>)| (*at == channel).then(|| bytes.clone());
        self.messages.iter().filter_map(of).collect::<Vec<_>>().concat()
    }
}

async fn hear(
    client: &mut (impl futures_util::Stream<Item = Result<Frame, tokio_tungstenite::tungstenite::Error>> + Unpin),
    protocol: ChannelProtocol,
) -> Heard {
    let mut heard = Heard::default();
    while let Some(Ok(frame)) = client.next().await {
        assert_eq!(frame.is_text(), protocol.is_base64() && !frame.is_close());
        match frame {
            Frame::Close(close) => heard.close = close.map(|close| close.code),
            frame => match protocol.read(&frame.into_data()).unwrap() {
                Message::Data { channel, bytes } => heard.messages.push((channel, bytes)),
                other => panic!("{other:?}"),
            },
        }
    }
    heard
}

const PROTOCOLS: [ChannelProtocol; 6] = [
    ChannelProtocol::Unnamed,
    ChannelProtocol::Plain,
    ChannelProtocol::Base64,
    ChannelProtocol::V4,
    ChannelProtocol::Base64V4,
    ChannelProtocol::V5,
];

fn frame(protocol: ChannelProtocol, message: Vec<u8>) -> Frame {
    if protocol.is_base64() {
        Frame::Text(String::from_utf8(message).unwrap().into())
    } else {
        Frame::Binary(message.into())
    }
}

async fn say(
    client: &mut WebSocketStream<DuplexStream>,
    protocol: ChannelProtocol,
    channel: u8,
    bytes: &[u8],
) {
    client
        .send(frame(protocol, protocol.data(channel, bytes)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_command_over_a_websocket_has_its_streams_and_its_outcome() {
    for protocol in PROTOCOLS {
        let (mut client, server) = websockets().await;
        let mut command = Command::over_websocket(server, protocol, ALL, Limits::default());
        let input = pattern(300_000);
        let length = input.len();
        let serve = async move {
            let mut stdin = command.stdin.take().unwrap();
            let mut stdout = command.stdout.take().unwrap();
            let mut seen = vec![0; length];
            stdin.read_exact(&mut seen).await.unwrap();
            stdout.write_all(&seen).await.unwrap();
            command.stderr.take().unwrap().write_all(b"done\n").await.unwrap();
            command.ending.finish(&Outcome::NonZeroExit(3)).await.unwrap();
        };
        let ask = async {
            for chunk in input.chunks(50_000) {
                say(&mut client, protocol, 0, chunk).await;
            }
            say(&mut client, protocol, 9, b"no such channel").await;
            say(&mut client, protocol, 1, b"not for reading").await;
            let heard = hear(&mut client, protocol).await;
            assert_eq!(heard.messages[0], (1, Vec::new()), "the command has begun");
            assert!(heard.channel(1) == input, "{protocol:?}");
            assert_eq!(heard.channel(2), b"done\n");
            let (last, outcome) = heard.messages.last().unwrap();
            assert_eq!(*last, 3, "the outcome comes last");
            if protocol.has_status() {
                assert_eq!(Outcome::from_status(outcome).unwrap(), Outcome::NonZeroExit(3));
            } else {
                assert_eq!(
                    outcome,
                    b"command terminated with non-zero exit code: exit status 3"
                );
            }
            assert_eq!(heard.close, Some(CloseCode::Normal));
            drop(client);
        };
        tokio::join!(serve, ask);
    }
}

#[tokio::test]
async fn the_fifth_version_ends_stdin_and_the_others_do_not() {
    for protocol in PROTOCOLS {
        let (mut client, server) = websockets().await;
        let mut command = Command::over_websocket(server, protocol, ALL, Limits::default());
        let mut stdin = command.stdin.take().unwrap();
        say(&mut client, protocol, 0, b"all").await;
        client
            .send(frame(ChannelProtocol::V5, vec![255, 0]))
            .await
            .unwrap();
        let mut bytes = vec![0; 3];
        stdin.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"all");
        if protocol == ChannelProtocol::V5 {
            assert_eq!(stdin.read(&mut [0]).await.unwrap(), 0);
        } else if !protocol.is_base64() {
            tokio::select! {
                biased;
                read = stdin.read_u8() => panic!("{protocol:?}: {read:?}"),
                () = settle() => {}
            }
        }
    }
}

#[tokio::test]
async fn the_first_message_is_on_the_first_stream_that_is_written() {
    let check = async |options, channel| {
        let (mut client, server) = websockets().await;
        let command = Command::over_websocket(server, ChannelProtocol::V5, options, Limits::default());
        let first = client.next().await.unwrap().unwrap();
        assert_eq!(first.into_data().as_ref(), [channel]);
        drop(command);
    };
    check(ALL, 1).await;
    check(TERMINAL, 1).await;
    check(Options { stdout: false, ..ALL }, 2).await;
    check(
        Options {
            stdout: false,
            stderr: false,
            ..ALL
        },
        3,
    )
    .await;
}

#[tokio::test]
async fn a_terminal_over_a_websocket_has_sizes() {
    let (mut client, server) = websockets().await;
    let mut command = Command::over_websocket(server, ChannelProtocol::V4, TERMINAL, Limits::default());
    say(
        &mut client,
        ChannelProtocol::V4,
        4,
        br#"{"Width":80,"Height":24}"#,
    )
    .await;
    let size = command.resizes.as_mut().unwrap().next().await;
    assert_eq!(
        size,
        Some(TerminalSize {
            width: 80,
            height: 24
        })
    );
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_and_named() {
    let check = async |protocol, message: Vec<u8>, expected: &str| {
        let (mut client, server) = websockets().await;
        let mut command = Command::over_websocket(server, protocol, ALL, Limits::default());
        let mut gone = command.ending.gone();
        client.send(Frame::Binary(message.into())).await.unwrap();
        let heard = hear(&mut client, protocol).await;
        assert_eq!(heard.close, Some(CloseCode::Protocol));
        let reason = gone.wait().await;
        assert!(matches!(reason, ConnectionError::Channels(_)), "{reason:?}");
        let source = std::error::Error::source(&reason).unwrap().to_string();
        assert_eq!(source, expected);
        let error = command.stdin.take().unwrap().read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    };
    let v5 = ChannelProtocol::V5;
    check(v5, vec![255], "a close signal of 1 bytes, not 2").await;
    let text = "what should be base64 on channel 0 is not";
    check(ChannelProtocol::Base64V4, b"0???".to_vec(), text).await;
}

#[tokio::test]
async fn a_message_above_the_bound_ends_the_connection() {
    let (mut client, server) = websockets().await;
    let command = Command::over_websocket(server, ChannelProtocol::V5, ALL, Limits::default());
    let mut gone = command.ending.gone();
    let _held = command;
    let much = vec![0; edge_streams::websocket::MAX_MESSAGE + 1];
    let _ = client.send(Frame::Binary(much.into())).await;
    let reason = gone.wait().await;
    assert!(matches!(reason, ConnectionError::WebSocket(_)), "{reason:?}");
}

/// stdin that nobody reads holds the client back, and no byte of it is lost.
#[tokio::test]
async fn a_command_that_reads_slowly_holds_the_client_back() {
    let (mut client, server) = websockets().await;
    let limits = Limits::default();
    let mut command = Command::over_websocket(server, ChannelProtocol::V5, ALL, limits);
    let mut stdin = command.stdin.take().unwrap();
    let mut sent = 0;
    loop {
        tokio::select! {
            biased;
            () = say(&mut client, ChannelProtocol::V5, 0, &[7; 10_000]) => sent += 10_000,
            () = settle() => break,
        }
    }
    assert!(sent < 2 * limits.receive_buffer + 20 * 16 * 1024, "{sent}");
    let mut rest = vec![0; sent];
    stdin.read_exact(&mut rest).await.unwrap();
    assert!(rest.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_client_that_closes_in_order_is_told_apart_from_one_that_vanishes() {
    let check = async |close: bool| {
        let (mut client, server) = websockets().await;
        let mut command = Command::over_websocket(server, ChannelProtocol::V4, ALL, Limits::default());
        let mut gone = command.ending.gone();
        let mut stdin = command.stdin.take().unwrap();
        say(&mut client, ChannelProtocol::V4, 0, b"before").await;
        if close {
            client.close(None).await.unwrap();
            let _ = hear(&mut client, ChannelProtocol::V4).await;
        }
        drop(client);
        let reason = gone.wait().await;
        let mut bytes = Vec::new();
        assert!(
            stdin.read_to_end(&mut bytes).await.is_err(),
            "its end was never said"
        );
        assert_eq!(bytes, b"before");
        reason
    };
    assert!(matches!(check(true).await, ConnectionError::Closed));
    assert!(matches!(check(false).await, ConnectionError::Vanished));
}
