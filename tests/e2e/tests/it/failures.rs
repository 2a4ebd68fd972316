//! Acceptance 7: containers that fail, as on a kubelet.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    TestSite, condition, eventually, job, pod, reason_of_waiting, restarts, server, terminations,
};

const ONE: (&str, &str) = ("target-condition", "deviceId = 'device-1'");

#[test]
fn a_memory_hog_is_killed_and_backs_off_as_on_a_kubelet() {
    let site = TestSite::start();
    let mut hog = server("hog", &["hog", "--mib", "256"]);
    hog["resources"]["limits"]["memory"] = json!("32Mi");
    site.apply(&pod("hog", &[ONE], &[hog]));

    // Start and end of each attempt, as the status told them.
    let mut attempts: BTreeMap<u64, (i64, i64)> = BTreeMap::new();
    let backing_off = eventually("the third attempt has ended and waits", || {
        let pod = site.pod("hog").unwrap();
        let status = &pod["status"]["containerStatuses"][0];
        for state in [&status["state"]["terminated"], &status["lastState"]["terminated"]] {
            if let (Some(started), Some(finished)) =
                (seconds(&state["startedAt"]), seconds(&state["finishedAt"]))
            {
                attempts.insert(restarts(&pod), (started, finished));
            }
        }
        if restarts(&pod) >= 2 && reason_of_waiting(&pod) == "CrashLoopBackOff" {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        }
    });
    assert!(
        terminations(&backing_off).contains(&("OOMKilled", 137)),
        "{}",
        backing_off["status"]
    );
    assert_eq!(backing_off["status"]["phase"], "Running");
    // pkg/kubelet: the first restart is immediate, the second waits 10 s, the third 20 s.
    let second = attempts[&2].0 - attempts[&1].1;
    assert!(
        (9..=30).contains(&second),
        "the second restart waited {second} s: {attempts:?}"
    );
    site.kubectl(&["delete", "pod", "hog", "--timeout=60s"]);
    assert!(site.containers().is_empty());
}

/// A timestamp of the API in seconds of the day: enough for differences within a test, wrapped over midnight.
fn seconds(time: &Value) -> Option<i64> {
    let clock = time.as_str()?.split('T').nth(1)?.trim_end_matches('Z');
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok());
    Some(parts.next()?? * 3600 + parts.next()?? * 60 + parts.next()??)
}

#[test]
fn a_job_counts_failures_and_successes() {
    let site = TestSite::start();
    let fails = job("fails", 1, &[server("main", &["exit", "--code", "3"])]);
    let works = job("works", 1, &[server("main", &["exit", "--code", "0"])]);
    site.apply(&fails);
    site.apply(&works);
    let get = |name: &str| {
        site.api()
            .get(&format!("/apis/batch/v1/namespaces/default/jobs/{name}"))
            .unwrap()
    };

    eventually("the good job is complete", || {
        let job = get("works");
        if condition(&job, "Complete").0 == "True" && job["status"]["succeeded"] == 1 {
            Ok(())
        } else {
            Err(job["status"].to_string())
        }
    });
    eventually("the bad job has used up its tries", || {
        let job = get("fails");
        let (status, reason, _) = condition(&job, "Failed");
        if (status, reason) == ("True", "BackoffLimitExceeded") && job["status"]["failed"] == 2 {
            Ok(())
        } else {
            Err(job["status"].to_string())
        }
    });
    let pods = site.pods("fails");
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        assert_eq!(pod["status"]["phase"], "Failed");
        assert!(terminations(pod).contains(&("Error", 3)), "{}", pod["status"]);
        assert_eq!(restarts(pod), 0);
    }
    let done = site.pods("works");
    assert_eq!(done[0]["status"]["phase"], "Succeeded");
    assert!(terminations(&done[0]).contains(&("Completed", 0)));
    site.kubectl(&["delete", "job", "fails", "works", "--timeout=60s"]);
    site.no_pod_left("fails");
    assert!(site.containers().is_empty());
}
