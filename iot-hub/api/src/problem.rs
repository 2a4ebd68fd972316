//! Refusals as RFC 9457 problem documents, `application/problem+json`.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! problem_codes {
    ($($(#[$doc:meta])* $name:ident => $status:literal, $uri:literal, $title:literal;)+) => {
        /// Every reason the hub refuses for: a closed set, written as a URN in a problem's `type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        pub enum ProblemCode {
            $($(#[$doc])* #[serde(rename = $uri)] $name,)+
            /// A code of a newer hub; the status says the class.
            #[serde(other, rename = "urn:outrigger:problem:unknown")]
            Unknown,
        }

        impl ProblemCode {
            /// Every code that this build may send.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code as a URN.
            pub fn uri(self) -> &'static str {
                match self {
                    $(Self::$name => $uri,)+
                    Self::Unknown => "urn:outrigger:problem:unknown",
                }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)+
                    Self::Unknown => 500,
                }
            }

            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)+
                    Self::Unknown => "Refused for a reason this version does not know",
                }
            }
        }
    };
}

problem_codes! {
    BadRequest => 400, "urn:outrigger:problem:bad-request", "The request is not well formed";
    /// A target condition does not parse; `position` counts characters from 1.
    BadCondition => 422, "urn:outrigger:problem:bad-condition", "The target condition is not valid";
    BadManifest => 422, "urn:outrigger:problem:bad-manifest", "The manifest is not valid";
    /// An object that the manifest names did not come along, or is not what it is said to be.
    BadObject => 422, "urn:outrigger:problem:bad-object", "An object of the deployment is not valid";
    BadKeyWrap => 422, "urn:outrigger:problem:bad-key-wrap", "The wrap of a content key is not valid";
    BadTags => 422, "urn:outrigger:problem:bad-tags", "The tags are not valid";
    BadValue => 422, "urn:outrigger:problem:bad-value", "A value is out of its range";
    Unauthenticated => 401, "urn:outrigger:problem:unauthenticated", "The request carries no valid token";
    Forbidden => 403, "urn:outrigger:problem:forbidden", "The principal may not do this";
    NotYours => 403, "urn:outrigger:problem:not-yours", "The deployment belongs to another source";
    NotFound => 404, "urn:outrigger:problem:not-found", "There is no such resource";
    NoSuchDevice => 404, "urn:outrigger:problem:no-such-device", "There is no such device";
    NoSuchDeployment => 404, "urn:outrigger:problem:no-such-deployment", "There is no such deployment";
    NoSuchBlob => 404, "urn:outrigger:problem:no-such-blob", "No assignment of this device names such a blob";
    MethodNotAllowed => 405, "urn:outrigger:problem:method-not-allowed", "The resource does not know this method";
    DeviceIdTaken => 409, "urn:outrigger:problem:device-id-taken", "The device id is taken";
    NotDecommissioned => 409, "urn:outrigger:problem:not-decommissioned", "The device is not decommissioned";
    EnrolmentSuperseded => 409, "urn:outrigger:problem:enrolment-superseded", "Another enrolment of the device came first";
    BeingDeleted => 409, "urn:outrigger:problem:being-deleted", "The deployment is being deleted";
    DeviceNotConnected => 409, "urn:outrigger:problem:device-not-connected", "The device is not connected";
    /// Its agent is too old for it, or its owner switched it off.
    DeviceLacksAbility => 409, "urn:outrigger:problem:device-lacks-ability", "The device cannot do this";
    LimitReached => 409, "urn:outrigger:problem:limit-reached", "A limit of the hub is reached";
    TooLarge => 413, "urn:outrigger:problem:too-large", "The body is too large";
    UnsupportedMediaType => 415, "urn:outrigger:problem:unsupported-media-type", "The body must be application/json";
    RangeNotSatisfiable => 416, "urn:outrigger:problem:range-not-satisfiable", "The range lies outside the blob";
    /// One answer for a wrong id, a wrong secret, an expired and a used-up token: it tells a guesser nothing.
    EnrolmentRefused => 403, "urn:outrigger:problem:enrolment-refused", "The enrolment token is not valid";
    BadCsr => 422, "urn:outrigger:problem:bad-csr", "The certificate request is not valid";
    /// No identity key vouches for it, or not for this enrolment.
    BadSealingKey => 422, "urn:outrigger:problem:bad-sealing-key", "The sealing key is not valid";
    SealingKeyChanged => 409, "urn:outrigger:problem:sealing-key-changed", "The device enrolled with another sealing key";
    TooManyRequests => 429, "urn:outrigger:problem:too-many-requests", "Too many requests";
    DeviceNotAnswered => 504, "urn:outrigger:problem:device-not-answered", "The device did not answer in time";
    Internal => 500, "urn:outrigger:problem:internal", "The hub failed";
    Unavailable => 503, "urn:outrigger:problem:unavailable", "The hub cannot answer now";
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri().trim_start_matches("urn:outrigger:problem:"))
    }
}

/// A refusal. Nothing was changed by the request that it answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, ToSchema)]
#[error("{code}: {detail}")]
pub struct Problem {
    #[serde(rename = "type")]
    pub code: ProblemCode,
    pub title: String,
    pub status: u16,
    /// What is wrong with this very request, for a person.
    pub detail: String,
    /// The field at fault, as a path into the body: `target.condition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where in that field, in characters from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

impl Problem {
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            field: None,
            position: None,
        }
    }

    #[must_use]
    pub fn at_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    #[must_use]
    pub fn at_position(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }
}

#[cfg(test)]
mod tests;
