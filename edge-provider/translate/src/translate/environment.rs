//! A container's variables, and the command and arguments that may refer to them.

use std::cell::Cell;

use edge_protocol::expand::{Environment, expand};
use edge_protocol::v1::{ContainerSpec, EnvFrom, EnvVar, ObjectKind, ValueFrom};
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource};

use super::field::{Place, pod_field, resource_field};
use crate::refusal::{Path, Refusal};

/// What of a container is made of variables.
pub(super) struct Variables {
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<EnvVar>,
    pub(super) env_from: Vec<EnvFrom>,
    pub(super) expand: bool,
}

/// Whether a container has variables of services, whose names are known on the device only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Services {
    Absent,
    Present,
}

/// Literal values are expanded here where that gives what the device would get. `None` only together with a new refusal.
pub(super) fn variables(
    container: &Container,
    services: Services,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Variables> {
    let at = path.field("env");
    let declared = container.env.iter().flatten().enumerate();
    let env: Vec<_> = declared
        .map(|(index, var)| {
            let value = var.value.clone().unwrap_or_default();
            let from = match &var.value_from {
                // A value that is there wins (`makeEnvironmentVariables` of `pkg/kubelet/kubelet_pods.go`).
                Some(source) if value.is_empty() => Some(value_from(
                    source,
                    &container.name,
                    &at.index(index).field("valueFrom"),
                    refused,
                )?),
                _ => None,
            };
            Some(EnvVar {
                name: var.name.clone(),
                value,
                from,
            })
        })
        .collect();
    let at = path.field("envFrom");
    let sources = container.env_from.iter().flatten().enumerate();
    let env_from: Vec<_> = sources
        .map(|(index, source)| env_from(source, &at.index(index), refused))
        .collect();
    let declared = Variables {
        command: container.command.clone().unwrap_or_default(),
        args: container.args.clone().unwrap_or_default(),
        env: env.into_iter().collect::<Option<_>>()?,
        env_from: env_from.into_iter().collect::<Option<_>>()?,
        expand: true,
    };
    Some(settle(declared, services))
}

/// Expands everything, unless some variable is known only on the device.
fn settle(declared: Variables, services: Services) -> Variables {
    let literal = declared.env_from.is_empty() && declared.env.iter().all(|var| var.from.is_none());
    if !literal || (services == Services::Present && refers_beyond(&declared)) {
        return declared;
    }
    let pairs = declared
        .env
        .iter()
        .map(|var| (var.name.as_str(), var.value.as_str()));
    let environment = Environment::resolve(pairs);
    let expand = |texts: &[String]| texts.iter().map(|text| environment.expand(text)).collect();
    Variables {
        command: expand(&declared.command),
        args: expand(&declared.args),
        env: environment.into_vars(),
        env_from: Vec::new(),
        expand: false,
    }
}

/// Whether any text refers to a variable that is not declared before it.
fn refers_beyond(declared: &Variables) -> bool {
    let missed = Cell::new(false);
    for (index, var) in declared.env.iter().enumerate() {
        look(&var.value, &declared.env[..index], &missed);
    }
    for text in declared.command.iter().chain(&declared.args) {
        look(text, &declared.env, &missed);
    }
    missed.get()
}

fn look(text: &str, known: &[EnvVar], missed: &Cell<bool>) {
    expand(text, |name| {
        let found = known.iter().any(|var| var.name == name);
        missed.set(missed.get() || !found);
        found.then_some("")
    });
}

fn value_from(
    source: &EnvVarSource,
    container: &str,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<ValueFrom> {
    if let Some(field) = &source.field_ref {
        let field = pod_field(field, Place::Variable, &path.field("fieldRef"), refused)?;
        return Some(ValueFrom::Field { field });
    }
    if let Some(resource) = &source.resource_field_ref {
        let at = path.field("resourceFieldRef");
        return resource_field(resource, Some(container), &at, refused).map(ValueFrom::Resource);
    }
    let of_map = source.config_map_key_ref.as_ref();
    let of_map = of_map.map(|map| (ObjectKind::ConfigMap, &map.name, &map.key, map.optional));
    let of_secret = source.secret_key_ref.as_ref();
    let of_secret = of_secret.map(|secret| (ObjectKind::Secret, &secret.name, &secret.key, secret.optional));
    let Some((object, name, key, optional)) = of_map.or(of_secret) else {
        // A key of a file is refused by its line.
        if source.file_key_ref.is_none() {
            refused.push(path.refuse("names no source that is known"));
        }
        return None;
    };
    Some(ValueFrom::Object {
        object,
        name: name.clone(),
        key: key.clone(),
        optional: optional.unwrap_or_default(),
    })
}

/// Whether the container has variables from secrets.
pub(super) fn has_secrets(container: &ContainerSpec) -> bool {
    let is_secret = |variable: &EnvVar| matches!(&variable.from, Some(ValueFrom::Object { object, .. }) if *object == ObjectKind::Secret);
    let mut whole = container.env_from.iter();
    whole.any(|from| from.object == ObjectKind::Secret) || container.env.iter().any(is_secret)
}

fn env_from(source: &EnvFromSource, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<EnvFrom> {
    let of_map = source.config_map_ref.as_ref();
    let of_map = of_map.map(|map| (ObjectKind::ConfigMap, &map.name, map.optional));
    let of_secret = source.secret_ref.as_ref();
    let of_secret = of_secret.map(|secret| (ObjectKind::Secret, &secret.name, secret.optional));
    let Some((object, name, optional)) = of_map.or(of_secret) else {
        refused.push(path.refuse("names no source that is known"));
        return None;
    };
    Some(EnvFrom {
        prefix: source.prefix.clone().unwrap_or_default(),
        object,
        name: name.clone(),
        optional: optional.unwrap_or_default(),
    })
}
