//! `/containerLogs`: a log as it comes, each piece written at once.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::StatusCode;

use super::{Asked, refused};
use crate::answer::{self, Answer};
use crate::log_options::{LogOptions, LogOptionsError};
use crate::pods;
use crate::provider::{ContainerTarget, StreamsError};
use crate::route::ContainerPath;

/// Checks and words are those of `getContainerLogs`.
pub(super) async fn answer(asked: &Asked<'_>, path: &ContainerPath) -> Answer {
    let options = match LogOptions::read(&asked.query) {
        Ok(options) => options,
        Err(error) => {
            let status = match error {
                LogOptionsError::Undecodable => StatusCode::BAD_REQUEST,
                LogOptionsError::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            };
            return answer::text(status, error.to_string());
        }
    };
    let name = &path.pod.name;
    let Some(pod) = asked.node.streams.pod(&path.pod.namespace, name) else {
        return answer::text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    };
    if pods::container(&pod, &path.container).is_none() {
        let words = format!("container {:?} not found in pod {name:?}", path.container);
        return answer::text(StatusCode::NOT_FOUND, words);
    }
    let place = match asked.place() {
        Ok(place) => place,
        Err(full) => return full.into(),
    };
    let target = ContainerTarget {
        pod: pods::target(&pod),
        container: path.container.clone(),
    };
    let log = asked.node.streams.logs(target, options, asked.who.clone());
    match log.await {
        Ok(log) => {
            let pieces = log.flat_map(move |piece| {
                // It goes with the answer's body, whether that is read to its end or dropped.
                let _held = &place;
                match piece {
                    Ok(bytes) => stream::iter([Ok(bytes)]).left_stream(),
                    Err(error) => cut(error).right_stream(),
                }
            });
            answer::stream(pieces.boxed())
        }
        Err(error @ (StreamsError::NotRunning { .. } | StreamsError::Failed { .. })) => answer::text(
            StatusCode::BAD_REQUEST,
            super::shortened(&error.to_string()).to_owned(),
        ),
        Err(error) => refused(&error).into(),
    }
}

/// The reader has got what came before: it is told why there is no more, and that it was cut.
fn cut(error: StreamsError) -> impl Stream<Item = io::Result<Bytes>> {
    let words = Bytes::from(super::shortened(&error.to_string()).to_owned());
    let end = async {
        // An error at once would overtake the words, which are written when nothing more is there.
        tokio::task::yield_now().await;
        Err(io::Error::other(error))
    };
    stream::iter([Ok(words)]).chain(stream::once(end))
}
