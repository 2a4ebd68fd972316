//! REST over TLS: who may do what, how refusals look, what is idempotent.

use std::collections::BTreeMap;

use edge_protocol::DeviceId;
use edge_protocol::v1::{DeploymentState, LinkClass, Source, TargetSpec};
use iot_hub::grant::{Grant, Role, SourceRule};
use iot_hub_client::api::{CreateEnrolmentToken, DeviceState, Problem, ProblemCode};
use iot_hub_client::{ClientError, Disposition, EventFilter};

use crate::device::Device;
use crate::site::{Site, deployment, source, uid, with_config};

fn code(error: &ClientError) -> ProblemCode {
    error
        .problem()
        .unwrap_or_else(|| panic!("no problem document: {error:?}"))
        .code
}

#[tokio::test]
async fn only_a_valid_token_opens_the_door() {
    let site = Site::start().await;
    let admin = site.admin().await;
    admin.devices().await.unwrap();
    for wrong in ["", "x", "x.y", &"a.".repeat(500)] {
        let error = site.client_with(wrong).devices().await.unwrap_err();
        assert_eq!(
            (code(&error), error.disposition()),
            (ProblemCode::Unauthenticated, Disposition::Fatal),
            "{wrong:?}"
        );
    }
    let (_, other) = iot_hub::token::api("x", &Grant::unrestricted(Role::Admin));
    assert_eq!(
        code(&site.client_with(&other).devices().await.unwrap_err()),
        ProblemCode::Unauthenticated
    );
}

#[tokio::test]
async fn a_client_trusts_its_pinned_authority_only() {
    let (site, other) = (Site::start().await, Site::start().await);
    let options = iot_hub_client::ClientOptions::new(
        site.rest_url(),
        other.anchors.clone(),
        iot_hub_client::ApiToken::new("x.y"),
    );
    let error = iot_hub_client::HubClient::new(options)
        .unwrap()
        .devices()
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Retry);
}

#[tokio::test]
async fn roles_and_sources_are_held_to() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let viewer = site.client(Grant::unrestricted(Role::Viewer)).await;
    let rule = SourceRule {
        cluster_uid: Some("cluster-1".into()),
        node: Some("outrigger".into()),
    };
    let provider = site
        .client(Grant {
            sources: vec![rule],
            ..Grant::unrestricted(Role::Provider)
        })
        .await;
    let rule = SourceRule {
        cluster_uid: Some("cluster-2".into()),
        node: None,
    };
    let stranger = site
        .client(Grant {
            sources: vec![rule],
            ..Grant::unrestricted(Role::Provider)
        })
        .await;
    let spec = deployment("u1", "*");

    assert_eq!(
        code(&viewer.put_deployment(&spec).await.unwrap_err()),
        ProblemCode::Forbidden
    );
    assert_eq!(
        code(&stranger.put_deployment(&spec).await.unwrap_err()),
        ProblemCode::NotYours
    );
    provider.put_deployment(&spec).await.unwrap();
    assert_eq!(viewer.deployments(None).await.unwrap().items.len(), 1);
    assert!(stranger.deployments(None).await.unwrap().items.is_empty());
    assert!(stranger.deployment(&uid("u1")).await.unwrap_err().is_not_found());
    assert_eq!(
        code(&stranger.delete_deployment(&uid("u1"), None).await.unwrap_err()),
        ProblemCode::NotYours
    );
    assert_eq!(
        code(&stranger.release_deployment(&uid("u1")).await.unwrap_err()),
        ProblemCode::NotYours
    );
    let ask = CreateEnrolmentToken::default();
    for client in [&viewer, &provider] {
        assert_eq!(
            code(&client.create_enrolment_token(&ask).await.unwrap_err()),
            ProblemCode::Forbidden
        );
        assert_eq!(code(&client.audit().await.unwrap_err()), ProblemCode::Forbidden);
        let id = DeviceId::new("d").unwrap();
        assert_eq!(
            code(&client.set_tags(&id, BTreeMap::new()).await.unwrap_err()),
            ProblemCode::Forbidden
        );
    }
    provider.delete_deployment(&uid("u1"), Some(0)).await.unwrap();
    let actions: Vec<_> = admin
        .audit()
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|entry| entry.action)
        .collect();
    assert_eq!(actions, ["delete-deployment", "put-deployment"]);
}

#[tokio::test]
async fn a_principals_scope_is_in_force_and_out_of_sight() {
    let site = Site::start().await;
    let token = site
        .enrolment_token(CreateEnrolmentToken {
            uses: 2,
            ..CreateEnrolmentToken::default()
        })
        .await;
    let admin = site.admin().await;
    for (id, city) in [("d1", "graz"), ("d2", "wien")] {
        let device = Device::enrol(&site, &token, id).await.answer.device;
        admin
            .set_tags(&device, BTreeMap::from([("site".into(), city.into())]))
            .await
            .unwrap();
    }
    let grant = Grant {
        devices: "tags.site = 'graz'".into(),
        ..Grant::unrestricted(Role::Provider)
    };
    let provider = site.client(grant).await;
    let seen: Vec<_> = provider
        .devices()
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|device| device.id.to_string())
        .collect();
    assert_eq!(seen, ["d1"]);
    assert!(
        provider
            .device(&DeviceId::new("d2").unwrap())
            .await
            .unwrap_err()
            .is_not_found()
    );

    let spec = deployment("u1", "*");
    provider.put_deployment(&spec).await.unwrap();
    assert_eq!(
        provider.deployment(&uid("u1")).await.unwrap().spec,
        spec,
        "it reads back what it wrote"
    );
    assert_eq!(
        admin.deployment(&uid("u1")).await.unwrap().spec.target.scope,
        "(tags.site = 'graz')"
    );
    let assigned: Vec<_> = admin
        .assignments(&uid("u1"))
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|one| one.device.to_string())
        .collect();
    assert_eq!(assigned, ["d1"]);

    // A deployment of another, wider scope: its devices out of scope stay out of sight.
    admin.put_deployment(&deployment("u3", "*")).await.unwrap();
    let assigned = provider.assignments(&uid("u3")).await.unwrap().items;
    assert_eq!(
        assigned.iter().map(|one| one.device.as_str()).collect::<Vec<_>>(),
        ["d1"]
    );

    let sly = TargetSpec {
        condition: "*".into(),
        scope: "tags.a = 'b') OR (tags.site = 'wien'".into(),
    };
    let error = provider
        .put_deployment(&edge_protocol::v1::DeploymentSpec {
            target: sly,
            ..deployment("u2", "*")
        })
        .await;
    assert_eq!(code(&error.unwrap_err()), ProblemCode::BadCondition);
}

/// A page holds the newest that the caller may read, however much others have to say.
#[tokio::test]
async fn events_out_of_scope_do_not_crowd_out_those_in_it() {
    let site = Site::start().await;
    for id in ["quiet", "loud"] {
        let token = site
            .enrolment_token(CreateEnrolmentToken {
                group: id.to_owned(),
                ..CreateEnrolmentToken::default()
            })
            .await;
        Device::enrol(&site, &token, id).await;
    }
    let event = |seq: u64| {
        serde_json::from_value(serde_json::json!({
            "seq": seq, "uid": "u1", "level": "Normal", "reason": "Pulled", "message": "",
            "at": {"boot_id": "00000000-0000-0000-0000-000000000001", "mono_ms": seq, "wall_ms": seq, "wall_trusted": true},
        }))
        .unwrap()
    };
    let put = |id: &str, seq| iot_hub_core::Write::PutEvent {
        device: DeviceId::new(id).unwrap(),
        event: event(seq),
    };
    let writes = (2..1_010).map(|seq| put("loud", seq)).chain([put("quiet", 1)]);
    let job = iot_hub_store::Job {
        tx: iot_hub_core::Tx {
            id: edge_protocol::TxId(1),
            writes: writes.collect(),
            changes: Vec::new(),
        },
        at_ms: 0,
        cause: None,
    };
    let store = site.store().await;
    iot_hub_store::HubStore::commit(&store, vec![job]).await.unwrap();
    let grant = Grant {
        devices: "group = 'quiet'".into(),
        ..Grant::unrestricted(Role::Viewer)
    };
    let viewer = site.client(grant).await;
    let count = async |device: Option<&str>| {
        let filter = EventFilter {
            device: device.map(|id| DeviceId::new(id).unwrap()),
            ..EventFilter::default()
        };
        viewer.events(&filter).await.unwrap().items.len()
    };
    assert_eq!(count(None).await, 1);
    assert_eq!((count(Some("quiet")).await, count(Some("loud")).await), (1, 0));
    let all = site.admin().await.events(&EventFilter::default()).await.unwrap();
    assert_eq!(all.items.len(), 1_000);
}

#[tokio::test]
async fn putting_the_same_again_changes_nothing() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let spec = deployment("u1", "tags.a = 'b'");
    admin.put_deployment(&spec).await.unwrap();
    let before = admin.deployments(Some(&source())).await.unwrap();
    admin.put_deployment(&spec).await.unwrap();
    assert_eq!(admin.deployments(Some(&source())).await.unwrap(), before);
    let changed = edge_protocol::v1::DeploymentSpec {
        name: "other".into(),
        ..spec
    };
    admin.put_deployment(&changed).await.unwrap();
    let after = admin.deployments(Some(&source())).await.unwrap();
    assert!(after.revision > before.revision);
    assert!(after.items[0].revision > before.items[0].revision);
    let other = Source {
        node: "other".into(),
        ..source()
    };
    assert!(admin.deployments(Some(&other)).await.unwrap().items.is_empty());
    admin.release_deployment(&uid("u1")).await.unwrap();
    admin.release_deployment(&uid("u1")).await.unwrap();
    let state = admin.deployment(&uid("u1")).await.unwrap().state;
    assert!(matches!(state, DeploymentState::Released { .. }));
}

#[tokio::test]
async fn refusals_name_field_and_position() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let problem = |error: ClientError| -> Problem { error.problem().unwrap().clone() };

    let error = admin
        .put_deployment(&deployment("u1", "tags.a = "))
        .await
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::Reject);
    let refusal = problem(error);
    assert_eq!((refusal.code, refusal.status), (ProblemCode::BadCondition, 422));
    assert_eq!(refusal.field.as_deref(), Some("target.condition"));
    assert!(
        refusal.position.is_some_and(|position| position >= 9),
        "{refusal:?}"
    );

    let bad = edge_protocol::v1::DeploymentSpec {
        manifest: "{".into(),
        ..deployment("u1", "*")
    };
    let refusal = problem(admin.put_deployment(&bad).await.unwrap_err());
    assert_eq!(
        (refusal.code, refusal.field.as_deref()),
        (ProblemCode::BadManifest, Some("manifest"))
    );

    let id = DeviceId::new("nobody").unwrap();
    let tags = BTreeMap::from([("a b".to_owned(), String::new())]);
    let refusal = problem(admin.set_tags(&id, tags).await.unwrap_err());
    assert_eq!(
        (refusal.code, refusal.field.as_deref()),
        (ProblemCode::BadTags, Some("tags.a b"))
    );
    assert_eq!(
        code(&admin.set_link(&id, LinkClass::Lan).await.unwrap_err()),
        ProblemCode::NoSuchDevice
    );
    assert_eq!(
        code(
            &admin
                .set_device_state(&id, DeviceState::Disabled)
                .await
                .unwrap_err()
        ),
        ProblemCode::NoSuchDevice
    );
    assert_eq!(
        code(&admin.delete_deployment(&uid("u1"), None).await.unwrap_err()),
        ProblemCode::NoSuchDeployment
    );
    assert!(admin.assignments(&uid("u1")).await.unwrap_err().is_not_found());
    assert!(
        admin
            .revoke_enrolment_token("nope")
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(
        admin
            .events(&EventFilter::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn http_itself_is_refused_in_the_same_form() {
    let site = Site::start().await;
    let (record, token) = iot_hub::token::api("t", &Grant::unrestricted(Role::Admin));
    iot_hub_store::HubStore::put_api_token(&site.store().await, &record)
        .await
        .unwrap();
    let anchor = reqwest::Certificate::from_pem(site.anchors.as_bytes()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    // Of several tests in one process the first sets it.
    drop(provider.install_default());
    let http = reqwest::Client::builder()
        .tls_certs_only([anchor])
        .build()
        .unwrap();
    let url = |path: &str| format!("{}{path}", site.rest_url());
    let deployment_url = url("/api/v1/deployments/u1");
    let json = |body: String| {
        http.put(&deployment_url)
            .header("content-type", "application/json")
            .body(body)
    };
    for (request, status, expect) in [
        (http.get(url("/nowhere")), 404, ProblemCode::NotFound),
        (
            http.post(url("/api/v1/devices")),
            405,
            ProblemCode::MethodNotAllowed,
        ),
        (
            http.get(url("/api/v1/devices/NOT-an-id")),
            400,
            ProblemCode::BadRequest,
        ),
        (
            http.get(url("/api/v1/deployments?sources=1")),
            400,
            ProblemCode::BadRequest,
        ),
        (
            http.put(&deployment_url).body("{}"),
            415,
            ProblemCode::UnsupportedMediaType,
        ),
        (json("{".into()), 400, ProblemCode::BadRequest),
        (json(" ".repeat(13 << 20)), 413, ProblemCode::TooLarge),
        (
            http.delete(format!("{deployment_url}?reason=superseded")),
            422,
            ProblemCode::BadValue,
        ),
    ] {
        let response = request.bearer_auth(&token).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{expect}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.json::<Problem>().await.unwrap().code, expect);
    }
    let without = http.get(url("/api/v1/devices")).send().await.unwrap();
    assert_eq!(
        (without.status().as_u16(), &without.headers()["www-authenticate"]),
        (401, &"Bearer".parse().unwrap())
    );

    let health = format!("http://{}", site.addresses.health);
    let plain = reqwest::Client::new();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            plain
                .get(format!("{health}{path}"))
                .send()
                .await
                .unwrap()
                .status()
                .as_u16(),
            200
        );
    }
    let metrics = plain
        .get(format!("{health}/metrics"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("hub_commits_total") && metrics.contains("mqtt_sessions"),
        "{metrics}"
    );
}

#[tokio::test]
async fn objects_come_with_the_put_and_are_not_read_back() {
    let site = Site::start().await;
    let admin = site.admin().await;
    let put = with_config(deployment("u1", "*"), "settings", "some text");
    let error = admin.put_deployment(&put.spec).await.unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!(
        (problem.code, problem.field.as_deref()),
        (ProblemCode::BadObject, Some("objects"))
    );
    assert!(problem.detail.contains("settings"), "{problem}");
    admin.put_deployment_with(&put).await.unwrap();
    let held = admin.deployment(&uid("u1")).await.unwrap();
    assert_eq!(held.spec, put.spec);
    assert!(!serde_json::to_string(&held).unwrap().contains("some text"));
    // Confirmed without them.
    admin.put_deployment(&put.spec).await.unwrap();
    assert_eq!(
        admin.deployment(&uid("u1")).await.unwrap().revision,
        held.revision
    );

    // All that a deployment may have gets through, and quotes cost twice.
    let large = "\"".repeat(1_000_000);
    let mut put = with_config(deployment("u2", "*"), "a", &large);
    let second = with_config(put.spec, "b", &format!("{large}b"));
    put = iot_hub_client::api::PutDeployment {
        objects: put.objects.into_iter().chain(second.objects).collect(),
        spec: second.spec,
    };
    admin.put_deployment_with(&put).await.unwrap();
}
