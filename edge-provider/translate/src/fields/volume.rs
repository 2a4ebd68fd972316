//! The lines of `volumes[]`.

use super::{Line, Rule, below, device_only, honoured, pairs, refuse};

const NETWORK: &str = "storage of a network or of a CSI driver is not supported";
const REMOVED: &str = "this volume type was removed from Kubernetes";
const USER: &str = "an owner of single files is not supported; fsGroup is";
const CLAIM: &str = "a claim belongs to one node, and a fleet pod runs on many devices";
const TOKEN: &str = "a token for devices of a fleet is not available";

pub(super) fn rules() -> Vec<Rule> {
    let volume = vec!["volumes[].".to_owned()];
    let source = vec!["volumes[].projected.sources[].".to_owned()];
    let either = [volume.clone(), source.clone()].concat();
    let files = pairs(&volume, &["configMap.", "downwardAPI.", "projected.", "secret."]);
    let objects = [pairs(&either, &["configMap.", "secret."])].concat();
    let downward = pairs(&either, &["downwardAPI."]);
    [
        below(&volume, VOLUME),
        below(&source, SOURCE),
        below(&files, FILES),
        below(&objects, OBJECT),
        below(&downward, DOWNWARD),
    ]
    .concat()
}

/// A volume of files.
const FILES: &[Line] = &[honoured("defaultMode"), refuse("defaultUser", USER)];

/// Which keys of an object become which files.
const OBJECT: &[Line] = &[
    honoured("items[].key"),
    honoured("items[].mode"),
    honoured("items[].path"),
    honoured("optional"),
    refuse("items[].user", USER),
];

const DOWNWARD: &[Line] = &[
    honoured("items[].fieldRef.apiVersion"),
    honoured("items[].fieldRef.fieldPath"),
    honoured("items[].mode"),
    honoured("items[].path"),
    honoured("items[].resourceFieldRef.containerName"),
    honoured("items[].resourceFieldRef.divisor"),
    honoured("items[].resourceFieldRef.resource"),
    refuse("items[].user", USER),
];

/// A fleet honours tokens in one volume only, by leaving it out: that which the API server adds to every pod.
const SOURCE: &[Line] = &[
    honoured("configMap.name"),
    honoured("secret.name"),
    device_only("serviceAccountToken.audience", TOKEN),
    device_only("serviceAccountToken.expirationSeconds", TOKEN),
    device_only("serviceAccountToken.path", TOKEN),
    refuse("serviceAccountToken.user", USER),
    refuse(
        "clusterTrustBundle",
        "trust bundles of the cluster are not supported",
    ),
    refuse("podCertificate", "certificates of pods are not supported"),
];

const VOLUME: &[Line] = &[
    honoured("configMap.name"),
    honoured("emptyDir.medium"),
    honoured("emptyDir.sizeLimit"),
    honoured("hostPath.path"),
    honoured("hostPath.type"),
    honoured("image.pullPolicy"),
    honoured("image.reference"),
    honoured("name"),
    device_only("persistentVolumeClaim.claimName", CLAIM),
    device_only("persistentVolumeClaim.readOnly", CLAIM),
    honoured("secret.secretName"),
    refuse("awsElasticBlockStore", NETWORK),
    refuse("azureDisk", NETWORK),
    refuse("azureFile", NETWORK),
    refuse("cephfs", NETWORK),
    refuse("cinder", NETWORK),
    refuse("csi", NETWORK),
    refuse(
        "emptyDir.mode",
        "permissions of a scratch volume are not supported",
    ),
    refuse("ephemeral", "volumes that a pod brings along are not supported"),
    refuse("fc", NETWORK),
    refuse("flexVolume", NETWORK),
    refuse("flocker", REMOVED),
    refuse("gcePersistentDisk", NETWORK),
    refuse("gitRepo", REMOVED),
    refuse("glusterfs", NETWORK),
    refuse("iscsi", NETWORK),
    refuse("nfs", NETWORK),
    refuse("photonPersistentDisk", REMOVED),
    refuse("portworxVolume", NETWORK),
    refuse("quobyte", REMOVED),
    refuse("rbd", NETWORK),
    refuse("scaleIO", REMOVED),
    refuse("storageos", REMOVED),
    refuse("vsphereVolume", NETWORK),
];
