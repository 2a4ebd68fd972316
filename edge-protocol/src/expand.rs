//! `$(VAR)` references in commands, arguments and environment values.
//!
//! The rule is `Expand` of `third_party/forked/golang/expansion/expand.go` in Kubernetes 1.37, its table of cases is the test:
//! `$(NAME)` becomes the value of a known variable and stays as it is for an unknown one, `$$` becomes `$`, and everything
//! else, an unclosed reference too, is text. Values that are put in are not expanded again.

use std::collections::BTreeMap;

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

/// A container's variables in declaration order, each expanded with those declared before it.
///
/// A name that is declared twice keeps its first place and gets the last value, which may refer to the first
/// (`makeEnvironmentVariables` of `pkg/kubelet/kubelet_pods.go`).
#[derive(Debug, Clone, Default)]
pub struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    /// Expands `declared`, names and unexpanded values, in this order.
    pub fn resolve<'a>(declared: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in declared {
            let value = environment.expand(value);
            if environment.values.insert(name.to_owned(), value).is_none() {
                environment.order.push(name.to_owned());
            }
        }
        environment
    }

    /// Expands a command, an argument or a further value.
    pub fn expand(&self, input: &str) -> String {
        expand(input, |name| self.values.get(name).map(String::as_str))
    }

    /// The variables as a manifest lists them.
    pub fn into_vars(mut self) -> Vec<EnvVar> {
        let value = |name: &String| self.values.remove(name).unwrap_or_default();
        let values: Vec<String> = self.order.iter().map(value).collect();
        self.order
            .into_iter()
            .zip(values)
            .map(|(name, value)| EnvVar::literal(name, value))
            .collect()
    }
}

#[cfg(test)]
mod tests;
