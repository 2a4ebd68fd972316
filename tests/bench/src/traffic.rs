//! Bytes between a device and its hub, counted by nftables in the device's network namespace.

use std::net::SocketAddr;
use std::ops::Sub;
use std::time::Duration;

use lab::{Device, Program};
use serde::Serialize;
use serde_json::Value;

use crate::BenchError;

const TABLE: &str = "outrigger_bench";
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// An IPv4 header and a TCP header with timestamps, which Linux sends with every segment but the first two.
const HEADERS: u64 = 20 + 32;
/// What TLS 1.3 adds to a message: record header, content type and tag (RFC 8446, 5.2).
const RECORD: u64 = 5 + 1 + 16;

/// One direction. Bytes are IP packets as a whole, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub packets: u64,
    /// Of those, packets that carry more than headers.
    pub data_packets: u64,
    pub bytes: u64,
}

/// Both directions, seen from the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    pub up: Count,
    pub down: Count,
}

impl Traffic {
    /// IP bytes of both directions.
    pub fn bytes(&self) -> u64 {
        self.up.bytes + self.down.bytes
    }

    pub fn packets(&self) -> u64 {
        self.up.packets + self.down.packets
    }

    /// What TCP carried: TLS records, and in them MQTT. Computed from the counts, with the headers that Linux uses.
    pub fn tcp_payload(&self) -> u64 {
        self.bytes().saturating_sub(HEADERS * self.packets())
    }

    /// What TLS carried, computed for a connection at rest, where each packet with data is one record: of a handshake it means nothing.
    pub fn mqtt(&self) -> u64 {
        let records = self.up.data_packets + self.down.data_packets;
        self.tcp_payload().saturating_sub(RECORD * records)
    }
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            data_packets: self.data_packets.saturating_sub(earlier.data_packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            up: self.up - earlier.up,
            down: self.down - earlier.down,
        }
    }
}

/// Counters in a namespace. They go with it.
#[derive(Clone, Debug)]
pub struct Meter {
    device: Device,
}

impl Meter {
    /// Starts to count TCP between the device and this address. At most once per device.
    ///
    /// A segment that the kernel has not cut yet counts once, so the TLS handshake's longest flights are counted with up to two headers too few.
    ///
    /// # Errors
    /// [`BenchError::Lab`] when `nft` fails.
    pub fn install(device: &Device, hub: SocketAddr) -> Result<Self, BenchError> {
        let meter = Self {
            device: device.clone(),
        };
        let (ip, port) = (hub.ip().to_string(), hub.port().to_string());
        meter.nft(&["add", "table", "ip", TABLE])?;
        for (chain, hook, address, side) in [
            ("up", "output", "daddr", "dport"),
            ("down", "input", "saddr", "sport"),
        ] {
            let hooked = ["{", "type", "filter", "hook", hook, "priority", "0", ";", "}"];
            meter.nft(&[["add", "chain", "ip", TABLE, chain].as_slice(), &hooked].concat())?;
            let (headers, data) = (HEADERS.to_string(), data_counter(chain));
            let matched = ["ip", address, &ip, "tcp", side, &port];
            let all = ["counter", "name", chain];
            let with_data = ["ip", "length", ">", &headers, "counter", "name", &data];
            for (counter, rule) in [(chain, all.as_slice()), (&data, &with_data)] {
                meter.nft(&["add", "counter", "ip", TABLE, counter])?;
                meter.nft(&[&["add", "rule", "ip", TABLE, chain], matched.as_slice(), rule].concat())?;
            }
        }
        Ok(meter)
    }

    /// What was counted since the start.
    ///
    /// # Errors
    /// [`BenchError::Lab`], [`BenchError::Unreadable`].
    pub fn read(&self) -> Result<Traffic, BenchError> {
        let listed = self.nft(&["--json", "list", "counters", "table", "ip", TABLE])?;
        parse(&listed).ok_or_else(|| BenchError::Unreadable {
            path: "nft --json list counters".to_owned(),
            problem: "a counter is missing",
        })
    }

    fn nft(&self, arguments: &[&str]) -> Result<String, BenchError> {
        let program = Program::new("nft").args(arguments.iter().copied());
        Ok(self.device.run(&program, COMMAND_LIMIT)?.stdout)
    }
}

fn data_counter(chain: &str) -> String {
    format!("{chain}_data")
}

fn parse(json: &str) -> Option<Traffic> {
    let document: Value = serde_json::from_str(json).ok()?;
    let objects = document.get("nftables")?.as_array()?;
    let read = |name: &str, field: &str| {
        let counters = objects.iter().filter_map(|object| object.get("counter"));
        let named = |counter: &&Value| counter.get("name").and_then(Value::as_str) == Some(name);
        counters.into_iter().find(named)?.get(field)?.as_u64()
    };
    let count = |chain: &str| {
        Some(Count {
            packets: read(chain, "packets")?,
            data_packets: read(&data_counter(chain), "packets")?,
            bytes: read(chain, "bytes")?,
        })
    };
    Some(Traffic {
        up: count("up")?,
        down: count("down")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counters_are_found_by_name_and_headers_are_no_payload() {
        let counter = |name: &str, packets: u64, bytes: u64| json!({ "counter": { "family": "ip", "name": name, "table": "t", "packets": packets, "bytes": bytes } });
        let counters = [
            json!({ "metainfo": { "version": "1.0.6" } }),
            counter("down", 2, 104),
            counter("down_data", 0, 0),
            counter("up", 1, 76),
            counter("up_data", 1, 76),
        ];
        let found = parse(&json!({ "nftables": counters }).to_string()).unwrap();
        assert_eq!(found.bytes(), 180);
        assert_eq!(found.tcp_payload(), 24);
        assert_eq!(found.mqtt(), 2, "a PINGREQ");
        assert_eq!((found - found).bytes(), 0);
        assert_eq!(parse(r#"{"nftables": []}"#), None);
        assert_eq!(parse("nonsense"), None);
    }
}
