//! A case: a YAML file whose first document says what is done and whose others are applied before.
//!
//! Texts may hold `${namespace}`, `${node}`, `${side}`, `${scratch}` (a directory of the machine for this case and side alone), and `${cpu:60}` (so many hundredths of
//! the machine's CPUs, in thousandths of one). An image
//! without a registry is one of the lab's.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::ConformanceError;
use crate::side::Side;

/// One case, not yet told where it is played.
#[derive(Debug, Clone)]
pub struct Case {
    /// `<head>/<file>` without its ending.
    pub name: String,
    path: PathBuf,
    text: String,
    /// Which time it is played, where it is more than once.
    time: Option<usize>,
}

/// What a case does on one side.
#[derive(Debug, Clone)]
pub struct Script {
    pub header: Header,
    /// Applied in this order.
    pub objects: Vec<Value>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Header {
    /// One sentence.
    pub about: String,
    /// Whether its pods get their service account's token, as they do when nobody says otherwise.
    #[serde(default)]
    pub token: bool,
    /// Its pods are bound by name instead of by the scheduler.
    #[serde(default)]
    pub bound: bool,
    pub steps: Vec<Step>,
    /// What the last step waits for passes by itself: what is compared is what can be seen at that moment, not once all is still.
    #[serde(default)]
    pub passing: bool,
    /// Facts that say nothing here, by their exact path; such as a count that depends on the moment.
    #[serde(default)]
    pub blind: Vec<String>,
    /// Facts whose words say something and whose figures do not, by their exact path; such as what is in use at the moment.
    #[serde(default)]
    pub figures: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Step {
    /// Goes on when all of it is true.
    Until(Until),
    /// Merges into the object, or creates it.
    Apply(Value),
    Delete(Target),
    /// Merges into the pod as a resize of it.
    Resize(Value),
    /// A resize that the API server refuses.
    ResizeRefused(Value),
    /// Adds the ephemeral containers of this pod to the one of its name.
    AddContainers(Value),
    /// Remembers what can be seen now; it is compared under this name.
    Observe(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub kind: String,
    pub name: String,
    #[serde(default)]
    pub grace: Option<u32>,
}

/// What must be true of a pod; of `pod` when it is not named. What is not mentioned may be anything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Until {
    #[serde(default = "pod")]
    pub pod: String,
    pub phase: Option<String>,
    pub ready: Option<bool>,
    /// A type of condition that is True.
    pub condition: Option<String>,
    /// The reason that some container waits for.
    pub waiting: Option<String>,
    /// The reason of the pod itself.
    pub reason: Option<String>,
    /// At least so many restarts of all containers together.
    pub restarts: Option<i64>,
    /// The reason of an event of the pod.
    pub event: Option<String>,
    /// What the newest log of a container holds.
    pub log: Option<LogHas>,
    /// A container that has ended.
    pub ended: Option<String>,
    pub gone: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogHas {
    #[serde(default = "main")]
    pub container: String,
    pub has: String,
}

fn pod() -> String {
    "pod".to_owned()
}

fn main() -> String {
    "main".to_owned()
}

impl Script {
    /// The specs of the pods that it makes, and of what it adds to them.
    pub fn specs(&self) -> impl Iterator<Item = &Value> {
        let made = self
            .objects
            .iter()
            .filter_map(|object| match object["kind"].as_str() {
                Some("Pod") => Some(&object["spec"]),
                _ => object.pointer("/spec/template/spec"),
            });
        let added = self.header.steps.iter().filter_map(|step| match step {
            Step::AddContainers(pod) => Some(&pod["spec"]),
            _ => None,
        });
        made.chain(added)
    }
}

impl Case {
    /// All cases below a directory, by name.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn all(directory: &Path) -> Result<Vec<Self>, ConformanceError> {
        let mut cases = Vec::new();
        for head in entries(directory)? {
            for path in entries(&head)? {
                let stem = |path: &Path| {
                    path.file_stem()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned()
                };
                cases.push(Self {
                    name: format!("{}/{}", stem(&head), stem(&path)),
                    text: std::fs::read_to_string(&path).map_err(ConformanceError::file(&path))?,
                    path,
                    time: None,
                });
            }
        }
        Ok(cases)
    }

    /// A name that Kubernetes takes.
    pub fn slug(&self) -> String {
        let name = self.name.replace(['/', '_', '.'], "-");
        self.time.map_or(name.clone(), |time| format!("{name}-{time}"))
    }

    /// The same case in a namespace of its own.
    #[must_use]
    pub fn once_more(&self, time: usize) -> Self {
        Self {
            time: Some(time),
            ..self.clone()
        }
    }

    /// The case as it is played on a side.
    ///
    /// # Errors
    /// What the file lacks or has too much.
    pub fn script(&self, side: &Side) -> Result<Script, ConformanceError> {
        let wrong = |problem: String| ConformanceError::Case {
            path: self.path.clone(),
            problem,
        };
        let text = side.fill(&self.text, &self.slug());
        let mut documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).map_err(|error| wrong(error.to_string()))?;
        if documents.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        let header: Header =
            serde_json::from_value(documents.remove(0)).map_err(|error| wrong(error.to_string()))?;
        for object in &mut documents {
            side.name_images(object);
            side.place(object, &header);
        }
        if documents.is_empty() || header.steps.is_empty() {
            return Err(wrong("it applies or does nothing".to_owned()));
        }
        Ok(Script {
            header,
            objects: documents,
        })
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, ConformanceError> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    };
    let mut found = read().map_err(ConformanceError::file(directory))?;
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_understood() {
        let side = Side {
            name: "kubelet",
            node: "worker".into(),
            host_ip: "10.1.0.2".into(),
            logs: "/nowhere".into(),
            scratch: "/scratch".into(),
            registry: "registry.example/".into(),
        };
        let cases = Case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")).unwrap();
        assert!(cases.len() > 90, "{}", cases.len());
        for case in &cases {
            assert!(side.namespace(&case.slug()).len() <= 63, "{}", case.name);
            let script = case.script(&side).unwrap_or_else(|error| panic!("{error}"));
            for object in &script.objects {
                assert!(!object.to_string().contains("${"), "{}: {object}", case.name);
            }
        }
    }
}
