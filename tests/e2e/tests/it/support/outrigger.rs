//! The `outrigger` command line, as an operator uses it.

use std::time::Duration;

use serde_json::Value;

use super::TestSite;

const LIMIT: Duration = Duration::from_secs(30);

impl TestSite {
    /// Runs `outrigger` and returns what it printed.
    #[track_caller]
    pub fn outrigger(&self, arguments: &[&str]) -> String {
        self.try_outrigger(arguments)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`outrigger`](Self::outrigger), with the failure as text.
    pub fn try_outrigger(&self, arguments: &[&str]) -> Result<String, String> {
        let cli = self.hub().cli(self.programs()).unwrap();
        let output = cli.args(arguments.iter().copied()).run(LIMIT);
        output
            .map(|output| output.stdout)
            .map_err(|error| error.to_string())
    }

    /// What a listing command says of each item.
    #[track_caller]
    pub fn listed(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.outrigger(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// The devices that a pod's deployment is assigned to, with the rung that each has reached.
    #[track_caller]
    pub fn assigned(&self, pod_uid: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut assigned: Vec<_> = self
            .listed(&["deployment", "assignments", pod_uid])
            .iter()
            .map(|assignment| (text(&assignment["device"]), text(&assignment["rung"])))
            .collect();
        assigned.sort();
        assigned
    }
}
