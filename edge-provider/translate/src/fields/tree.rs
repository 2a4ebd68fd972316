//! The tables as a tree, and the walk of a pod's raw JSON along it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Class, Expected, rules};
use crate::api_access::ApiAccess;
use crate::refusal::{Path, Refusal, quoted};

const ELEMENT: &str = "[]";
const ANY_KEY: &str = "*";

static TREE: LazyLock<Node> = LazyLock::new(Node::from_rules);

#[derive(Default)]
struct Node {
    class: Option<Class>,
    children: BTreeMap<&'static str, Node>,
}

impl Node {
    fn from_rules() -> Self {
        let mut root = Self::default();
        for rule in rules() {
            let node =
                segments(rule.path).fold(&mut root, |node, name| node.children.entry(name).or_default());
            node.class = Some(rule.class);
        }
        root
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

pub(super) fn walk(spec: &Value, access: &ApiAccess<'_>) -> Vec<Refusal> {
    let mut walk = Walk {
        access,
        found: Vec::new(),
    };
    walk.node(
        &TREE,
        Position {
            value: spec,
            parent: None,
        },
        &Path::root("spec"),
    );
    walk.found
}

/// A value and the object it stands in; the API access volume is known by its neighbours.
#[derive(Clone, Copy)]
struct Position<'a> {
    value: &'a Value,
    parent: Option<&'a Map<String, Value>>,
}

struct Walk<'a> {
    access: &'a ApiAccess<'a>,
    found: Vec<Refusal>,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, at: Position<'_>, path: &Path<'_>) {
        if at.value.is_null() {
            return;
        }
        if let Some(class) = node.class {
            self.found
                .extend(self.judge(class, at).map(|reason| path.refuse(reason)));
            return;
        }
        match (at.value, node.children.get(ELEMENT)) {
            (Value::Array(items), Some(element)) => {
                for (index, value) in items.iter().enumerate() {
                    self.node(element, Position { value, parent: None }, &path.index(index));
                }
            }
            (Value::Object(fields), None) => self.object(node, fields, path),
            // The API server lets no such thing through; a file read by a tool may hold it.
            _ => self.found.push(path.refuse("has the wrong type")),
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
                Some(child) => self.node(
                    child,
                    Position {
                        value,
                        parent: Some(fields),
                    },
                    &below,
                ),
                None => self
                    .found
                    .push(below.refuse("this release does not know the field")),
            }
        }
    }

    /// Why the value is refused, or nothing when it passes.
    fn judge(&self, class: Class, at: Position<'_>) -> Option<String> {
        match class {
            Class::Honoured | Class::SchedulerOnly => None,
            Class::DefaultOnly(expected) => self.expect(expected, at),
            Class::Refused(reason) => (!says_nothing(at.value)).then(|| reason.to_owned()),
        }
    }

    fn expect(&self, expected: Expected, at: Position<'_>) -> Option<String> {
        match expected {
            Expected::Flag(flag) => {
                (*at.value != Value::Bool(flag)).then(|| format!("only {flag} is supported"))
            }
            Expected::Text(texts) => {
                let fits = at
                    .value
                    .as_str()
                    .is_some_and(|text| text.is_empty() || texts.contains(&text));
                (!fits).then(|| format!("only {} is supported", quoted(&texts.join(" or "))))
            }
            Expected::ApiAccessSource => {
                let fits = at.parent.is_some_and(|volume| self.access.is_volume(volume));
                (!fits).then(|| "of volumes only the API server's own access volume passes".to_owned())
            }
            Expected::ApiAccessMount => {
                let fits = self.access.is_mount(at.value);
                (!fits).then(|| "volumes cannot be mounted on a fleet".to_owned())
            }
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
