//! A command that runs elsewhere: what a client asks here is passed on, and what comes of it passed back.

use std::future::pending;

use tokio::io::{AsyncRead, AsyncWrite, BufReader, copy_buf};

use super::outcome::{Outcome, OutcomeError};
use super::resize::{ResizeSender, Resizes};
use super::{Command, Running};
use crate::error::ConnectionError;
use crate::limits::READ_CHUNK;

/// Why a client was not told how its command went.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    #[error("the client went before it was told the outcome")]
    ClientGone(#[source] ConnectionError),
    /// It was told so.
    #[error("where the command ran, no outcome was told")]
    Lost(#[source] OutcomeError),
}

/// Passes stdin, resizes, both outputs and the outcome of `command` from and to `running`, until the client has been told the outcome and
/// has gone. Returns what it was told. A client that goes before that ends `running`; a stream that one side does not have, or no longer
/// reads, is passed over.
///
/// `lost` is what the client is told when `running` goes without an outcome ("the link to the device was lost"); `kubectl` prints it
/// behind "Internal error occurred" and exits with 1. What came before is passed on first.
///
/// There is no time limit: take [`Ending::activity`](super::Ending::activity) and the like of the verdict before. No tasks are spawned, and
/// cancelling drops both sides.
///
/// # Errors
/// [`BridgeError`].
pub async fn bridge(command: Command, running: Running, lost: &str) -> Result<Outcome, BridgeError> {
    let Command {
        stdin,
        stdout,
        stderr,
        resizes,
        ending,
    } = command;
    let mut verdict = running.verdict;
    let mut gone = ending.gone();
    let inputs = async {
        tokio::join!(pass(stdin, running.stdin), pass_sizes(resizes, running.resize));
        pending().await
    };
    let outputs = async {
        let outputs = (pass(running.stdout, stdout), pass(running.stderr, stderr));
        tokio::join!(outputs.0, outputs.1, verdict.outcome()).2
    };
    let told: Result<Outcome, OutcomeError> = tokio::select! {
        told = outputs => told,
        told = inputs => told,
        reason = gone.wait() => return Err(BridgeError::ClientGone(reason)),
    };
    let (outcome, failed) = match told {
        Ok(outcome) => (outcome, None),
        Err(error) => (unknown(&error, lost), Some(error)),
    };
    let closing = async {
        // The other side is not waited for longer than the client.
        let _ = verdict.close().await;
        pending().await
    };
    let finished = tokio::select! {
        finished = ending.finish(&outcome) => finished,
        finished = closing => finished,
    };
    finished.map_err(BridgeError::ClientGone)?;
    match failed {
        None => Ok(outcome),
        Some(error) => Err(BridgeError::Lost(error)),
    }
}

/// What a client is told of a command whose outcome nobody knows.
fn unknown(error: &OutcomeError, lost: &str) -> Outcome {
    let message = match error {
        OutcomeError::Missing(_) => lost.to_owned(),
        other => other.to_string(),
    };
    Outcome::Failed { message }
}

/// Both ends are let go of when one is done: a writer's is the end of the bytes, a reader's lets the other side know where it can.
async fn pass<R, W>(from: Option<R>, to: Option<W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (Some(from), Some(mut to)) = (from, to) else {
        return;
    };
    if let Err(error) = copy_buf(&mut BufReader::with_capacity(READ_CHUNK, from), &mut to).await {
        tracing::debug!(%error, "a stream of a command ended early");
    }
}

async fn pass_sizes(from: Option<Resizes>, to: Option<ResizeSender>) {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return;
    };
    while let Some(size) = from.next().await {
        if let Err(error) = to.send(size).await {
            tracing::debug!(%error, "a terminal's size is not taken");
            return;
        }
    }
}
