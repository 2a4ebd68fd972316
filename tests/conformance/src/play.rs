//! The steps of one case on one side.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::ConformanceError;
use crate::case::{Script, Step, Target, Until};
use crate::cluster::Cluster;
use crate::facts::{self, Facts};
use crate::side::Side;

/// Events and logs tell nobody that they changed.
const LOOK: Duration = Duration::from_millis(250);
/// Two looks this far apart that see the same.
const STILL: Duration = Duration::from_millis(700);
const STILL_LIMIT: Duration = Duration::from_secs(15);
/// The name of what was seen at the moment when the last step of a passing case came true.
pub const MOMENT: &str = "at that moment";

/// One case on one side.
pub struct Play<'a> {
    pub cluster: Cluster,
    pub side: &'a Side,
    pub slug: String,
    pub script: &'a Script,
    /// How long a step may take to come true.
    pub limit: Duration,
}

impl Play<'_> {
    /// Applies everything and performs the steps; gives what its `observe` steps saw.
    ///
    /// # Errors
    /// [`ConformanceError::Deadline`] names the step that never came true.
    pub async fn perform(&mut self) -> Result<BTreeMap<String, Facts>, ConformanceError> {
        let namespace = self.side.namespace(&self.slug);
        let scratch = self.side.scratch(&self.slug);
        std::fs::create_dir_all(&scratch).map_err(ConformanceError::file(&scratch))?;
        self.cluster.ensure_namespace(&namespace).await?;
        for object in &self.script.objects {
            self.cluster.create(&namespace, object).await?;
        }
        let mut seen = BTreeMap::new();
        for step in &self.script.header.steps {
            match step {
                Step::Until(until) => self.until(&namespace, until).await?,
                Step::Apply(object) => self.apply(&namespace, object.clone()).await?,
                Step::Delete(Target { kind, name, grace }) => {
                    self.cluster.delete(&namespace, kind, name, *grace).await?;
                }
                Step::Resize(pod) => self.cluster.merge_by("resize", &namespace, pod).await?,
                Step::AddContainers(pod) => {
                    let mut pod = pod.clone();
                    self.side.name_images(&mut pod);
                    let by = "ephemeralcontainers";
                    self.cluster.merge_by(by, &namespace, &pod).await?;
                }
                Step::ResizeRefused(pod) => self.refused(&namespace, pod).await?,
                Step::Observe(name) => {
                    seen.insert(name.clone(), self.still().await?);
                }
            }
        }
        if self.script.header.passing {
            let moment = facts::collect(&self.cluster, self.side, &self.slug).await?;
            seen.insert(MOMENT.to_owned(), moment);
        }
        Ok(seen)
    }

    async fn refused(&self, namespace: &str, pod: &Value) -> Result<(), ConformanceError> {
        match self.cluster.merge_by("resize", namespace, pod).await {
            Err(error) if error.is_refusal() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(ConformanceError::NotRefused { side: self.side.name }),
        }
    }

    async fn apply(&self, namespace: &str, mut object: Value) -> Result<(), ConformanceError> {
        self.side.name_images(&mut object);
        if self.cluster.merge(namespace, &object).await? {
            return Ok(());
        }
        self.side.place(&mut object, &self.script.header);
        self.cluster.create(namespace, &object).await
    }

    /// Deletes all pods of the case without waiting for their grace.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn clear(&mut self) -> Result<(), ConformanceError> {
        let namespace = self.side.namespace(&self.slug);
        for object in &self.script.objects {
            let kind = object["kind"].as_str().unwrap_or_default();
            if kind != "Pod" {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                self.cluster.delete(&namespace, kind, name, None).await?;
            }
        }
        for (name, ..) in self.cluster.pods(&namespace) {
            self.cluster.delete(&namespace, "Pod", &name, Some(1)).await?;
        }
        Ok(())
    }

    /// What can be seen, once it does not change any more.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn still(&mut self) -> Result<Facts, ConformanceError> {
        let deadline = Instant::now() + STILL_LIMIT;
        let mut before = facts::collect(&self.cluster, self.side, &self.slug).await?;
        loop {
            tokio::time::sleep(STILL).await;
            let now = facts::collect(&self.cluster, self.side, &self.slug).await?;
            if now == before || Instant::now() >= deadline {
                return Ok(now);
            }
            before = now;
        }
    }

    /// The events of a pod as they are told, a line each.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn events(&self, pod: &str) -> Result<String, ConformanceError> {
        let namespace = self.side.namespace(&self.slug);
        let events = self.cluster.events(&namespace, pod).await?;
        let told = events.into_iter().map(|event| {
            let (reason, message) = (event.reason.unwrap_or_default(), event.message);
            format!("{reason}: {}\n", message.unwrap_or_default())
        });
        Ok(told.collect::<Vec<_>>().concat())
    }

    async fn until(&mut self, namespace: &str, until: &Until) -> Result<(), ConformanceError> {
        let deadline = Instant::now() + self.limit;
        loop {
            let pod = self.cluster.pod(namespace, &until.pod);
            if self.holds(namespace, until, pod.as_ref()).await? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let status = pod.map_or(Value::Null, |pod| pod["status"].clone());
                let events = self.events(&until.pod).await?;
                return Err(ConformanceError::Deadline {
                    side: self.side.name,
                    wanted: format!("{until:?}"),
                    seconds: self.limit.as_secs(),
                    state: format!("{status:#}\n{events}"),
                });
            }
            self.cluster.changed(LOOK).await;
        }
    }

    async fn holds(
        &self,
        namespace: &str,
        until: &Until,
        pod: Option<&Value>,
    ) -> Result<bool, ConformanceError> {
        let Some(pod) = pod else {
            return Ok(until.gone == Some(true));
        };
        if until.gone == Some(true) || !shows(until, pod) {
            return Ok(false);
        }
        if let Some(log) = &until.log {
            let logs = facts::logs(self.side, namespace, &until.pod, pod);
            if !logs
                .get(&log.container)
                .is_some_and(|text| text.contains(&log.has))
            {
                return Ok(false);
            }
        }
        if let Some(reason) = &until.event {
            let events = self.cluster.events(namespace, &until.pod).await?;
            return Ok(events.iter().any(|event| event.reason.as_deref() == Some(reason)));
        }
        Ok(true)
    }
}

/// What the pod object alone must show.
fn shows(until: &Until, pod: &Value) -> bool {
    let status = &pod["status"];
    let statuses = || {
        [
            "initContainerStatuses",
            "containerStatuses",
            "ephemeralContainerStatuses",
        ]
        .iter()
        .flat_map(|list| status[*list].as_array().into_iter().flatten())
    };
    let has = |kind: &str| {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    let is = |wanted: &Option<String>, value: &Value| {
        wanted
            .as_deref()
            .is_none_or(|wanted| value.as_str() == Some(wanted))
    };
    is(&until.phase, &status["phase"])
        && is(&until.reason, &status["reason"])
        && until.ready.is_none_or(|wanted| has("Ready") == wanted)
        && until.condition.as_deref().is_none_or(has)
        && until.waiting.as_deref().is_none_or(|wanted| {
            statuses().any(|each| each["state"]["waiting"]["reason"].as_str() == Some(wanted))
        })
        && until.ended.as_deref().is_none_or(|wanted| {
            let mut named = statuses().filter(|each| each["name"] == wanted);
            named.any(|each| each["state"]["terminated"].is_object())
        })
        && until.restarts.is_none_or(|wanted| {
            statuses()
                .filter_map(|each| each["restartCount"].as_i64())
                .sum::<i64>()
                >= wanted
        })
}
