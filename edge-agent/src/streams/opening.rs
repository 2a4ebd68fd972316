//! The device's first words on a stream.

use std::io;

use edge_protocol::text::sanitise;
use edge_protocol::v1::stream::MAX_OPENING;
use edge_protocol::v1::{StreamAnswer, StreamOpening, StreamRefusal, Ticket, VERSION};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// Why a stream is not to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: StreamRefusal,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(why: StreamRefusal, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { why, message }
    }
}

/// Says whether what was asked goes on. With a refusal it ends the stream's direction, too.
pub(super) async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    ticket: Ticket,
    refused: Option<&Refusal>,
) -> io::Result<()> {
    let answer = match refused {
        None => StreamAnswer::Begun,
        Some(Refusal { why, message }) => StreamAnswer::Refused {
            why: *why,
            message: sanitise(message),
        },
    };
    let opening = StreamOpening {
        v: VERSION,
        ticket,
        answer,
    };
    let json = serde_json::to_vec(&opening)?;
    let length = u32::try_from(json.len())
        .ok()
        .filter(|_| json.len() <= MAX_OPENING);
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    let mut words = length.to_be_bytes().to_vec();
    words.extend_from_slice(&json);
    stream.write_all(&words).await?;
    stream.flush().await?;
    if refused.is_some() {
        stream.shutdown().await?;
    }
    Ok(())
}
