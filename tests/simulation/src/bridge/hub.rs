//! What the bridge's shell has with the hub besides its calls: one list of deployments, then what the hub's log names.

use edge_protocol::PodUid;
use edge_provider_core::{HeldDeployment, Input};
use iot_hub_core::DeploymentView;

use crate::coverage::Path;
use crate::event::{BridgeEvent, Event};
use crate::trace::say;
use crate::world::World;

impl World {
    pub(crate) fn break_hub_stream(&mut self) {
        if self.bridge.bridge.is_some() && self.bridge.hub_stream.live {
            self.coverage.met(Path::HubStreamBreaks);
            self.bridge.hub_stream.number += 1;
            self.bridge.hub_stream.live = false;
            self.later(200, 4_000, BridgeEvent::ReadHub);
        }
    }

    pub(super) fn read_hub(&mut self) {
        if self.bridge.hub_stream.live {
            return;
        }
        let fails = self.weather.http_fails;
        let Some(hub) = self.hub.hub.as_ref().filter(|_| !self.rng.chance(fails)) else {
            return self.later(500, 4_000, BridgeEvent::ReadHub);
        };
        let held: Vec<HeldDeployment> = hub.deployments().map(held).collect();
        for deployment in &held {
            self.judge_ready(deployment);
        }
        let delay = self.rng.within(5, 800);
        let now = self.now;
        let stream = &mut self.bridge.hub_stream;
        stream.number += 1;
        (stream.live, stream.since, stream.tail) = (true, now, now + delay);
        let number = stream.number;
        say!(self, "bridge", "reads {} deployments", held.len());
        let input = Box::new(Input::DeploymentsListed(held));
        self.later(
            delay,
            delay,
            BridgeEvent::FollowHub {
                stream: number,
                input,
            },
        );
    }

    /// Reads one deployment that the hub's log named.
    pub(super) fn look_at_hub(&mut self, uid: &PodUid) {
        let breaks = self.weather.watch_breaks;
        if self.rng.chance(breaks) {
            return self.break_hub_stream();
        }
        let Some(hub) = self.hub.hub.as_ref() else {
            return;
        };
        let input = match hub.deployment(uid).map(held) {
            Some(held) => {
                self.judge_ready(&held);
                Input::DeploymentChanged(Box::new(held))
            }
            None => Input::DeploymentEnded { uid: uid.clone() },
        };
        let due = (self.now + self.rng.within(2, 200)).max(self.bridge.hub_stream.tail);
        self.bridge.hub_stream.tail = due;
        let (life, stream) = (self.bridge.life, self.bridge.hub_stream.number);
        let input = Box::new(input);
        self.queue
            .push(due, Event::Bridge(life, BridgeEvent::FollowHub { stream, input }));
    }
}

fn held(view: DeploymentView) -> HeldDeployment {
    HeldDeployment {
        spec: view.record.spec,
        revision: view.record.revision,
        state: view.record.state,
        status: view.status,
    }
}
