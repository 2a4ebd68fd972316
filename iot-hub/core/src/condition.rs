//! Target conditions: which devices a deployment is for, in the style of device queries in the Azure cloud.
//!
//! ```text
//! tags.site = 'hall-1' AND (NOT tags.env = 'dev' OR deviceId IN ['press-1', 'press-2'])
//! ```
//!
//! Terms are over `deviceId`, `group` and `tags.<key>` (or `tags['any key']`), which are *authoritative*: people and enrolment set them;
//! and over `facts.<name>`, which are *claims* of the device. `*` is every device. Operators: `=`, `!=` or `<>`, and with a number
//! `<`, `>`, `<=`, `>=`; `IN [..]` and `NOT IN [..]`; `is_defined(term)`; `STARTSWITH(term, 'prefix')`; `NOT`, `AND`, `OR`, binding in
//! this order, and parentheses. Keywords are case-insensitive; texts stand in single quotes, a quote inside is doubled.
//!
//! Logic is two-valued: a comparison with something absent is false, and `!=` and `NOT IN` are the negations of `=` and `IN`, so
//! they hold for what is absent. A number equals a tag whose text reads as that number.

mod eval;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

pub use eval::{Subject, Truth};

/// The longest condition, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// The deepest nesting of parentheses and `NOT`s.
pub const MAX_DEPTH: usize = 32;

/// A parsed condition. Its `Display` is its canonical text, which parses to the same condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    expr: Expr,
}

/// Why a text is no condition. `position` counts characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at character {position}")]
pub struct ConditionError {
    pub position: usize,
    pub expected: String,
}

/// Something of a device that a condition may ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attribute {
    DeviceId,
    Group,
    Tag(String),
    Fact(Fact),
}

macro_rules! facts {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// A claim of the device, by its name in [`Facts`](edge_protocol::v1::Facts).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fact {
            $($name),+
        }

        impl Fact {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text),+
                }
            }
        }
    };
}

facts! {
    Hostname = "hostname",
    Os = "os",
    Arch = "arch",
    KernelVersion = "kernel_version",
    OsImage = "os_image",
    RuntimeName = "runtime_name",
    RuntimeVersion = "runtime_version",
    CpuMilli = "cpu_milli",
    MemoryBytes = "memory_bytes",
    EphemeralStorageBytes = "ephemeral_storage_bytes",
    Pods = "pods",
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Text(String),
    /// Always finite.
    Number(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Eq,
    Ne,
    Lt,
    Gt,
    Le,
    Ge,
}

impl Comparison {
    fn text(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Gt => ">",
            Self::Le => "<=",
            Self::Ge => ">=",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Expr {
    Any,
    /// An ordering comparison has a number on its right.
    Compare(Attribute, Comparison, Literal),
    /// The list is not empty.
    In(Attribute, Vec<Literal>),
    NotIn(Attribute, Vec<Literal>),
    IsDefined(Attribute),
    StartsWith(Attribute, String),
    Not(Box<Expr>),
    /// Two or more.
    And(Vec<Expr>),
    /// Two or more.
    Or(Vec<Expr>),
}

/// A property that a device either has or has not; the index finds devices by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Device(String),
    Group(String),
    Tag(String, String),
}

impl Condition {
    /// What the condition reads.
    pub(crate) fn attributes(&self) -> BTreeSet<Attribute> {
        let mut found = BTreeSet::new();
        self.expr.collect_attributes(&mut found);
        found
    }

    /// Keys such that every device that matches has one of them; `None` when the condition cannot be narrowed that way.
    pub(crate) fn keys(&self) -> Option<Vec<Key>> {
        self.expr.keys()
    }
}

impl Attribute {
    /// Whether the hub's own records say it, not the device.
    pub(crate) fn is_authoritative(&self) -> bool {
        !matches!(self, Self::Fact(_))
    }

    fn key(&self, literal: &Literal) -> Option<Key> {
        let Literal::Text(text) = literal else {
            return None;
        };
        match self {
            Self::DeviceId => Some(Key::Device(text.clone())),
            Self::Group => Some(Key::Group(text.clone())),
            Self::Tag(tag) => Some(Key::Tag(tag.clone(), text.clone())),
            Self::Fact(_) => None,
        }
    }
}

impl Expr {
    fn collect_attributes(&self, found: &mut BTreeSet<Attribute>) {
        match self {
            Self::Any => {}
            Self::Compare(attribute, ..)
            | Self::In(attribute, _)
            | Self::NotIn(attribute, _)
            | Self::IsDefined(attribute)
            | Self::StartsWith(attribute, _) => {
                found.insert(attribute.clone());
            }
            Self::Not(inner) => inner.collect_attributes(found),
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.collect_attributes(found);
                }
            }
        }
    }

    fn keys(&self) -> Option<Vec<Key>> {
        match self {
            Self::Compare(attribute, Comparison::Eq, literal) => Some(vec![attribute.key(literal)?]),
            Self::In(attribute, list) => list.iter().map(|literal| attribute.key(literal)).collect(),
            Self::And(parts) => parts.iter().filter_map(Self::keys).min_by_key(Vec::len),
            Self::Or(parts) => {
                let all: Option<Vec<_>> = parts.iter().map(Self::keys).collect();
                Some(all?.into_iter().flatten().collect())
            }
            _ => None,
        }
    }

    /// Whether it needs parentheses as part of something tighter than itself.
    fn is_compound(&self) -> bool {
        matches!(self, Self::And(_) | Self::Or(_))
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    /// # Errors
    /// [`ConditionError`] with the first position that does not fit, and what would.
    fn from_str(text: &str) -> Result<Self, ConditionError> {
        parse::condition(text).map(|expr| Self { expr })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Compare(attribute, comparison, literal) => {
                write!(f, "{attribute} {} {literal}", comparison.text())
            }
            Self::In(attribute, list) => write!(f, "{attribute} IN {}", List(list)),
            Self::NotIn(attribute, list) => write!(f, "{attribute} NOT IN {}", List(list)),
            Self::IsDefined(attribute) => write!(f, "is_defined({attribute})"),
            Self::StartsWith(attribute, prefix) => write!(f, "STARTSWITH({attribute}, {})", Quoted(prefix)),
            Self::Not(inner) if inner.is_compound() => write!(f, "NOT ({inner})"),
            Self::Not(inner) => write!(f, "NOT {inner}"),
            Self::And(parts) => join(f, parts, " AND ", Expr::is_compound),
            Self::Or(parts) => join(f, parts, " OR ", |part| matches!(part, Self::Or(_))),
        }
    }
}

fn join(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expr],
    separator: &str,
    wrap: impl Fn(&Expr) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        if wrap(part) {
            write!(f, "({part})")?;
        } else {
            write!(f, "{part}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceId => f.write_str("deviceId"),
            Self::Group => f.write_str("group"),
            Self::Tag(tag) if parse::is_plain_key(tag) => write!(f, "tags.{tag}"),
            Self::Tag(tag) => write!(f, "tags[{}]", Quoted(tag)),
            Self::Fact(fact) => write!(f, "facts.{}", fact.name()),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => Quoted(text).fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

struct List<'a>(&'a [Literal]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, literal) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            literal.fmt(f)?;
        }
        f.write_str("]")
    }
}
