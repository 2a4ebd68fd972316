//! Version, conditions and images.

use edge_agent_cri::{CriErrorKind, Disposition};

use crate::containerd::{BUSYBOX, Containerd};

#[tokio::test]
async fn runtime_and_images_answer() {
    let containerd = Containerd::start().await;
    let client = containerd.client();

    let version = client.version().await.unwrap();
    assert_eq!(
        (
            version.runtime_name.as_str(),
            version.runtime_api_version.as_str()
        ),
        ("containerd", "v1")
    );
    let conditions = client.status().await.unwrap().status.unwrap().conditions;
    assert!(
        conditions.iter().any(|c| c.r#type == "RuntimeReady" && c.status),
        "{conditions:?}"
    );

    let image = client.image_status(BUSYBOX).await.unwrap().expect("was imported");
    assert_eq!(image.repo_tags, [BUSYBOX]);
    assert!(image.id.starts_with("sha256:") && image.size > 0, "{image:?}");
    assert_eq!(client.image_status(&image.id).await.unwrap(), Some(image.clone()));
    assert!(client.list_images().await.unwrap().contains(&image));
    assert!(!client.image_fs_info().await.unwrap().is_empty());

    // An absent image is an answer, not an error; removing it is success, twice.
    assert_eq!(
        client.image_status("outrigger.test/absent:1").await.unwrap(),
        None
    );
    client.remove_image(BUSYBOX).await.unwrap();
    client.remove_image(BUSYBOX).await.unwrap();
    assert_eq!(client.image_status(BUSYBOX).await.unwrap(), None);

    // Nobody listens on port 1, so the pull fails, in the runtime's words, and may be tried again.
    let reference = "127.0.0.1:1/absent:1";
    let error = client.pull_image(reference, None).await.unwrap_err();
    assert_eq!(
        (error.kind, error.disposition()),
        (CriErrorKind::Failed, Disposition::Retry),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!("PullImage {reference}: failed in the runtime")
    );
    assert!(error.detail().contains("refused"), "{}", error.detail());
}
