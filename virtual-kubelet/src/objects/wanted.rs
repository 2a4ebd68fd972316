//! What a pod refers to, and what was found of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value;

use crate::cluster::stripped;

/// All that one pod refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodObjects {
    pub namespace: String,
    pub name: String,
    pub config_maps: BTreeSet<String>,
    /// Those for pulls too.
    pub secrets: BTreeSet<String>,
    pub claims: BTreeSet<String>,
    /// By whatever name the asker has for each.
    pub tokens: BTreeMap<String, TokenWanted>,
    /// Whether it gets variables of services.
    pub services: bool,
}

/// A token of the pod's service account, bound to the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenWanted {
    pub service_account: String,
    /// Absent means the API server's own.
    pub audience: Option<String>,
    pub expiration_s: u64,
}

/// What is known of something that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T> {
    /// Nothing yet; with the newest reason, once a try has failed.
    NotRead {
        why: Option<String>,
    },
    /// The API server says that there is none.
    Missing,
    Present(T),
}

impl<T> Read<T> {
    pub const UNREAD: Self = Self::NotRead { why: None };

    /// Why nothing is known yet, once a try has failed.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::NotRead { why } => why.as_deref(),
            Self::Missing | Self::Present(_) => None,
        }
    }

    /// What `take` makes of what is present; unread where it makes nothing.
    pub(super) fn and_then<U>(&self, take: impl FnOnce(&T) -> Option<U>) -> Read<U> {
        match self {
            Self::NotRead { why } => Read::NotRead { why: why.clone() },
            Self::Missing => Read::Missing,
            Self::Present(held) => take(held).map_or(Read::UNREAD, Read::Present),
        }
    }
}

/// An object as the API server sent it, less `managedFields`. Never shown: it may be a Secret.
#[derive(Clone, PartialEq)]
pub struct Raw(Arc<Value>);

impl Raw {
    pub(super) fn new(object: Value) -> Self {
        Self(Arc::new(stripped(object)))
    }
}

impl Deref for Raw {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw(…)")
    }
}

/// A claim, and the volume that it names once it is bound.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundClaim {
    pub claim: Raw,
    pub volume: Option<Raw>,
}

/// A service account's token. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    pub(super) fn new(token: &str) -> Self {
        Self(token.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Whether an object can have this name at all: a DNS subdomain, which fits into a path and a field selector as it is
/// (`NameIsDNSSubdomain` of `k8s.io/apimachinery/pkg/api/validation/generic.go`).
///
/// A pod may refer to a name that no object can have; such an object is missing without being asked for.
pub(super) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
