//! What runs, for people and for scripts.

use anyhow::Context as _;
use lab::Lab;
use serde::Serialize;

#[derive(Serialize)]
struct Status {
    processes: Vec<ProcessRow>,
    devices: Vec<DeviceRow>,
}

#[derive(Serialize)]
struct ProcessRow {
    name: String,
    /// Absent when it does not run.
    pid: Option<i32>,
    log: String,
}

#[derive(Serialize)]
struct DeviceRow {
    id: String,
    /// Of its agent; absent when it does not run.
    pid: Option<i32>,
    log: String,
    /// The socket of its containerd.
    containerd: String,
}

fn status(lab: &Lab) -> anyhow::Result<Status> {
    let mut processes = Vec::new();
    for process in lab.processes()? {
        processes.push(ProcessRow {
            name: process.name().to_owned(),
            pid: process.pid()?,
            log: process.log()?.display().to_string(),
        });
    }
    let mut devices = Vec::new();
    for device in lab.devices()? {
        let agent = device.process("agent");
        devices.push(DeviceRow {
            id: device.name().to_owned(),
            pid: agent.pid().ok().flatten(),
            log: agent
                .log()
                .map(|log| log.display().to_string())
                .unwrap_or_default(),
            containerd: device.containerd_socket().display().to_string(),
        });
    }
    Ok(Status { processes, devices })
}

pub fn json(lab: &Lab) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&status(lab)?)?);
    Ok(())
}

pub fn table(lab: &Lab) -> anyhow::Result<()> {
    let Status { processes, devices } = status(lab)?;
    let pid = |pid: Option<i32>| pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    println!("{:<36} {:>8}  LOG", "PROCESS", "PID");
    for row in processes {
        println!("{:<36} {:>8}  {}", row.name, pid(row.pid), row.log);
    }
    println!("\n{:<36} {:>8}  CONTAINERD", "DEVICE", "PID");
    for row in devices {
        println!("{:<36} {:>8}  {}", row.id, pid(row.pid), row.containerd);
    }
    Ok(())
}

/// `name` or `name:tag`; the tag is `v1` if it is not given.
pub fn images(lab: &Lab, print: Option<&str>) -> anyhow::Result<()> {
    let registry = lab
        .registry()
        .context("the registry comes with the first device; run `cargo xtask up`")?;
    if let Some(wanted) = print {
        let (name, tag) = wanted.split_once(':').unwrap_or((wanted, "v1"));
        anyhow::ensure!(
            is_known(name, tag),
            "there is no image {name}:{tag}; there are {} with the tags {}",
            test_images::NAMES.join(", "),
            test_images::TAGS.join(", ")
        );
        println!("{}", registry.reference(name, tag));
        return Ok(());
    }
    for name in test_images::NAMES {
        for tag in test_images::TAGS {
            println!("{}", registry.reference(name, tag));
        }
    }
    Ok(())
}

fn is_known(name: &str, tag: &str) -> bool {
    test_images::NAMES.contains(&name) && test_images::TAGS.contains(&tag)
}
