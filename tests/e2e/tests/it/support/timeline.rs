//! When each container of an image ran, by the runtime's own events: what sampling would miss between two looks is here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lab::{Device, Process, Program};
use serde_json::Value;

use super::Instances;

/// Records the events of one device's containerd until the site ends. Containerd must not be restarted meanwhile.
pub struct Timeline {
    process: Process,
    log: PathBuf,
    /// The containers that ran before.
    first: BTreeSet<String>,
}

impl Timeline {
    /// `running` is what runs on the device now and is to be replaced.
    pub fn record(device: &Device, running: &Instances) -> Self {
        let ctr = Program::new("ctr")
            .arg("--address")
            .arg(device.containerd_socket().display().to_string())
            .args(["--namespace", "k8s.io", "events"]);
        let process = device.spawn("events", &ctr).unwrap();
        let log = process.log().unwrap();
        let on_device = running.on(device.name());
        Self {
            process,
            log,
            first: on_device.0.into_iter().map(|instance| instance.id).collect(),
        }
    }

    /// Every start of a container of this image since then: whether another ran at that moment, or one of those that were to be replaced.
    pub fn starts_beside_another(&self, image: &str) -> Vec<bool> {
        self.process.check_alive().unwrap();
        let mut images: BTreeMap<String, String> = BTreeMap::new();
        let mut running = self.first.clone();
        let mut starts = Vec::new();
        for line in std::fs::read_to_string(&self.log).unwrap().lines() {
            let Some((topic, event)) = parse(line) else {
                continue;
            };
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let id = text("container_id");
            match topic {
                "/containers/create" => {
                    images.insert(text("id"), text("image"));
                }
                "/tasks/start" if images.get(&id).is_some_and(|of| of.contains(image)) => {
                    starts.push(!running.is_empty());
                    running.insert(id);
                }
                // Of the task itself, not of a process that was executed in it.
                "/tasks/exit" if text("id") == id => {
                    running.remove(&id);
                }
                _ => {}
            }
        }
        starts
    }
}

/// `<date> <time> <zone…> <namespace> <topic> <json>`
fn parse(line: &str) -> Option<(&str, Value)> {
    let (head, json) = line.split_once(" {")?;
    let topic = head.rsplit(' ').next()?;
    Some((topic, serde_json::from_str(&format!("{{{json}")).ok()?))
}
