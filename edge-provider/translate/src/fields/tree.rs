//! The tables as a tree, and the walk of a pod's raw JSON along it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Class, Expected, Rule, rules};
use crate::api_access::ApiAccess;
use crate::node::NodeKind;
use crate::refusal::{Path, Refusal, quoted};

const ELEMENT: &str = "[]";
const ANY_KEY: &str = "*";

static TREE: LazyLock<Node> = LazyLock::new(Node::from_rules);

#[derive(Default)]
struct Node {
    rule: Option<&'static Rule>,
    children: BTreeMap<&'static str, Node>,
    /// What of the API server's own access stands here, which a fleet passes over.
    access: Option<Access>,
}

#[derive(Clone, Copy)]
enum Access {
    Volume,
    Mount,
}

const ACCESS: [(&str, Access); 3] = [
    ("volumes[]", Access::Volume),
    ("containers[].volumeMounts[]", Access::Mount),
    ("initContainers[].volumeMounts[]", Access::Mount),
];

impl Node {
    fn from_rules() -> Self {
        let mut root = Self::default();
        for rule in rules() {
            root.at(&rule.path).rule = Some(rule);
        }
        for (path, access) in ACCESS {
            root.at(path).access = Some(access);
        }
        root
    }

    fn at(&mut self, path: &'static str) -> &mut Self {
        segments(path).fold(self, |node, name| node.children.entry(name).or_default())
    }

    /// A map's keys are data, an object's are field names: messages show them differently.
    fn is_map(&self) -> bool {
        self.children.contains_key(ANY_KEY)
    }
}

/// `containers[].ports[].name` → `containers`, `[]`, `ports`, `[]`, `name`.
fn segments(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('.').flat_map(|part| match part.strip_suffix(ELEMENT) {
        Some(field) => [Some(field), Some(ELEMENT)].into_iter().flatten(),
        None => [Some(part), None].into_iter().flatten(),
    })
}

pub(super) fn walk(spec: &Value, kind: NodeKind, access: &ApiAccess<'_>) -> Vec<Refusal> {
    let mut walk = Walk {
        kind,
        access,
        found: Vec::new(),
    };
    walk.node(&TREE, spec, &Path::root("spec"));
    walk.found
}

struct Walk<'a> {
    kind: NodeKind,
    access: &'a ApiAccess<'a>,
    found: Vec<Refusal>,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, value: &Value, path: &Path<'_>) {
        if value.is_null() || self.is_withheld(node.access, value) {
            return;
        }
        if let Some(rule) = node.rule {
            let reason = judge(rule.class(self.kind), value);
            self.found.extend(reason.map(|reason| path.refuse(reason)));
            return;
        }
        match (value, node.children.get(ELEMENT)) {
            (Value::Array(items), Some(element)) => {
                for (index, value) in items.iter().enumerate() {
                    self.node(element, value, &path.index(index));
                }
            }
            (Value::Object(fields), None) => self.object(node, fields, path),
            // The API server lets no such thing through; a file read by a tool may hold it.
            _ => self.found.push(path.refuse("has the wrong type")),
        }
    }

    fn is_withheld(&self, access: Option<Access>, value: &Value) -> bool {
        self.kind == NodeKind::Fleet
            && match access {
                None => false,
                Some(Access::Mount) => self.access.is_mount(value),
                Some(Access::Volume) => value
                    .as_object()
                    .is_some_and(|volume| self.access.is_volume(volume)),
            }
    }

    fn object(&mut self, node: &Node, fields: &Map<String, Value>, path: &Path<'_>) {
        for (name, value) in fields {
            let below = if node.is_map() {
                path.key(name)
            } else {
                path.field(name)
            };
            match node
                .children
                .get(name.as_str())
                .or_else(|| node.children.get(ANY_KEY))
            {
                Some(child) => self.node(child, value, &below),
                None => self
                    .found
                    .push(below.refuse("this release does not know the field")),
            }
        }
    }
}

/// Why the value is refused, or nothing when it passes.
fn judge(class: Class, value: &Value) -> Option<String> {
    match class {
        Class::Honoured | Class::StatusOnly | Class::SchedulerOnly => None,
        Class::DefaultOnly(expected) => expect(expected, value),
        Class::Refused(reason) => (!says_nothing(value)).then(|| reason.to_owned()),
    }
}

fn expect(expected: Expected, value: &Value) -> Option<String> {
    match expected {
        Expected::Flag(flag) => (*value != Value::Bool(flag)).then(|| format!("only {flag} is supported")),
        Expected::Text(texts) => {
            let fits = value
                .as_str()
                .is_some_and(|text| text.is_empty() || texts.contains(&text));
            (!fits).then(|| format!("only {} is supported", quoted(&texts.join(" or "))))
        }
    }
}

/// Empty texts and lists are how a client writes "not set". An empty object is not: `emptyDir: {}` asks for something.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
