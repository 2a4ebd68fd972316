//! Each way in which a request can be somebody's attempt, and none of them passes.

use serde_json::json;

use super::*;

const ACCOUNT: &str = "system:serviceaccount:outrigger-system:outrigger-kubelet";
const OURS: &str = "outrigger://hub/outrigger";

fn us() -> Requestor {
    Requestor {
        username: ACCOUNT.to_owned(),
        uid: "account-1".to_owned(),
    }
}

fn right() -> (RequestSpec, Requested) {
    let spec = RequestSpec {
        request: String::new(),
        signer_name: SIGNER.to_owned(),
        usages: USAGES.map(str::to_owned).into(),
        username: ACCOUNT.to_owned(),
        uid: "account-1".to_owned(),
    };
    let requested = Requested {
        organizations: vec![ORGANIZATION.to_owned()],
        common_names: vec!["system:node:outrigger".to_owned()],
        hosts: vec!["outrigger".to_owned()],
        ips: vec!["192.0.2.7".parse().unwrap()],
        further: Vec::new(),
    };
    (spec, requested)
}

fn node(provider_id: &str) -> ObservedNode {
    serde_json::from_value(json!({
        "spec": {"providerID": provider_id},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": "outrigger"},
            {"type": "Nonsense", "address": "192.0.2.8"},
        ]},
    }))
    .unwrap()
}

/// As the approver judges: ours is the Node `outrigger` alone.
fn judge(spec: &RequestSpec, requested: &Requested) -> Result<(), Unfit> {
    let name = node_of(spec, Some(requested), &us())?;
    let ours = (name == "outrigger").then_some(OURS);
    judge_names(name, requested, ours, Some(&node(OURS)))
}

#[track_caller]
fn refused(why: &str, may_pass: bool, change: impl FnOnce(&mut RequestSpec, &mut Requested)) {
    let (mut spec, mut requested) = right();
    change(&mut spec, &mut requested);
    let unfit = judge(&spec, &requested).expect_err(why);
    assert!(unfit.to_string().contains(why), "{unfit}");
    assert_eq!(unfit.may_pass(), may_pass, "{unfit}");
}

#[test]
fn only_what_this_process_asks_for_its_own_nodes_passes() {
    let (spec, requested) = right();
    assert_eq!(judge(&spec, &requested), Ok(()));
    let mut reordered = spec;
    reordered.usages.reverse();
    assert_eq!(judge(&reordered, &requested), Ok(()));

    let client = "kubernetes.io/kube-apiserver-client-kubelet";
    refused(client, false, |spec, _| spec.signer_name = client.to_owned());
    // A node itself, another account, and an earlier account of our name.
    let itself = "system:node:outrigger";
    refused(itself, false, |spec, _| spec.username = itself.to_owned());
    refused("filed it", false, |spec, _| spec.uid = "account-0".to_owned());
    refused("server auth, client auth", false, |spec, _| {
        spec.usages.push("client auth".to_owned());
    });
    refused("client auth", false, |spec, _| {
        spec.usages[1] = "client auth".to_owned();
    });
    refused("its usages", false, |spec, _| spec.usages.clear());
    refused("basicConstraints", false, |_, asked| {
        asked.further.push("basicConstraints".to_owned());
    });
    refused("subject", false, |_, asked| asked.organizations.clear());
    refused("subject", false, |_, asked| {
        asked.organizations.push("system:masters".to_owned());
    });
    refused("subject", false, |_, asked| {
        asked.common_names.push("admin".to_owned());
    });
    refused("subject", false, |_, asked| {
        asked.common_names[0] = "system:node:".to_owned();
    });
    refused("subject", false, |_, asked| {
        asked.common_names[0] = "kubernetes".to_owned();
    });
    refused("worker is no node of ours", true, |_, asked| {
        asked.common_names[0] = "system:node:worker".to_owned();
    });
    refused("192.0.2.66", true, |_, asked| {
        asked.ips.push("192.0.2.66".parse().unwrap());
    });
    refused("asks for outrigger, 192.0.2.66", true, |_, asked| {
        asked.ips[0] = "192.0.2.66".parse().unwrap();
    });
    refused("kubernetes.default.svc", true, |_, asked| {
        asked.hosts.push("kubernetes.default.svc".to_owned());
    });
    refused("asks for outrigger,", true, |_, asked| asked.ips.clear());
    refused("publishes outrigger, 192.0.2.7", true, |_, asked| {
        asked.hosts.clear();
    });
}

#[test]
fn a_node_is_ours_by_its_provider_id_and_nobody_is_who_we_are_while_that_is_unknown() {
    let (spec, requested) = right();
    for (provider_id, observed) in [
        (Some(OURS), Some(node("aws:///i-1"))),
        (Some(OURS), None),
        (None, Some(node(""))),
        (None, Some(node(OURS))),
    ] {
        let unfit = judge_names("outrigger", &requested, provider_id, observed.as_ref()).unwrap_err();
        assert!(matches!(unfit, Unfit::ForeignNode { .. }), "{unfit}");
    }
    let nobody = RequestSpec {
        username: String::new(),
        uid: String::new(),
        ..spec
    };
    let unfit = node_of(&nobody, Some(&requested), &Requestor::default()).unwrap_err();
    assert!(unfit.is_foreign());
}

#[test]
fn a_request_stands_as_its_conditions_say() {
    #[track_caller]
    fn check(status: &Value, expected: &Standing) {
        let request: SigningRequest = serde_json::from_value(json!({"status": status})).unwrap();
        assert_eq!(request.standing(), *expected);
    }
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "R", "message": "m"});
    check(&json!({}), &Standing::Pending);
    check(&json!({"certificate": "QQ=="}), &Standing::Pending);
    let approved = condition("Approved");
    check(&json!({"conditions": [approved]}), &Standing::Approved);
    check(
        &json!({"conditions": [approved], "certificate": "QQ=="}),
        &Standing::Issued("QQ==".into()),
    );
    check(
        &json!({"conditions": [condition("Denied")]}),
        &Standing::Denied("R: m".into()),
    );
    check(
        &json!({"conditions": [approved, condition("Failed")], "certificate": ""}),
        &Standing::Failed("R: m".into()),
    );
}

#[test]
fn a_certificate_is_renewed_in_the_last_third_of_its_life() {
    let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
    let life = Lifetime {
        not_before: at(0),
        not_after: at(1_000),
    };
    for (draw, expected) in [(0.0, 700), (0.5, 800), (1.0, 900), (7.0, 900)] {
        assert_eq!(life.renew_at(draw), at(expected));
    }
    assert!(!life.has_ended(at(999)) && !life.has_ended(at(-1)) && life.has_ended(at(1_000)));
    let backwards = Lifetime {
        not_before: at(1_000),
        not_after: at(0),
    };
    assert!(backwards.renew_at(0.5) < at(1_000), "asked for again at once");
}

#[test]
fn names_are_covered_by_those_that_hold_them_all() {
    let names = ServingNames::of(&node(OURS));
    assert_eq!(names.to_string(), "outrigger, 192.0.2.7");
    let mut more = names.clone();
    more.ips.insert("2001:db8::7".parse().unwrap());
    assert!(more.cover(&names) && !names.cover(&more));
}

#[test]
fn a_condition_tells_which_certificate_serves() {
    let why = Unserved::new("Denied", "x".repeat(5_000));
    for (word, status, reason) in [
        (
            ServingWord::Issued { renewal: None },
            ConditionStatus::True,
            "Issued",
        ),
        (
            ServingWord::Issued {
                renewal: Some(why.clone()),
            },
            ConditionStatus::True,
            "RenewalDue",
        ),
        (ServingWord::SelfSigned { why }, ConditionStatus::False, "Denied"),
    ] {
        let condition = word.condition();
        assert_eq!((condition.status, condition.reason), (status, reason));
        assert!(condition.message.len() < 2 * TEXT);
    }
}
