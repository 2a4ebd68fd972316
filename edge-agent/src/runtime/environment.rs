//! A container's environment, made at each of its starts (`makeEnvironmentVariables` of `pkg/kubelet/kubelet_pods.go`).

use std::collections::BTreeMap;

use edge_protocol::expand::Environment;
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{ContainerSpec, EnvFrom, EnvVar, ObjectData, ObjectKind, ValueFrom};

use super::sources::{SourceError, Sources};

/// The one object of the variables of services.
const SERVICES: &str = "services";

/// Resolves all variables of a container, the later of one name over the earlier, `env` over `envFrom` over those of services. A name that
/// no environment can hold, which the API server lets nobody write, is left out.
///
/// # Errors
/// A mandatory object or key is missing, or an object cannot be opened yet.
pub fn resolve(container: &ContainerSpec, sources: &Sources) -> Result<Environment, SourceError> {
    let services = sources.listed(kind::SERVICES, SERVICES)?;
    let services = services.map_or_else(BTreeMap::new, |object| object.text);
    let mut resolving = Resolving(Environment::above(services));
    for from in &container.env_from {
        resolving.take_all(from, sources)?;
    }
    for variable in &container.env {
        resolving.take(variable, container.expand, sources)?;
    }
    Ok(resolving.0)
}

struct Resolving(Environment);

impl Resolving {
    fn take_all(&mut self, from: &EnvFrom, sources: &Sources) -> Result<(), SourceError> {
        let EnvFrom {
            prefix,
            object: kind,
            name,
            optional,
        } = from;
        let Some(object) = sources.object(*kind, name, *optional)? else {
            return Ok(());
        };
        for (key, value) in values(*kind, &object) {
            self.add(&format!("{prefix}{key}"), value);
        }
        Ok(())
    }

    fn take(&mut self, variable: &EnvVar, expand: bool, sources: &Sources) -> Result<(), SourceError> {
        let EnvVar { name, value, from } = variable;
        let value = match from {
            None if expand => self.0.expand(value),
            None => value.clone(),
            Some(ValueFrom::Field { field }) => sources.field(field),
            Some(ValueFrom::Resource(field)) => sources.resource(field)?,
            Some(ValueFrom::Object {
                object: kind,
                name,
                key,
                optional,
            }) => {
                let object = sources.object(*kind, name, *optional)?;
                let found = object.as_ref().and_then(|object| value_of(*kind, object, key));
                match found {
                    Some(value) => value,
                    None if *optional => return Ok(()),
                    None => {
                        return Err(SourceError::NoKey {
                            kind: *kind,
                            namespace: sources.manifest.namespace.clone(),
                            name: name.clone(),
                            key: key.clone(),
                        });
                    }
                }
            }
        };
        self.add(name, value);
        Ok(())
    }

    fn add(&mut self, name: &str, value: String) {
        if is_name(name) {
            self.0.set(name, value);
        }
    }
}

/// The kubelet takes every name that the API takes, which is any printable ASCII without `=` (`IsRelaxedEnvVarName`), and tells of none.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

/// What of an object may become variables: of a config map its `data` only.
fn values(kind: ObjectKind, object: &ObjectData) -> Vec<(&str, String)> {
    match kind {
        ObjectKind::ConfigMap => object
            .text
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect(),
        ObjectKind::Secret => object
            .iter()
            .map(|(key, value)| (key, String::from_utf8_lossy(value).into_owned()))
            .collect(),
    }
}

fn value_of(kind: ObjectKind, object: &ObjectData, key: &str) -> Option<String> {
    match kind {
        ObjectKind::ConfigMap => object.text.get(key).cloned(),
        // The container's specification is JSON, whose writer in the runtime replaces what is no UTF-8 in the same way.
        ObjectKind::Secret => object
            .get(key)
            .map(|value| String::from_utf8_lossy(value).into_owned()),
    }
}

#[cfg(test)]
mod tests;
