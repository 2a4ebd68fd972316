//! `$(VAR)` references in commands, arguments and environment values.
//!
//! The rule is `Expand` of `third_party/forked/golang/expansion/expand.go` in Kubernetes 1.37, its table of cases is the test:
//! `$(NAME)` becomes the value of a known variable and stays as it is for an unknown one, `$$` becomes `$`, and everything
//! else, an unclosed reference too, is text. Values that are put in are not expanded again.

use std::collections::BTreeMap;
use std::fmt;

use crate::v1::EnvVar;

/// Expands every reference in `input` with the variables that `lookup` knows.
pub fn expand<'v>(input: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some((text, tail)) = rest.split_once('$') {
        out.push_str(text);
        if let Some(escaped) = tail.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some((name, after)) = tail.strip_prefix('(').and_then(|open| open.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

/// A container's variables in declaration order, each expanded with those declared before it and with those beneath all of them.
///
/// A name that is declared twice keeps its first place and gets the last value, which may refer to the first
/// (`makeEnvironmentVariables` of `pkg/kubelet/kubelet_pods.go`).
#[derive(Clone, Default)]
pub struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
    beneath: BTreeMap<String, String>,
}

impl Environment {
    /// Begins above variables that every declaration wins over: those of services.
    pub fn above(beneath: BTreeMap<String, String>) -> Self {
        Self {
            beneath,
            ..Self::default()
        }
    }

    /// Expands `declared`, names and unexpanded values, in this order.
    pub fn resolve<'a>(declared: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in declared {
            environment.declare(name, value);
        }
        environment
    }

    /// Adds a variable whose value is expanded.
    pub fn declare(&mut self, name: &str, value: &str) {
        self.set(name, self.expand(value));
    }

    /// Adds a variable whose value is text.
    pub fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name).or_else(|| self.beneath.get(name));
        value.map(String::as_str)
    }

    /// Expands a command, an argument or a further value.
    pub fn expand(&self, input: &str) -> String {
        expand(input, |name| self.get(name))
    }

    /// All variables: the declared ones in their order, then those beneath that no declaration covers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let declared = self
            .order
            .iter()
            .filter_map(|name| Some((name.as_str(), self.values.get(name)?.as_str())));
        let beneath = self
            .beneath
            .iter()
            .filter(|(name, _)| !self.values.contains_key(*name));
        declared.chain(beneath.map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The variables as a manifest lists them.
    pub fn into_vars(self) -> Vec<EnvVar> {
        self.iter()
            .map(|(name, value)| EnvVar::literal(name, value))
            .collect()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // People put secrets there.
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests;
