//! What may be told: the JSON documents of the control endpoint.

use serde::{Deserialize, Serialize};

/// Whose forms of lists, errors and watch events the invented answers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// `Status` objects, `…List` objects, watch events as lines of JSON.
    Kubernetes,
    /// RFC 9457 problems, lists with a `revision`, server-sent events.
    Hub,
}

/// A lie and the requests that it is about. Of several that match, the one told last is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Such as `GET`; absent means every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What the path begins with. The query does not count.
    pub prefix: String,
    #[serde(default)]
    pub requests: Requests,
    pub lie: Lie,
    /// How often it is served; absent means for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// A watch has `watch=true` in its query or accepts `text/event-stream`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requests {
    #[default]
    Any,
    Watches,
    /// All that are no watches.
    Plain,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Lie {
    /// The truth: shields a part of what another rule lies about.
    Pass,
    /// The upstream's own list with nothing in it and no further page. Answers that are no lists pass, uncounted, as do watches.
    EmptyList {
        /// The resource version or revision to claim; absent keeps the upstream's, which is fresh.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
    },
    /// Refused with this code (400 to 599) in the form that the upstream uses; 410 has the reason `Expired`.
    Status { code: u16 },
    /// The version asked for is gone: to a watch as its one event (`ERROR` with a 410, or a resync), to others as status 410.
    Expired,
    /// Watches only. Those that are open are cut at once, and each further one after this many bytes of its body.
    Cut {
        #[serde(default)]
        after_bytes: u64,
    },
    /// Watches only. All events before the first bookmark pass; the bookmark and what follows never come.
    NoBookmark { then: Then },
    /// The truth, later.
    Delay { millis: u64 },
    /// The connection is reset instead of an answer.
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The connection stays open and silent.
    Silence,
    /// The response ends in good order.
    End,
}

/// A rule with what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub id: u64,
    #[serde(flatten)]
    pub rule: Rule,
    /// How often a client got the lie instead of the truth. Still readable after the lie was withdrawn.
    pub served: u64,
    pub withdrawn: bool,
}

/// All that was told since the start, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Requests seen, lied to or not.
    pub requests: u64,
    /// Watches that are open now.
    pub watches: u64,
    pub lies: Vec<Told>,
}

/// Cuts the open watches whose path begins so. No lie, and not counted: it makes clients ask anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interrupt {
    pub prefix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// How many watches were cut.
    pub watches: u64,
}

impl Rule {
    /// A lie about every request whose path begins with `prefix`, for ever.
    pub fn new(prefix: impl Into<String>, lie: Lie) -> Self {
        Self {
            method: None,
            prefix: prefix.into(),
            requests: Requests::Any,
            lie,
            count: None,
        }
    }

    #[must_use]
    pub fn method(self, method: impl Into<String>) -> Self {
        Self {
            method: Some(method.into()),
            ..self
        }
    }

    #[must_use]
    pub fn requests(self, requests: Requests) -> Self {
        Self { requests, ..self }
    }

    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self {
            count: Some(count),
            ..self
        }
    }

    /// Why this rule cannot be told.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        match self.lie {
            _ if !self.prefix.starts_with('/') => Some("prefix: a path begins with '/'"),
            _ if self.prefix.len() > 1024 => Some("prefix: at most 1024 bytes"),
            Lie::Status { code } if !(400..=599).contains(&code) => Some("code: 400 to 599 are refusals"),
            Lie::Delay { millis } if millis > 600_000 => Some("millis: at most ten minutes"),
            _ => None,
        }
    }
}
