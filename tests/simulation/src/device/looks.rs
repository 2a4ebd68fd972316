//! When the agent's shell looks at the runtime, and what it then sees: the pump's rules.

use edge_agent_core::{Input, Observed};

use crate::coverage::Path;
use crate::event::{AgentEvent, At, Event};
use crate::world::World;

/// A look at the runtime without a hint from it.
const IDLE_LOOK_MS: u64 = 30_000;

#[derive(Debug, Default)]
pub(super) struct Looks {
    steps: u64,
    looking: bool,
    wanted: bool,
    timer: u64,
}

impl Looks {
    /// A process that begins looks at once.
    pub(super) fn first() -> Self {
        Self {
            wanted: true,
            ..Self::default()
        }
    }

    /// What was seen before the step ended is no longer true.
    pub(super) fn step_ended(&mut self) {
        self.steps += 1;
        self.wanted = true;
    }
}

impl World {
    /// The runtime says that something changed; the hint may get lost.
    pub(crate) fn hint(&mut self, at: At) {
        if self.devices[at].agent.is_some() && !self.strikes(Path::HintLost, self.weather.hint_lost) {
            self.devices[at].looks.wanted = true;
            self.look(at);
        }
    }

    pub(super) fn look_due(&mut self, at: At, timer: u64) {
        if self.devices[at].looks.timer == timer {
            self.devices[at].looks.wanted = true;
            self.look(at);
        }
    }

    pub(super) fn look(&mut self, at: At) {
        let device = &self.devices[at];
        if device.agent.is_none() || device.looks.looking || !device.looks.wanted {
            return;
        }
        let early = self.rng.flip();
        let delay = self.rng.within(2, 60);
        let device = &mut self.devices[at];
        (device.looks.looking, device.looks.wanted) = (true, false);
        device.looks.timer += 1;
        let seen = early.then(|| device.runtime.observe());
        let event = AgentEvent::LookEnds {
            begun: device.looks.steps,
            at: self.now,
            seen,
        };
        let life = device.life;
        self.push(delay, Event::Agent(at, life, event));
    }

    /// `seen` is what the look's beginning showed; without it the end shows.
    pub(super) fn end_look(&mut self, at: At, (begun, when): (u64, u64), seen: Option<Observed>) {
        let device = &mut self.devices[at];
        device.looks.looking = false;
        device.looks.timer += 1;
        let (timer, life) = (device.looks.timer, device.life);
        if device.runtime.down {
            device.looks.wanted = false;
            self.push(1_000, Event::Agent(at, life, AgentEvent::LookDue(timer)));
            let message = "connection refused".to_owned();
            return self.step_agent(at, Input::RuntimeDown { message });
        }
        device.looks.wanted |= begun < device.looks.steps;
        let seen = seen.unwrap_or_else(|| device.runtime.observe());
        device.looked_at = Some(when);
        self.push(IDLE_LOOK_MS, Event::Agent(at, life, AgentEvent::LookDue(timer)));
        let (observed, told) = (seen, begun);
        self.step_agent(at, Input::Observed { observed, told });
        self.look(at);
    }
}
