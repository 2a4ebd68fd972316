//! Hands what the hub says to the nodes that it is for. One list and one watch of the hub serve them all.

use std::collections::BTreeMap;

use edge_protocol::PodUid;
use edge_provider_core::HeldDeployment;
use tokio::sync::{mpsc, watch};

use crate::hub::HubEvent;

/// Where the events of each node go.
pub type Routes = BTreeMap<String, mpsc::Sender<HubEvent>>;

/// Sole reader of the hub's events. A list that is whole is whole for each node, and a node that joins is told one.
#[derive(Debug)]
pub struct Switchboard {
    /// The node that stands for the fleet.
    fleet: String,
    routes: watch::Receiver<Routes>,
    /// A list is wanted.
    ask: mpsc::Sender<()>,
    /// Which node asked for a deployment: its end does not say.
    owners: BTreeMap<PodUid, String>,
}

impl Switchboard {
    pub fn new(fleet: impl Into<String>, routes: watch::Receiver<Routes>, ask: mpsc::Sender<()>) -> Self {
        Self {
            fleet: fleet.into(),
            routes,
            ask,
            owners: BTreeMap::new(),
        }
    }

    /// Runs until the hub's task ends, or nobody can change the routes any more.
    pub async fn run(mut self, mut events: mpsc::Receiver<HubEvent>) {
        let mut listed: usize = 0;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.hand(event).await,
                    None => return,
                },
                changed = self.routes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let routes = self.routes.borrow_and_update().len();
                    if routes > listed {
                        // A wish that already waits is as good.
                        let _ = self.ask.try_send(());
                    }
                    listed = routes;
                }
            }
        }
    }

    async fn hand(&mut self, event: HubEvent) {
        match event {
            HubEvent::Answers => self.tell_all(|| HubEvent::Answers).await,
            HubEvent::Silent(message) => self.tell_all(|| HubEvent::Silent(message.clone())).await,
            HubEvent::Deployments(all) => self.list(all).await,
            HubEvent::Changed(held) => {
                let node = held.spec.source.node.clone();
                self.owners.insert(held.spec.uid.clone(), node.clone());
                self.tell(&node, HubEvent::Changed(held)).await;
            }
            HubEvent::Ended(uid) => {
                let node = self.owners.remove(&uid).unwrap_or_else(|| self.fleet.clone());
                self.tell(&node, HubEvent::Ended(uid)).await;
            }
            HubEvent::Happened(record) => {
                let node = self.owners.get(&record.event.uid).unwrap_or(&self.fleet).clone();
                self.tell(&node, HubEvent::Happened(record)).await;
            }
            devices @ (HubEvent::Devices(_) | HubEvent::Device(_)) => {
                let fleet = self.fleet.clone();
                self.tell(&fleet, devices).await;
            }
        }
    }

    async fn list(&mut self, all: Vec<HeldDeployment>) {
        let mut by_node: BTreeMap<String, Vec<HeldDeployment>> = BTreeMap::new();
        self.owners.clear();
        for held in all {
            let node = held.spec.source.node.clone();
            self.owners.insert(held.spec.uid.clone(), node.clone());
            by_node.entry(node).or_default().push(held);
        }
        let routes = self.routes.borrow().clone();
        for (node, inputs) in &routes {
            let held = by_node.remove(node).unwrap_or_default();
            send(inputs, HubEvent::Deployments(held)).await;
        }
    }

    async fn tell_all(&self, event: impl Fn() -> HubEvent) {
        let routes = self.routes.borrow().clone();
        for inputs in routes.values() {
            send(inputs, event()).await;
        }
    }

    async fn tell(&self, node: &str, event: HubEvent) {
        let route = self.routes.borrow().get(node).cloned();
        if let Some(inputs) = route {
            send(&inputs, event).await;
        }
    }
}

/// A node that ended hears nothing more.
async fn send(inputs: &mpsc::Sender<HubEvent>, event: HubEvent) {
    let _ = inputs.send(event).await;
}

#[cfg(test)]
mod tests {
    use edge_protocol::v1::{DeploymentSpec, DeploymentState, DeploymentStatus, LadderCounts, Phase};
    use serde_json::json;

    use super::*;

    fn held(uid: &str, node: &str) -> HeldDeployment {
        let spec: DeploymentSpec = serde_json::from_value(json!({
            "uid": uid, "source": {"cluster_uid": "c", "node": node}, "namespace": "shop", "name": "web",
            "target": {"condition": "*", "scope": "*"}, "ready_policy": "all", "manifest": "{}",
        }))
        .unwrap();
        HeldDeployment {
            revision: edge_protocol::DeploymentRevision(1),
            state: DeploymentState::Active,
            status: DeploymentStatus {
                uid: spec.uid.clone(),
                revision: edge_protocol::DeploymentRevision(1),
                state: DeploymentState::Active,
                counts: LadderCounts::default(),
                ready: false,
                phase: Phase::Pending,
                containers: Vec::new(),
                failing: Vec::new(),
                stopping_online: 0,
                stopping_offline: Vec::new(),
                as_of_ms: None,
                unconfirmed: false,
                workload: None,
            },
            spec,
        }
    }

    fn text(event: &HubEvent) -> String {
        match event {
            HubEvent::Deployments(all) => {
                let uids: Vec<&str> = all.iter().map(|held| held.spec.uid.as_str()).collect();
                format!("list {}", uids.join(" "))
            }
            HubEvent::Changed(held) => format!("changed {}", held.spec.uid),
            HubEvent::Ended(uid) => format!("ended {uid}"),
            other => format!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn each_node_hears_its_own_and_a_list_is_whole_for_all() {
        let (hub, events) = mpsc::channel(16);
        let (fleet, mut of_fleet) = mpsc::channel(16);
        let (press, mut of_press) = mpsc::channel(16);
        let (idle, mut of_idle) = mpsc::channel(16);
        let (ask, mut asked) = mpsc::channel(1);
        let (routes, routed) = watch::channel(Routes::from([("fleet".to_owned(), fleet)]));
        let board = tokio::spawn(Switchboard::new("fleet", routed, ask).run(events));
        routes.send_modify(|routes| {
            routes.insert("press-7".to_owned(), press);
            routes.insert("idle".to_owned(), idle);
        });
        asked.recv().await.unwrap();
        let all = vec![held("u1", "fleet"), held("u2", "press-7"), held("u3", "stranger")];
        hub.send(HubEvent::Deployments(all)).await.unwrap();
        hub.send(HubEvent::Changed(Box::new(held("u4", "press-7"))))
            .await
            .unwrap();
        hub.send(HubEvent::Ended("u4".parse().unwrap())).await.unwrap();
        hub.send(HubEvent::Ended("u1".parse().unwrap())).await.unwrap();
        drop(hub);
        board.await.unwrap();
        drop(routes);
        let mut heard = Vec::new();
        for receiver in [&mut of_fleet, &mut of_press, &mut of_idle] {
            let mut texts = Vec::new();
            while let Some(event) = receiver.recv().await {
                texts.push(text(&event));
            }
            heard.push(texts);
        }
        assert_eq!(heard[0], ["list u1", "ended u1"]);
        assert_eq!(heard[1], ["list u2", "changed u4", "ended u4"]);
        assert_eq!(heard[2], ["list "], "a node without deployments is told so");
    }
}
