//! The end-to-end suite that virtual-kubelet gives its providers, against a device node: `tests/conformance/virtual-kubelet/`, a Go module.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::stage::Upstream;

/// Where the suite makes its pods.
const NAMESPACE: &str = "default";
/// What the suite has, in version 1.13.0. One that is not run, or skipped, is missing here.
const TESTS: usize = 9;

/// Runs the suite and prints its lines as they come.
///
/// # Errors
/// Go cannot be run, or not all of the tests passed. Dropping the future ends the suite.
pub async fn run(home: &Path, parts: &Upstream) -> anyhow::Result<()> {
    stand_in(parts).await?;
    let mut suite = Command::new("go")
        .args(["test", "-count=1", "-v", "-timeout=10m", ".", "-args"])
        .arg("-kubeconfig")
        .arg(&parts.kubeconfig)
        .args(["-namespace", NAMESPACE, "-node-name", &parts.node])
        .current_dir(home.join("virtual-kubelet"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("go test")?;
    let out = suite.stdout.take().context("go test has no output")?;
    let mut lines = BufReader::new(out).lines();
    let mut passed = 0;
    while let Some(line) = lines.next_line().await? {
        println!("{line}");
        passed += usize::from(has_passed(&line));
    }
    let ended = suite.wait().await?;
    ensure!(ended.success(), "go test ended with {ended}");
    ensure!(passed == TESTS, "{passed} of {TESTS} tests passed");
    Ok(())
}

/// The suite asks for figures by the API server's proxy of pods, since a virtual kubelet is mostly a pod that is named like its Node. Ours is a process
/// here: a pod that no scheduler takes has its address.
async fn stand_in(parts: &Upstream) -> anyhow::Result<()> {
    let cluster = Cluster::connect(&parts.kubeconfig).await.context("the cluster")?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": parts.node },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{ "name": "outrigger-kubelet", "image": "none" }],
        },
        "status": { "podIP": parts.address, "podIPs": [{ "ip": parts.address }] },
    });
    cluster.create(NAMESPACE, &pod).await?;
    Ok(cluster.merge_by("status", NAMESPACE, &pod).await?)
}

/// Whether this line of `go test -v` tells of a test of the suite that passed.
fn has_passed(line: &str) -> bool {
    line.trim_start().starts_with("--- PASS: TestEndToEnd/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_test_that_passed_counts() {
        for (line, counts) in [
            ("    --- PASS: TestEndToEnd/TestGetPods (2.31s)", true),
            ("    --- SKIP: TestEndToEnd/TestGetPods (0.00s)", false),
            ("    --- FAIL: TestEndToEnd/TestGetPods (2.31s)", false),
            ("--- PASS: TestEndToEnd (20.11s)", false),
            ("=== RUN   TestEndToEnd/TestGetPods", false),
        ] {
            assert_eq!(has_passed(line), counts, "{line}");
        }
    }
}
