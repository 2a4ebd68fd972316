//! What happens to processes, links, clocks, runtimes and stores during the storm.

use crate::coverage::Path;
use crate::device::ZONES;
use crate::event::{At, DeviceEvent, Event};
use crate::trace::say;
use crate::world::World;

impl World {
    pub(crate) fn restore_hub(&mut self) {
        let Some(backup) = self.hub.backup.clone() else {
            return;
        };
        self.coverage.met(Path::HubRestored);
        say!(self, "hub", "is restored from a backup");
        self.crash_hub(5_000);
        self.hub.disk = backup;
        for at in 0..self.devices.len() {
            let record = self.hub.disk.devices.get(&self.devices[at].id);
            let tag = record.and_then(|record| record.tags.get("zone"));
            if let Some(zone) = ZONES.into_iter().find(|zone| tag.is_some_and(|tag| tag == zone)) {
                self.devices[at].zone = zone;
                self.ledger.zones.push((at, self.now, zone));
            }
        }
    }

    pub(crate) fn incident(&mut self) {
        let at = self.rng.below(self.devices.len());
        match self.rng.below(14) {
            0 => self.crash_agent(at),
            1 => self.reboot(at),
            2 => {
                let away = self.rng.within(5_000, 90_000);
                self.crash_hub(away);
            }
            3 => {
                let away = self.rng.within(5_000, 150_000);
                self.crash_bridge(away);
            }
            4 | 5 => {
                let away = self.rng.within(5_000, 150_000);
                self.partition(at, away);
            }
            6 => self.lose_link(at, true),
            7 => {
                self.coverage.met(Path::RuntimeAway);
                say!(self, self.devices[at].id, "runtime is out of reach");
                self.devices[at].runtime.down = true;
                let away = self.rng.within(3_000, 40_000);
                self.push(away, Event::Device(at, DeviceEvent::RuntimeBack));
            }
            8 | 9 => self.kill_something(at),
            10 => {
                let years = i64::try_from(self.rng.within(0, 4)).unwrap_or(0) - 2;
                self.devices[at].wall_offset = years * 365 * 24 * 3_600_000;
                self.coverage.met(Path::DeviceClockJumps);
                say!(self, self.devices[at].id, "clock jumps {years} years");
            }
            11 => {
                let minutes = i64::try_from(self.rng.within(0, 120)).unwrap_or(0) - 60;
                self.hub.wall_offset = minutes * 60_000;
                self.coverage.met(Path::HubClockJumps);
                say!(self, "hub", "clock jumps {minutes} minutes");
            }
            12 => self.move_device(at),
            _ => self.break_hub_stream(),
        }
    }

    /// A container or a sandbox dies by itself.
    fn kill_something(&mut self, at: At) {
        let runs: Vec<String> = self.devices[at]
            .runtime
            .containers
            .iter()
            .filter(|c| c.runs())
            .map(|c| c.seen.id.clone())
            .collect();
        let Some(id) = self.rng.pick(&runs).cloned() else {
            return;
        };
        if self.rng.below(3) > 0 {
            self.coverage.met(Path::ContainerDies);
            let code = i32::from(self.rng.flip());
            return self.exit(at, &id, code);
        }
        let sandbox = self.devices[at]
            .runtime
            .get(&id)
            .map(|c| c.seen.sandbox_id.clone());
        if let Some(sandbox) = sandbox {
            self.coverage.met(Path::SandboxDies);
            say!(self, self.devices[at].id, "sandbox {sandbox} dies");
            let now = self.now;
            let wall = self.devices[at].wall(now);
            self.devices[at].runtime.kill_sandbox(&sandbox, now, wall);
            self.hint(at);
        }
    }
}
