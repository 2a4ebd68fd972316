//! Hands what the hub says to the nodes that it is for. One list and one watch of the hub serve them all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use edge_protocol::PodUid;
use edge_provider_core::HeldDeployment;
use iot_hub_client::api::{Device, DeviceEventRecord};
use tokio::sync::{mpsc, watch};
use virtual_kubelet::FurtherNodes;

use crate::device_nodes::{DeviceNodes, condition_of};
use crate::hub::HubEvent;
use crate::sealer::SealerHandle;

/// Events that wait for a node to be served, of all nodes together.
const EARLY: usize = 4_096;

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
    roster: Option<Roster>,
    /// Nodes that have nothing left to do, by their own word.
    over: mpsc::Receiver<String>,
    /// Events for nodes that are about to be served, in order.
    early: VecDeque<Box<DeviceEventRecord>>,
    /// The routes of those that were handed what waited for them: until then what comes for a node waits behind it.
    handed: Routes,
    /// Hears that devices wait for keys, of whichever node's deployments.
    sealer: SealerHandle,
}

/// Which devices have nodes. One that was a node stays one here until it says that nothing is left: what becomes of its Node and of its pods
/// is its own to decide.
#[derive(Debug)]
pub struct Roster {
    nodes: Arc<DeviceNodes>,
    /// What a provider id begins with; the device's id follows.
    provider_prefix: String,
    served: watch::Sender<FurtherNodes>,
    /// Those that should be nodes by the hub's last word.
    wanted: BTreeSet<String>,
}

impl Switchboard {
    pub fn new(
        fleet: impl Into<String>,
        routes: watch::Receiver<Routes>,
        ask: mpsc::Sender<()>,
        over: mpsc::Receiver<String>,
        roster: Option<Roster>,
        sealer: SealerHandle,
    ) -> Self {
        Self {
            fleet: fleet.into(),
            routes,
            ask,
            owners: BTreeMap::new(),
            roster,
            over,
            early: VecDeque::new(),
            handed: Routes::new(),
            sealer,
        }
    }

    /// Runs until the hub's task ends, or nobody can change the routes any more.
    pub async fn run(mut self, mut events: mpsc::Receiver<HubEvent>) {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.hand(event).await,
                    None => return,
                },
                Some(node) = self.over.recv() => self.retire(&node),
                changed = self.routes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let routes = self.routes.borrow_and_update().clone();
                    let is_known = |(node, events): (&String, &mpsc::Sender<HubEvent>)| {
                        self.handed.get(node).is_some_and(|known| known.same_channel(events))
                    };
                    if !routes.iter().all(is_known) {
                        // A wish that already waits is as good.
                        let _ = self.ask.try_send(());
                    }
                    self.handed = routes;
                    for record in std::mem::take(&mut self.early) {
                        self.happened(record).await;
                    }
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
                self.see_keys(&held);
                let node = held.spec.source.node.clone();
                self.owners.insert(held.spec.uid.clone(), node.clone());
                self.tell(&node, HubEvent::Changed(held)).await;
            }
            HubEvent::Ended(uid) => {
                let node = self.owners.remove(&uid).unwrap_or_else(|| self.fleet.clone());
                self.tell(&node, HubEvent::Ended(uid)).await;
            }
            HubEvent::Happened(record) => self.happened(record).await,
            HubEvent::Forgotten => {
                let fleet = self.fleet.clone();
                self.tell(&fleet, HubEvent::Forgotten).await;
            }
            HubEvent::Devices(devices) => self.devices(devices).await,
            HubEvent::Device(device) => self.device(device).await,
        }
    }

    /// A process that begins hears what happened before it was there, while its nodes are still joining.
    async fn happened(&mut self, record: Box<DeviceEventRecord>) {
        let node = self.owners.get(&record.event.uid).unwrap_or(&self.fleet).clone();
        let is_routed = self.handed.contains_key(&node);
        if is_routed || !self.roster.as_ref().is_some_and(|roster| roster.serves(&node)) {
            return self.tell(&node, HubEvent::Happened(record)).await;
        }
        if self.early.len() == EARLY {
            tracing::warn!(node, "an event was dropped: its node is not served yet");
            self.early.pop_front();
        }
        self.early.push_back(record);
    }

    async fn devices(&mut self, devices: Vec<Device>) {
        for device in &devices {
            self.enrol(device);
        }
        let routes = self.routes.borrow().clone();
        for (node, inputs) in routes.iter().filter(|(node, _)| **node != self.fleet) {
            let own = devices
                .iter()
                .filter(|device| device.id.as_str() == node)
                .cloned();
            send(inputs, HubEvent::Devices(own.collect())).await;
        }
        let fleet = self.fleet.clone();
        self.tell(&fleet, HubEvent::Devices(devices)).await;
    }

    async fn device(&mut self, device: Box<Device>) {
        self.enrol(&device);
        let id = device.id.to_string();
        if id != self.fleet {
            self.tell(&id, HubEvent::Device(device.clone())).await;
        }
        let fleet = self.fleet.clone();
        self.tell(&fleet, HubEvent::Device(device)).await;
    }

    /// A device that should have a Node is served from now on. One that has the fleet node's name cannot.
    fn enrol(&mut self, device: &Device) {
        let Some(roster) = &mut self.roster else { return };
        let id = device.id.as_str();
        if !roster.nodes.is_node(device) {
            roster.wanted.remove(id);
        } else if id == self.fleet {
            tracing::error!(device = %device.id, "a device with the name of the fleet node has no Node of its own");
        } else {
            roster.wanted.insert(id.to_owned());
            roster.serve(id);
        }
    }

    /// A node is over unless the hub has said something else since.
    fn retire(&mut self, node: &str) {
        let Some(roster) = &self.roster else { return };
        let has_deployments = self.owners.values().any(|owner| owner == node);
        if !has_deployments && !roster.wanted.contains(node) {
            roster.end(node);
        }
    }

    /// A device that is a node no longer may have left deployments of its pods: someone has to hear what becomes of those.
    fn enrol_sources(&self, all: &[HeldDeployment]) {
        let Some(roster) = &self.roster else { return };
        let is_devices = |held: &&HeldDeployment| {
            let spec = &held.spec;
            spec.source.node != self.fleet && spec.target.condition == condition_of(&spec.source.node)
        };
        let names: BTreeSet<&str> = all
            .iter()
            .filter(is_devices)
            .map(|held| held.spec.source.node.as_str())
            .collect();
        for name in names {
            roster.serve(name);
        }
    }

    async fn list(&mut self, all: Vec<HeldDeployment>) {
        self.enrol_sources(&all);
        let mut by_node: BTreeMap<String, Vec<HeldDeployment>> = BTreeMap::new();
        self.owners.clear();
        for held in all {
            self.see_keys(&held);
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

    fn see_keys(&self, held: &HeldDeployment) {
        if held.status.waiting_for_keys > 0 {
            self.sealer.wanted();
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

impl Roster {
    pub fn new(
        nodes: Arc<DeviceNodes>,
        provider_prefix: impl Into<String>,
        served: watch::Sender<FurtherNodes>,
    ) -> Self {
        Self {
            nodes,
            provider_prefix: provider_prefix.into(),
            served,
            wanted: BTreeSet::new(),
        }
    }

    fn end(&self, name: &str) {
        self.served
            .send_if_modified(|served| served.remove(name).is_some());
    }

    fn serves(&self, name: &str) -> bool {
        self.served.borrow().contains_key(name)
    }

    fn serve(&self, name: &str) {
        self.served.send_if_modified(|served| {
            let is_new = !served.contains_key(name);
            if is_new {
                served.insert(name.to_owned(), format!("{}{name}", self.provider_prefix));
            }
            is_new
        });
    }
}

/// A node that ended hears nothing more.
async fn send(inputs: &mpsc::Sender<HubEvent>, event: HubEvent) {
    let _ = inputs.send(event).await;
}

#[cfg(test)]
mod tests {
    use edge_protocol::sealing::RootSecret;
    use edge_protocol::v1::{DeploymentSpec, DeploymentState, DeploymentStatus, LadderCounts, Phase};
    use serde_json::json;

    use super::*;
    use crate::device_view::tests::device;

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
                waiting_for_keys: 0,
                answers: None,
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

    /// No node ever has nothing left to do.
    fn nobody() -> mpsc::Receiver<String> {
        mpsc::channel(1).1
    }

    fn sealer() -> SealerHandle {
        SealerHandle::new(RootSecret::from_bytes([9; 32]))
    }

    #[tokio::test]
    async fn the_sealer_is_woken_for_devices_that_wait_for_keys() {
        let sealer = sealer();
        let (hub, events) = mpsc::channel(16);
        let (ask, _asked) = mpsc::channel(1);
        let (_routes, routed) = watch::channel(Routes::new());
        tokio::spawn(Switchboard::new("fleet", routed, ask, nobody(), None, sealer.clone()).run(events));
        let mut waits = held("u1", "press-7");
        waits.status.waiting_for_keys = 1;
        for event in [
            HubEvent::Deployments(vec![waits.clone()]),
            HubEvent::Changed(Box::new(waits)),
        ] {
            hub.send(event).await.unwrap();
            let woken = tokio::time::timeout(std::time::Duration::from_secs(30), sealer.woken());
            woken.await.unwrap();
        }
    }

    #[tokio::test]
    async fn each_node_hears_its_own_and_a_list_is_whole_for_all() {
        let (hub, events) = mpsc::channel(16);
        let (fleet, mut of_fleet) = mpsc::channel(16);
        let (press, mut of_press) = mpsc::channel(16);
        let (ended, _) = mpsc::channel(16);
        let (idle, mut of_idle) = mpsc::channel(16);
        let (ask, mut asked) = mpsc::channel(1);
        let (routes, routed) = watch::channel(Routes::from([("fleet".to_owned(), fleet)]));
        let board =
            tokio::spawn(Switchboard::new("fleet", routed, ask, nobody(), None, sealer()).run(events));
        routes.send_modify(|routes| {
            routes.insert("press-7".to_owned(), press);
            routes.insert("idle".to_owned(), ended);
        });
        asked.recv().await.unwrap();
        // One that ended and is served anew has heard nothing yet.
        routes.send_modify(|routes| drop(routes.insert("idle".to_owned(), idle)));
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

    #[tokio::test]
    async fn a_device_that_should_be_a_node_is_served_and_hears_of_itself_alone() {
        let options = json!({"condition": "tags.node = 'true'"});
        let options: crate::device_nodes::DeviceNodesOptions = serde_json::from_value(options).unwrap();
        let (served, nodes) = watch::channel(FurtherNodes::new());
        let roster = Roster::new(Arc::new(options.parsed().unwrap()), "outrigger://hub/", served);
        let (hub, events) = mpsc::channel(16);
        let (fleet, mut of_fleet) = mpsc::channel(16);
        let (press, mut of_press) = mpsc::channel(16);
        let (ask, _asked) = mpsc::channel(1);
        let over = nobody();
        let routes = Routes::from([("fleet".to_owned(), fleet), ("press-7".to_owned(), press)]);
        let (routes, routed) = watch::channel(routes);
        let board =
            tokio::spawn(Switchboard::new("fleet", routed, ask, over, Some(roster), sealer()).run(events));
        let mut plain = device("plain-1");
        plain.tags.clear();
        let mut left = held("u1", "left-2");
        left.spec.target.condition = condition_of("left-2");
        hub.send(HubEvent::Devices(vec![device("press-7"), plain, device("fleet")]))
            .await
            .unwrap();
        hub.send(HubEvent::Deployments(vec![left, held("u2", "hall-9")]))
            .await
            .unwrap();
        hub.send(HubEvent::Device(Box::new(device("press-8"))))
            .await
            .unwrap();
        drop(hub);
        board.await.unwrap();
        drop(routes);
        let names: Vec<String> = nodes.borrow().keys().cloned().collect();
        assert_eq!(
            names,
            ["left-2", "press-7", "press-8"],
            "hall-9 is another process's"
        );
        assert_eq!(nodes.borrow()["press-7"], "outrigger://hub/press-7");
        let heard = |event: &HubEvent| match event {
            HubEvent::Devices(devices) => devices.iter().map(|device| device.id.to_string()).collect(),
            HubEvent::Device(device) => vec![device.id.to_string()],
            _ => Vec::new(),
        };
        assert_eq!(heard(&of_press.recv().await.unwrap()), ["press-7"]);
        assert_eq!(
            heard(&of_fleet.recv().await.unwrap()),
            ["press-7", "plain-1", "fleet"]
        );
    }

    #[tokio::test]
    async fn what_happened_before_a_node_is_served_waits_for_it() {
        // Which of two that are ready is taken first is drawn.
        for _ in 0..8 {
            check_a_late_route().await;
        }
    }

    async fn check_a_late_route() {
        let options = json!({"condition": "tags.node = 'true'"});
        let options: crate::device_nodes::DeviceNodesOptions = serde_json::from_value(options).unwrap();
        let (served, _nodes) = watch::channel(FurtherNodes::new());
        let roster = Roster::new(Arc::new(options.parsed().unwrap()), "outrigger://hub/", served);
        let (hub, events) = mpsc::channel(16);
        let (fleet, mut of_fleet) = mpsc::channel(16);
        let (press, mut of_press) = mpsc::channel(16);
        let (ask, _asked) = mpsc::channel(1);
        let (routes, routed) = watch::channel(Routes::from([("fleet".to_owned(), fleet)]));
        let board = Switchboard::new("fleet", routed, ask, nobody(), Some(roster), sealer());
        let board = tokio::spawn(board.run(events));
        let happened = |uid: &str, seq: u64| {
            let event = json!({
                "seq": seq, "uid": uid, "level": "Normal", "reason": "Started", "message": "m",
                "at": {"boot_id": uuid::Uuid::nil(), "mono_ms": 0, "wall_ms": 0, "wall_trusted": false},
            });
            HubEvent::Happened(Box::new(DeviceEventRecord {
                device: "press-7".parse().unwrap(),
                event: serde_json::from_value(event).unwrap(),
            }))
        };
        let heard = |event: Option<HubEvent>| match event.unwrap() {
            HubEvent::Happened(record) => Some((record.event.uid.to_string(), record.event.seq)),
            _ => None,
        };
        let all = vec![held("u1", "press-7"), held("u2", "fleet"), held("u3", "stranger")];
        for event in [
            HubEvent::Devices(vec![device("press-7")]),
            HubEvent::Deployments(all),
            happened("u1", 1),
            happened("u3", 2),
            happened("u1", 3),
            happened("u2", 4),
        ] {
            hub.send(event).await.unwrap();
        }
        let mut last = None;
        while last.is_none() {
            last = heard(of_fleet.recv().await);
        }
        assert_eq!(last, Some(("u2".to_owned(), 4)), "the fleet hears its own alone");
        routes.send_modify(|routes| drop(routes.insert("press-7".to_owned(), press)));
        hub.send(happened("u1", 5)).await.unwrap();
        for seq in [1, 3, 5] {
            assert_eq!(heard(of_press.recv().await), Some(("u1".to_owned(), seq)));
        }
        drop(hub);
        board.await.unwrap();
    }

    #[tokio::test]
    async fn a_node_that_has_nothing_left_ends_unless_the_hub_said_otherwise_since() {
        let options = json!({"condition": "tags.node = 'true'"});
        let options: crate::device_nodes::DeviceNodesOptions = serde_json::from_value(options).unwrap();
        let (served, mut nodes) = watch::channel(FurtherNodes::new());
        let roster = Roster::new(Arc::new(options.parsed().unwrap()), "outrigger://hub/", served);
        let (hub, events) = mpsc::channel(16);
        let (ask, _asked) = mpsc::channel(1);
        let (says_over, over) = mpsc::channel(16);
        let (_routes, routed) = watch::channel(Routes::new());
        let board = Switchboard::new("fleet", routed, ask, over, Some(roster), sealer());
        tokio::spawn(board.run(events));
        let names = ["press-7", "press-8", "press-9"];
        hub.send(HubEvent::Devices(names.map(device).into()))
            .await
            .unwrap();
        hub.send(HubEvent::Deployments(vec![held("u1", "press-8")]))
            .await
            .unwrap();
        for name in ["press-7", "press-8"] {
            let mut plain = device(name);
            plain.tags.clear();
            hub.send(HubEvent::Device(Box::new(plain))).await.unwrap();
        }
        // Once this is served, all before it has been taken in.
        hub.send(HubEvent::Device(Box::new(device("press-6"))))
            .await
            .unwrap();
        drop(
            nodes
                .wait_for(|nodes| nodes.contains_key("press-6"))
                .await
                .unwrap(),
        );
        for name in ["press-8", "press-9", "press-6", "press-7"] {
            says_over.send(name.to_owned()).await.unwrap();
        }
        let waited = nodes.wait_for(|nodes| !nodes.contains_key("press-7"));
        let waited = tokio::time::timeout(std::time::Duration::from_secs(30), waited).await;
        drop(waited.unwrap().unwrap());
        let left: Vec<String> = nodes.borrow().keys().cloned().collect();
        assert_eq!(
            left,
            ["press-6", "press-8", "press-9"],
            "press-8 has a deployment"
        );
    }
}
