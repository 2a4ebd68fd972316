//! What one session writes, and when, without a socket.

use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::endpoint::Event;
use crate::gate::Identity;
use crate::ids::{DeviceId, Serial};
use crate::session::Outbox;
use crate::table::Table;
use crate::topics::DownLane;

const SUBSCRIBE: &[u8] = b"\x82\x0c\x00\x01\x00\x07dev/a/c\x01";
const SUBACK: &[u8] = b"\x90\x03\x00\x01\x01";
const PUBLISH_7: &[u8] = b"\x32\x0c\x00\x07dev/a/s\x00\x07x";
const PUBACK_7: &[u8] = b"\x40\x02\x00\x07";
const ANSWER: &[u8] = b"\x32\x0c\x00\x07dev/a/c\x00\x01y";

fn session() -> (Session<DuplexStream>, DuplexStream) {
    let options = Options::default();
    let table = Table::new(1, 1);
    let identity = Identity {
        device: DeviceId::new("a").expect("valid"),
        serial: Serial::new("1").expect("valid"),
    };
    let slot = table.claim(&identity, ([127, 0, 0, 1], 1).into(), table.epoch(), || {
        Outbox::new(&options)
    });
    let slot = slot.ok().expect("the only one");
    let intake = Arc::new(Intake::new(&options));
    let connected = Event::Connected {
        device: identity.device.clone(),
        connection: slot.connection,
        keep_alive: Duration::from_mins(1),
        peer: slot.peer,
    };
    let space = intake.open(identity.device, slot.connection, connected);
    let (near, far) = duplex(1024);
    let times = (&options, Duration::from_mins(1));
    let session = Session::new(Wire::new(near), slot, intake, space, Metrics::default(), times);
    (session, far)
}

/// What the device can read now.
async fn read(device: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokio::select! {
        biased;
        read = device.read_buf(&mut bytes) => drop(read.unwrap()),
        () = std::future::ready(()) => {}
    }
    bytes
}

#[tokio::test]
async fn a_puback_goes_with_the_answer_or_a_moment_later_alone() {
    let (mut session, mut device) = session();
    let slot = Arc::clone(&session.slot);
    let mut run = pin!(session.run());
    // Time passes for the session only while it is polled.
    let mut turn = async || {
        std::future::poll_fn(|cx| {
            assert!(run.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    };
    device.write_all(SUBSCRIBE).await.unwrap();
    turn().await;
    assert_eq!(read(&mut device).await, SUBACK, "it is awaited, and goes at once");

    device.write_all(PUBLISH_7).await.unwrap();
    turn().await;
    assert_eq!(read(&mut device).await, b"");
    slot.outbox
        .push(DownLane::Command, Bytes::from_static(b"y"))
        .expect("room");
    turn().await;
    assert_eq!(read(&mut device).await, [ANSWER, PUBACK_7].concat());

    device.write_all(PUBLISH_7).await.unwrap();
    let mut alone = [0; 4];
    tokio::select! {
        reason = &mut run => panic!("it ended: {reason:?}"),
        read = device.read_exact(&mut alone) => read.map(drop).unwrap(),
    }
    assert_eq!(alone, PUBACK_7);
}
