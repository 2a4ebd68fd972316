//! Bodies: whole ones, those that pass, and those of watches, which are cut or silenced on the way.

use bytes::{Bytes, BytesMut};
use futures_util::stream::unfold;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;

use crate::ledger::{Claim, Place};
use crate::rule::{Dialect, Then};

/// The longest event that is taken apart; objects in etcd have at most 1.5 MiB.
const MAX_EVENT: usize = 8 << 20;

pub(crate) type Body = UnsyncBoxBody<Bytes, Broken>;

/// Why a body does not reach its end; the client sees a broken connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the watch is cut")]
    Cut,
    #[error("the upstream broke off")]
    Upstream(#[source] hyper::Error),
    #[error("an event is longer than {MAX_EVENT} bytes")]
    LongEvent,
}

pub(crate) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn passed(body: Incoming) -> Body {
    body.map_err(Broken::Upstream).boxed_unsync()
}

/// The body of a watch: passes frame by frame until its place is cut or its fate is met.
pub(crate) fn watched(body: Incoming, place: Place, fate: Fate) -> Body {
    let tap = Tap {
        body,
        place,
        fate,
        events: BytesMut::new(),
    };
    let frames = unfold(Some(tap), |tap| async move {
        let mut tap = tap?;
        match tap.next().await {
            None => None,
            Some(Ok(frame)) => Some((Ok(frame), Some(tap))),
            Some(Err(broken)) => Some((Err(broken), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// What becomes of a watch if nobody cuts it meanwhile.
pub(crate) enum Fate {
    Pass,
    CutAfter {
        left: u64,
        claim: Option<Claim>,
    },
    UntilBookmark {
        dialect: Dialect,
        then: Then,
        claim: Option<Claim>,
    },
    Silenced,
}

struct Tap {
    body: Incoming,
    place: Place,
    fate: Fate,
    /// Of a watch that is to miss its bookmarks: what came and is no whole event yet.
    events: BytesMut,
}

impl Tap {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Broken>> {
        tokio::select! {
            biased;
            () = self.place.cut() => Some(Err(cut().await)),
            frame = follow(&mut self.body, &mut self.fate, &mut self.events) => frame,
        }
    }
}

async fn follow(
    body: &mut Incoming,
    fate: &mut Fate,
    events: &mut BytesMut,
) -> Option<Result<Frame<Bytes>, Broken>> {
    match fate {
        Fate::Pass => next_frame(body).await,
        Fate::Silenced => std::future::pending().await,
        Fate::CutAfter { left, claim } => {
            if *left == 0 {
                let broken = cut().await;
                claim.take().into_iter().for_each(Claim::served);
                return Some(Err(broken));
            }
            let frame = match next_frame(body).await?.map(Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(trailers)) => return Some(Ok(trailers)),
                Err(broken) => return Some(Err(broken)),
            };
            let most = usize::try_from(*left).unwrap_or(usize::MAX).min(frame.len());
            *left -= most as u64;
            Some(Ok(Frame::data(frame.slice(..most))))
        }
        Fate::UntilBookmark { dialect, then, claim } => {
            let event = match next_event(body, *dialect, events).await? {
                Ok(event) => event,
                Err(broken) => return Some(Err(broken)),
            };
            if !is_bookmark(*dialect, &event) {
                return Some(Ok(Frame::data(event)));
            }
            claim.take().into_iter().for_each(Claim::served);
            match then {
                Then::End => None,
                Then::Silence => {
                    *fate = Fate::Silenced;
                    std::future::pending().await
                }
            }
        }
    }
}

async fn next_frame(body: &mut Incoming) -> Option<Result<Frame<Bytes>, Broken>> {
    Some(body.frame().await?.map_err(Broken::Upstream))
}

/// The next whole event with its end mark. What stays without one at the end of the body is dropped, as every client does.
async fn next_event(
    body: &mut Incoming,
    dialect: Dialect,
    events: &mut BytesMut,
) -> Option<Result<Bytes, Broken>> {
    loop {
        if let Some(event) = split(dialect, events) {
            return Some(Ok(event));
        }
        match next_frame(body).await?.map(Frame::into_data) {
            Ok(Ok(data)) if events.len() + data.len() > MAX_EVENT => return Some(Err(Broken::LongEvent)),
            Ok(Ok(data)) => events.extend_from_slice(&data),
            Ok(Err(_trailers)) => {}
            Err(broken) => return Some(Err(broken)),
        }
    }
}

/// Takes the first whole event off: a line of Kubernetes, a block of server-sent events.
fn split(dialect: Dialect, events: &mut BytesMut) -> Option<Bytes> {
    let mark: &[u8] = match dialect {
        Dialect::Kubernetes => b"\n",
        Dialect::Hub => b"\n\n",
    };
    let at = events.windows(mark.len()).position(|window| window == mark)?;
    Some(events.split_to(at + mark.len()).freeze())
}

fn is_bookmark(dialect: Dialect, event: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Line {
        r#type: String,
    }
    #[derive(Deserialize)]
    struct Data {
        change: Change,
    }
    #[derive(Deserialize)]
    struct Change {
        kind: String,
    }
    match dialect {
        Dialect::Kubernetes => {
            serde_json::from_slice::<Line>(event).is_ok_and(|line| line.r#type == "BOOKMARK")
        }
        Dialect::Hub => event
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.strip_prefix(b"data:"))
            .any(|data| {
                serde_json::from_slice::<Data>(data).is_ok_and(|data| data.change.kind == "bookmark")
            }),
    }
}

/// Breaking off at once would take bytes along that are still in hyper's buffer: it flushes when a body has nothing to give.
async fn cut() -> Broken {
    tokio::task::yield_now().await;
    Broken::Cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_split_at_their_end_marks() {
        let check = |dialect, given: &str, expect: &[&str], rest: &str| {
            let mut events = BytesMut::from(given);
            let found: Vec<Bytes> = std::iter::from_fn(|| split(dialect, &mut events)).collect();
            assert_eq!(found, expect, "{given:?}");
            assert_eq!(events, rest, "{given:?}");
        };
        check(
            Dialect::Kubernetes,
            "{}\n{\"a\":1}\n{",
            &["{}\n", "{\"a\":1}\n"],
            "{",
        );
        check(
            Dialect::Hub,
            "id: 1\ndata: x\n\nid: 2\n",
            &["id: 1\ndata: x\n\n"],
            "id: 2\n",
        );
        check(Dialect::Hub, "", &[], "");
    }

    #[test]
    fn bookmarks_are_known_by_their_type_alone() {
        let check = |dialect, given: &str, expect: bool| {
            assert_eq!(is_bookmark(dialect, given.as_bytes()), expect, "{given}");
        };
        check(
            Dialect::Kubernetes,
            "{\"type\":\"BOOKMARK\",\"object\":{}}\n",
            true,
        );
        check(
            Dialect::Kubernetes,
            "{\"type\":\"ADDED\",\"object\":{\"type\":\"BOOKMARK\"}}\n",
            false,
        );
        check(Dialect::Kubernetes, "BOOKMARK\n", false);
        check(
            Dialect::Hub,
            "id: 4\ndata: {\"revision\":4,\"change\":{\"kind\":\"bookmark\"}}\n\n",
            true,
        );
        check(
            Dialect::Hub,
            "id: 4\ndata: {\"revision\":4,\"change\":{\"kind\":\"resync\"}}\n\n",
            false,
        );
        check(Dialect::Hub, ": bookmark\n\n", false);
    }
}
