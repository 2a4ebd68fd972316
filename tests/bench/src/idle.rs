//! What an idle device sends and receives per day, in the cellular link class.

use std::time::Duration;

use serde::Serialize;

use crate::BenchError;
use crate::ours::Ours;
use crate::stage::blocking;
use crate::statistics::float;
use crate::traffic::{Meter, Traffic};

const LINK: &str = "cellular";
/// The class's interval; the window is a multiple of it, so that every phase sees the same number of beats.
const KEEP_ALIVE: Duration = Duration::from_mins(4);
/// What belongs to a connection being made (status after the hello, acknowledgements) is over by then.
const CONNECTED: Duration = Duration::from_secs(30);
const DAY: f64 = 86_400.0;
const PROGRESS: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize)]
pub struct IdleReport {
    /// Seconds.
    pub window: f64,
    /// One connection: the end of the one before, TCP and TLS handshakes without resumption, hello, first report.
    pub connect: Traffic,
    /// The window after it.
    pub idle: Traffic,
    /// `connect + idle × 86 400 s / window`, in IP bytes, and the same of what TCP carried.
    pub ip_bytes_per_day: f64,
    pub tcp_payload_per_day: f64,
    /// Of the window alone, extrapolated to a day; see [`Traffic::mqtt`].
    pub mqtt_bytes_per_day: f64,
}

/// Puts the device in the class, lets it connect anew, and counts for `beats` keep-alive intervals.
///
/// # Errors
/// [`BenchError::Lab`], [`BenchError::Site`] when a command fails.
pub async fn measure(ours: Ours, beats: u32) -> anyhow::Result<IdleReport> {
    let (ours, meter) = blocking(move || {
        ours.set_link(LINK)?;
        // The agent learns its class from the hub when it connects, and dials with it from the next time on, as long as it lives.
        ours.stop_agent()?;
        ours.start_agent()?;
        let meter = Meter::install(ours.device(), ours.device_port())?;
        ours.restart_hub()?;
        Ok::<_, BenchError>((ours, meter))
    })
    .await?;
    tokio::time::sleep(CONNECTED).await;
    let connect = meter.read()?;
    let window = KEEP_ALIVE * beats;
    eprintln!(
        "connected with {} bytes; counting for {window:?}",
        connect.bytes()
    );
    let begun = tokio::time::Instant::now();
    let mut last = connect;
    while begun.elapsed() < window {
        tokio::time::sleep(PROGRESS.min(window.saturating_sub(begun.elapsed()))).await;
        let now = meter.read()?;
        if now != last {
            let news = now - last;
            eprintln!(
                "{:>5.0} s: {} bytes up, {} down in {} packets",
                begun.elapsed().as_secs_f64(),
                news.up.bytes,
                news.down.bytes,
                news.packets()
            );
            last = now;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    // Reading it proves that the agent lived through the window.
    crate::side::pid(&ours.agent())?;
    Ok(IdleReport::new(connect, last - connect, seconds))
}

impl IdleReport {
    fn new(connect: Traffic, idle: Traffic, window: f64) -> Self {
        let extrapolated = |of: fn(&Traffic) -> u64| as_float(of(&idle)) * DAY / window;
        let per_day = |of: fn(&Traffic) -> u64| as_float(of(&connect)) + extrapolated(of);
        Self {
            window,
            connect,
            idle,
            ip_bytes_per_day: per_day(Traffic::bytes),
            tcp_payload_per_day: per_day(Traffic::tcp_payload),
            mqtt_bytes_per_day: extrapolated(Traffic::mqtt),
        }
    }

    pub fn print(&self) {
        println!(
            "one connection: {} IP bytes in {} packets ({} bytes of TLS)",
            self.connect.bytes(),
            self.connect.packets(),
            self.connect.tcp_payload()
        );
        println!(
            "idle for {:.0} s: {} bytes up in {} packets, {} down in {}",
            self.window,
            self.idle.up.bytes,
            self.idle.up.packets,
            self.idle.down.bytes,
            self.idle.down.packets
        );
        println!(
            "per day, one connection + idle × 86400 / {:.0}: {:.3} MB of IP, of that {:.3} MB of TLS; goal: at most 0.3 MB of IP\n\
             per day of MQTT, without the connection: {:.3} MB",
            self.window,
            self.ip_bytes_per_day / 1e6,
            self.tcp_payload_per_day / 1e6,
            self.mqtt_bytes_per_day / 1e6
        );
    }
}

fn as_float(bytes: u64) -> f64 {
    float(usize::try_from(bytes).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Count;

    #[test]
    fn a_day_is_one_connection_and_the_window_extrapolated() {
        let traffic = |bytes| Traffic {
            up: Count {
                packets: 1,
                data_packets: 1,
                bytes,
            },
            down: Count::default(),
        };
        let report = IdleReport::new(traffic(5000), traffic(152), 864.0);
        assert!((report.ip_bytes_per_day - 20_200.0).abs() < 1e-6);
        assert!((report.tcp_payload_per_day - (4948.0 + 10_000.0)).abs() < 1e-6);
        assert!((report.mqtt_bytes_per_day - 7800.0).abs() < 1e-6);
    }
}
