//! Privileges in `deploy/`: an unprivileged user that can write only its state.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value as Json;

use crate::common::repository;

/// Name and content of each YAML document in a file.
fn documents(file: &str) -> Vec<Json> {
    let text = fs::read_to_string(repository(file)).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// Returns the paths at which a container may write.
fn writable(container: &Json) -> BTreeSet<&str> {
    let mounts = container["volumeMounts"].as_array().unwrap().iter();
    mounts
        .filter(|mount| mount["readOnly"] != true)
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect()
}

/// Asserts that these security contexts of a pod and of its container are within the restricted Pod Security Standard, and
/// that the file system of the container is read-only.
#[track_caller]
fn assert_unprivileged(pod: &Json, container: &Json) {
    assert_eq!(pod["runAsNonRoot"], true);
    assert!(["runAsUser", "runAsGroup"].iter().all(|id| pod[id].as_u64() > Some(0)), "{pod}");
    assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
    let expected = serde_json::json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(*container, expected);
}

#[test]
fn pods_run_as_an_unprivileged_user_that_can_write_only_its_state() {
    for (file, container) in [
        ("deploy/kubernetes/base/exporter.yaml", "exporter"),
        ("deploy/kubernetes/sidecar/statefulset.yaml", "script-exporter"),
    ] {
        let documents = documents(file);
        let pods: Vec<&Json> = documents
            .iter()
            .map(|document| &document["spec"]["template"]["spec"])
            .filter(|pod| !pod.is_null())
            .collect();
        let [pod] = pods[..] else { panic!("one pod in {file}: {pods:?}") };
        let containers = pod["containers"].as_array().unwrap();
        let exporter = containers.iter().find(|one| one["name"] == container).unwrap();
        assert_unprivileged(&pod["securityContext"], &exporter["securityContext"]);
        assert_eq!(pod["automountServiceAccountToken"], false, "{file}");
        assert!(["hostNetwork", "hostPID", "hostIPC"].iter().all(|host| pod[host].is_null()), "{file}");
        let permitted = ["name", "configMap", "emptyDir", "persistentVolumeClaim", "secret"];
        let sources =
            pod["volumes"].as_array().unwrap().iter().flat_map(|volume| volume.as_object().unwrap().keys());
        assert_eq!(sources.filter(|source| !permitted.contains(&source.as_str())).count(), 0, "{file}");
        let ports = containers.iter().filter_map(|container| container["ports"].as_array()).flatten();
        assert_eq!(ports.filter(|port| !port["hostPort"].is_null()).count(), 0, "{file}");
        let state = exporter["args"].as_array().unwrap().iter().filter_map(Json::as_str);
        let state: Vec<&str> = state.filter_map(|arg| arg.strip_prefix("--state.file=")).collect();
        let folders = state.iter().map(|path| path.rsplit_once('/').unwrap().0);
        assert_eq!(writable(exporter), folders.collect(), "{file}");
    }
    let kinds = documents("deploy/kubernetes/base/exporter.yaml");
    let policy = kinds.iter().find(|document| document["kind"] == "NetworkPolicy").expect("a NetworkPolicy");
    assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
}

/// The manifests above are generated from the chart, so its templates use these values.
#[test]
fn the_chart_runs_as_an_unprivileged_user_by_default() {
    let [values] = &documents("deploy/helm/redis-script-exporter/values.yaml")[..] else {
        panic!("one document")
    };
    assert_unprivileged(&values["podSecurityContext"], &values["securityContext"]);
    let template = "deploy/helm/redis-script-exporter/templates/deployment.yaml";
    let template = fs::read_to_string(repository(template)).unwrap();
    for (key, value) in [("      ", "podSecurityContext"), ("          ", "securityContext")] {
        let lines = format!("\n{key}securityContext:\n{key}  {{{{- toYaml .Values.{value} |");
        assert_eq!(template.matches(&lines).count(), 1, "{lines}");
    }
    for more in ["extraVolumes", "extraVolumeMounts"] {
        assert_eq!(values[more], serde_json::json!([]), "{more}");
    }
}

#[test]
fn the_unit_runs_as_an_unprivileged_user_that_can_write_only_its_state() {
    let unit = fs::read_to_string(repository("deploy/systemd/redis-script-exporter.service")).unwrap();
    let settings: BTreeSet<&str> = unit.lines().filter(|line| !line.starts_with('#')).collect();
    for setting in [
        "DynamicUser=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "StateDirectory=redis-script-exporter",
        "StateDirectoryMode=0700",
        "UMask=0077",
    ] {
        assert!(settings.contains(setting), "{setting}");
    }
    let has = |name: &str| settings.iter().any(|setting| setting.starts_with(&format!("{name}=")));
    for widening in ["User", "ReadWritePaths", "BindPaths", "CacheDirectory", "LogsDirectory"] {
        assert!(!has(widening), "{widening}");
    }
    let start = settings.iter().find(|setting| setting.starts_with("ExecStart=")).unwrap();
    assert!(start.contains(" --state.file %S/redis-script-exporter/state"), "{start}");
}
