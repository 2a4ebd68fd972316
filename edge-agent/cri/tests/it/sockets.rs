//! Sockets without a runtime behind them: every call ends, in time, with the right error.

use std::time::Duration;

use edge_agent_cri::{CriClient, CriErrorKind, CriOptions, Deadlines, Disposition};
use tokio::net::UnixListener;

fn impatient(socket: &std::path::Path) -> CriClient {
    let short = Duration::from_millis(200);
    let deadlines = Deadlines {
        connect: short,
        query: short,
        change: short,
        sandbox: short,
        pull: short,
    };
    CriClient::new(CriOptions {
        deadlines,
        ..CriOptions::new(socket)
    })
}

#[tokio::test]
async fn an_absent_socket_is_unavailable() {
    let directory = tempfile::tempdir().unwrap();
    let client = impatient(&directory.path().join("absent.sock"));
    let error = client.version().await.unwrap_err();
    assert_eq!(
        (error.kind, error.disposition()),
        (CriErrorKind::Unavailable, Disposition::Retry),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_silent_peer_runs_into_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("silent.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let error = impatient(&socket).start_container("c1").await.unwrap_err();
    assert_eq!(error.kind, CriErrorKind::TimedOut(Duration::from_millis(200)));
    assert_eq!(error.to_string(), "StartContainer c1: no answer within 200ms");
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_unavailable_and_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("rude.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let client = impatient(&socket);
    for _ in 0..2 {
        let (error, ()) = tokio::join!(client.version(), async { drop(listener.accept().await.unwrap()) });
        assert_eq!(error.unwrap_err().kind, CriErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_speak_grpc_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("web.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut peer, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer
    };
    let client = impatient(&socket);
    let (error, _peer) = tokio::join!(client.version(), answer);
    assert_eq!(error.unwrap_err().disposition(), Disposition::Retry);
}
