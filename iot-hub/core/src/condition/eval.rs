//! A condition held against one device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use edge_protocol::DeviceId;
use edge_protocol::v1::Facts;

use super::{Attribute, Comparison, Condition, Expr, Fact, Literal};

/// What a condition sees of a device.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub id: &'a DeviceId,
    pub group: &'a str,
    pub tags: &'a BTreeMap<String, String>,
    /// Empty texts and zeroes are unknown, hence absent.
    pub facts: &'a Facts,
}

/// The value of a condition when claims are left open (Kleene's logic).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    False,
    /// The device's claims decide.
    Open,
    True,
}

impl Truth {
    fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Open => Self::Open,
            Self::True => Self::False,
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

impl Condition {
    /// Whether the device matches, its claims taken as they are.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.expr.eval(subject, Claims::Believed) == Truth::True
    }

    /// What authoritative terms alone say: `False` means that no claim could make the device match.
    pub fn authority(&self, subject: &Subject<'_>) -> Truth {
        self.expr.eval(subject, Claims::Open)
    }
}

#[derive(Clone, Copy)]
enum Claims {
    Believed,
    Open,
}

impl Expr {
    fn eval(&self, subject: &Subject<'_>, claims: Claims) -> Truth {
        let term = |attribute: &Attribute, holds: &dyn Fn(Option<Cow<'_, str>>) -> bool| {
            if matches!(claims, Claims::Open) && !attribute.is_authoritative() {
                Truth::Open
            } else {
                holds(value(attribute, subject)).into()
            }
        };
        match self {
            Self::Any => Truth::True,
            Self::Compare(attribute, comparison, literal) => term(attribute, &|value| {
                compare(value.as_deref(), *comparison, literal)
            }),
            Self::In(attribute, list) => term(attribute, &|value| contains(list, value.as_deref())),
            Self::NotIn(attribute, list) => term(attribute, &|value| !contains(list, value.as_deref())),
            Self::IsDefined(attribute) => term(attribute, &|value| value.is_some()),
            Self::StartsWith(attribute, prefix) => term(attribute, &|value| {
                value.is_some_and(|value| value.starts_with(prefix))
            }),
            Self::Not(inner) => inner.eval(subject, claims).not(),
            Self::And(parts) => fold(parts, Truth::False, |part| part.eval(subject, claims)),
            Self::Or(parts) => fold(parts, Truth::False, |part| part.eval(subject, claims).not()).not(),
        }
    }
}

/// The least of the parts, decided as soon as it is `floor`.
fn fold(parts: &[Expr], floor: Truth, eval: impl Fn(&Expr) -> Truth) -> Truth {
    let mut least = Truth::True;
    for part in parts {
        least = least.min(eval(part));
        if least == floor {
            break;
        }
    }
    least
}

fn contains(list: &[Literal], value: Option<&str>) -> bool {
    value.is_some_and(|value| list.iter().any(|literal| equals(value, literal)))
}

fn compare(value: Option<&str>, comparison: Comparison, literal: &Literal) -> bool {
    let ordered = |holds: fn(&f64, &f64) -> bool| match (value.and_then(as_number), literal) {
        (Some(left), Literal::Number(right)) => holds(&left, right),
        _ => false,
    };
    match comparison {
        Comparison::Eq => value.is_some_and(|value| equals(value, literal)),
        Comparison::Ne => !value.is_some_and(|value| equals(value, literal)),
        Comparison::Lt => ordered(f64::lt),
        Comparison::Gt => ordered(f64::gt),
        Comparison::Le => ordered(f64::le),
        Comparison::Ge => ordered(f64::ge),
    }
}

#[allow(
    clippy::float_cmp,
    reason = "both sides come from decimal texts, and whoever writes 1.5 means the tag that says 1.5"
)]
fn equals(value: &str, literal: &Literal) -> bool {
    match literal {
        Literal::Text(text) => value == text,
        Literal::Number(number) => as_number(value).is_some_and(|value| value == *number),
    }
}

/// Only plain decimals are numbers: `inf`, `nan` and exponents are texts.
fn as_number(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
    text.parse()
        .ok()
        .filter(|number: &f64| plain && number.is_finite())
}

fn value<'a>(attribute: &Attribute, subject: &Subject<'a>) -> Option<Cow<'a, str>> {
    match attribute {
        Attribute::DeviceId => Some(Cow::Borrowed(subject.id.as_str())),
        Attribute::Group => Some(Cow::Borrowed(subject.group)),
        Attribute::Tag(tag) => subject.tags.get(tag).map(|value| Cow::Borrowed(value.as_str())),
        Attribute::Fact(fact) => fact.value(subject.facts),
    }
}

impl Fact {
    /// What the device claims; `None` when it claims nothing.
    pub(crate) fn value(self, facts: &Facts) -> Option<Cow<'_, str>> {
        match self {
            Self::Hostname => stated(&facts.hostname),
            Self::Os => stated(&facts.os),
            Self::Arch => stated(&facts.arch),
            Self::KernelVersion => stated(&facts.kernel_version),
            Self::OsImage => stated(&facts.os_image),
            Self::RuntimeName => stated(&facts.runtime_name),
            Self::RuntimeVersion => stated(&facts.runtime_version),
            Self::CpuMilli => counted(facts.cpu_milli),
            Self::MemoryBytes => counted(facts.memory_bytes),
            Self::EphemeralStorageBytes => counted(facts.ephemeral_storage_bytes),
            Self::Pods => counted(facts.pods.into()),
        }
    }
}

fn stated(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

fn counted(number: u64) -> Option<Cow<'static, str>> {
    (number > 0).then(|| Cow::Owned(number.to_string()))
}
