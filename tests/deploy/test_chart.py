"""The chart as helm renders it: what Kubernetes would get for each set of values."""

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.support import CHART, ROOT, VALUE_SETS, config, container, helm, only, pod, render, value_files

each_set = pytest.mark.parametrize("values", VALUE_SETS)

# The oldest version that Chart.yaml allows, and one that is current.
KUBERNETES = ("1.30.0", "1.35.0")

# The Prometheus operator's kinds are in no schema of Kubernetes'; these are the fields that the chart uses.
_NAMED = {"type": "object", "required": ["name", "labels"]}
_OPERATOR = {
    "ServiceMonitor": {
        "required": ["selector", "endpoints"],
        "additionalProperties": False,
        "properties": {
            "selector": {"type": "object", "required": ["matchLabels"]},
            "endpoints": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "port": {"type": "string"},
                        "path": {"type": "string"},
                        "scheme": {"enum": ["http", "https"]},
                        "interval": {"type": "string", "pattern": "^[0-9]+(s|m)$"},
                        "tlsConfig": {"type": "object"},
                        "relabelings": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {
                                    "action": {"enum": ["replace"]},
                                    "sourceLabels": {"type": "array", "items": {"type": "string"}},
                                    "targetLabel": {"type": "string"},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
    "PrometheusRule": {
        "required": ["groups"],
        "additionalProperties": False,
        "properties": {
            "groups": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["name", "rules"],
                    "additionalProperties": False,
                    "properties": {
                        "name": {"type": "string"},
                        "interval": {"type": "string"},
                        "rules": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "object",
                                "required": ["expr"],
                                "additionalProperties": False,
                                "properties": {
                                    "alert": {"type": "string"},
                                    "record": {"type": "string"},
                                    "expr": {"type": "string"},
                                    "for": {"type": "string"},
                                    "keep_firing_for": {"type": "string"},
                                    "labels": {"type": "object"},
                                    "annotations": {"type": "object"},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


@each_set
def test_helm_finds_no_fault(values: str) -> None:
    """`helm lint --strict` says nothing."""
    done = helm("lint", "--strict", CHART, *value_files(values))

    assert done.returncode == 0, done.stdout
    assert "0 chart(s) failed" in done.stdout


@each_set
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_fits_the_schema_of_its_kind(values: str, version: str) -> None:
    """No field is unknown to Kubernetes or of another type, in the oldest version and in a current one."""
    kinds = set()
    for manifest in render("--kube-version", version, values=values):
        kinds.add(manifest["kind"])
        if manifest["kind"] in _OPERATOR:
            jsonschema.validate(manifest["metadata"], _NAMED)
            jsonschema.validate(manifest["spec"], _OPERATOR[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, version, strict=True)

    assert {"StatefulSet", "Service", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy", "Pod"} <= kinds
    assert (set(_OPERATOR) <= kinds) == (values == "everything")


@each_set
def test_pods_are_restricted(values: str) -> None:
    """The pod security standard "restricted", a read-only file system, and nothing of Kubernetes' in the pod."""
    manifests = render(values=values)
    for one in (pod(manifests), only(manifests, "Pod")["spec"]):
        assert not one["automountServiceAccountToken"]
        assert not one["enableServiceLinks"]
        assert not one.get("hostNetwork")
        assert not one.get("shareProcessNamespace")
        assert one["securityContext"]["runAsNonRoot"]
        assert one["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert one["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        for inner in one["containers"]:
            assert inner["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_the_platform_may_choose_the_user() -> None:
    """As OpenShift does: the chart names none, and the image's is not root."""
    security = pod(render("--set", "userId=null"))["securityContext"]

    assert security["runAsNonRoot"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(security)


def test_each_replica_has_a_volume_of_its_own_that_stays() -> None:
    """Two pods never get one data directory, and a replica's journal is there when it comes back."""
    specification = only(render(), "StatefulSet")["spec"]

    (claim,) = specification["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert specification["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (mount,) = [one for one in container(render())["volumeMounts"] if one["name"] == claim["metadata"]["name"]]
    (variable,) = [one for one in container(render())["env"] if one["name"] == "STATE_DIRECTORY"]
    assert Path(mount["mountPath"]) in Path(variable["value"]).parents


def test_secrets_are_files_for_root_and_the_pods_group() -> None:
    """Mode 0440, beside payproxy.toml, or where mountPath says."""
    manifests = render(values="everything")
    volumes = {one["name"]: one["projected"] for one in pod(manifests)["volumes"] if "projected" in one}
    mounted = {one["mountPath"]: one for one in container(manifests)["volumeMounts"] if one["name"] in volumes}

    assert {volume["defaultMode"] for volume in volumes.values()} == {0o440}
    assert all(mount["readOnly"] for mount in mounted.values())
    beside = volumes[mounted["/etc/payproxy"]["name"]]["sources"]
    assert [source["secret"]["name"] for source in beside if "secret" in source] == [
        "payproxy-oauth",
        "payproxy-stores",
        "payproxy-tls",
    ]
    assert volumes[mounted["/etc/corporate"]["name"]]["sources"] == [{"configMap": {"name": "corporate-authorities"}}]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [("minimal", 200 + 30), ("replicas", 151 + 30), ("everything", 151 + 30 + 20)],
)
def test_there_is_time_to_end_what_is_in_flight(values: str, seconds: int) -> None:
    """exchange_timeout, 30 s as docs/operations.md says, and the pause before the stop."""
    manifests = render(values=values)

    assert pod(manifests)["terminationGracePeriodSeconds"] == seconds
    assert ("lifecycle" in container(manifests)) == (values == "everything")


def test_probes_ask_the_admin_listener_where_the_kubelet_reaches_it() -> None:
    """A request costs nothing; a command starts a process, and is used where admin.listen is on loopback."""
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    over_http, by_command = container(render(values="replicas")), container(render())

    assert [over_http[probe]["httpGet"]["path"] for probe in probes] == ["/startupz", "/readyz", "/livez"]
    assert {port["name"]: port["containerPort"] for port in over_http["ports"]} == {"traffic": 8443, "admin": 9901}
    assert by_command["readinessProbe"]["exec"]["command"] == ["payproxy", "health", "--ready"]
    assert by_command["livenessProbe"]["exec"]["command"] == ["payproxy", "health"]


def test_a_listener_with_a_certificate_is_asked_over_tls() -> None:
    """Kubelet and Prometheus speak HTTPS, and the test pod leaves it to them."""
    text = config("replicas").replace("[admin]\n", '[admin]\ncertificate_file = "a.crt"\nkey_file = "a.key"\n')
    manifests = render("--set-literal", f"config={text}", "--set", "serviceMonitor.enabled=true", values="replicas")

    assert container(manifests)["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert only(manifests, "ServiceMonitor")["spec"]["endpoints"][0]["scheme"] == "https"
    assert [one["name"] for one in only(manifests, "Pod")["spec"]["containers"]] == ["traffic"]


def _annotations(*options: str) -> dict[str, str]:
    found: dict[str, str] = only(render(*options), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
    return found


def test_a_change_of_the_configuration_is_a_rollout() -> None:
    """It is read at the start; keys and secrets are watched, so that they need none."""
    changed = config().replace("api-mock", "api-mock-2")

    assert _annotations() == _annotations()
    assert _annotations()["checksum/config"] != _annotations("--set-literal", f"config={changed}")["checksum/config"]
    another = ("--set", "secrets[0].name=payproxy-client", "--set", "secrets[0].restartOnChange=true")
    assert _annotations()["checksum/secrets"] != _annotations(*another)["checksum/secrets"]


def _egress(values: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = only(render(values=values), "NetworkPolicy")["spec"]["egress"]
    return rules


def test_nothing_else_can_be_reached() -> None:
    """Names, the bank by public addresses on port 443, and what the values name; no metadata service of a cloud."""
    names, bank, stores = _egress("replicas")

    assert {port["port"] for port in names["ports"]} == {53}
    assert bank["ports"] == [{"protocol": "TCP", "port": 443}]
    assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"} <= set(bank["to"][0]["ipBlock"]["except"])
    assert {port["port"] for port in stores["ports"]} == {6379, 5432}
    assert len(_egress("everything")) == 2, "with an egress proxy there is no way to the bank beside it"


def test_who_may_come_in() -> None:
    """The callers that are named to the traffic port, Prometheus to the other one; and `helm test` to both."""
    traffic, admin = only(render(values="replicas"), "NetworkPolicy")["spec"]["ingress"]

    assert traffic["ports"] == [{"protocol": "TCP", "port": "traffic"}]
    assert admin["ports"] == [{"protocol": "TCP", "port": "admin"}]
    namespaces = [
        [one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in rule["from"][1:]]
        for rule in (traffic, admin)
    ]
    assert namespaces == [["erp"], ["monitoring"]]
    assert {
        rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for rule in (traffic, admin)
    } == {"test"}


def test_a_service_never_sends_callers_to_the_test() -> None:
    """Services, budget and policy select the replicas alone."""
    manifests = render(values="everything")
    labels = only(manifests, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    selectors = [one["spec"]["selector"] for one in manifests if one["kind"] == "Service"]
    selectors += [only(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    selectors += [only(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]

    assert all(selector.items() <= labels.items() for selector in selectors)
    test = only(manifests, "Pod")["metadata"]["labels"]
    assert not any(selector.items() <= test.items() for selector in selectors)


def test_prometheus_finds_a_replica_that_is_not_ready() -> None:
    """Through the Service of the names, which the ServiceMonitor selects and the other Service does not fit."""
    manifests = render(values="everything")
    wanted = only(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"]

    (found,) = [
        one for one in manifests if one["kind"] == "Service" and wanted.items() <= one["metadata"]["labels"].items()
    ]

    assert found["spec"]["publishNotReadyAddresses"]
    assert found["metadata"]["name"] == only(manifests, "StatefulSet")["spec"]["serviceName"]


def test_alerts_and_dashboard_are_the_exported_ones() -> None:
    """What the chart has is what deploy/ has, byte for byte; other ones can be passed."""
    for copy, source in (
        ("alerts.yaml", "prometheus/payproxy-alerts.yaml"),
        ("dashboard.json", "grafana/payproxy.json"),
    ):
        assert (CHART / "files" / copy).read_text() == (ROOT / "deploy" / source).read_text()
    manifests = render(values="everything")
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    shown = only(manifests, "ConfigMap", "pay-payproxy-dashboard")["data"]["payproxy.json"]

    assert only(manifests, "PrometheusRule")["spec"] == rules
    assert shown == (CHART / "files" / "dashboard.json").read_text()
    other = "groups: [{name: other, rules: [{alert: A, expr: vector(1)}]}]"
    manifests = render("--set-literal", f"prometheusRule.alerts={other}", values="everything")
    assert only(manifests, "PrometheusRule")["spec"] == yaml.safe_load(other)


def test_the_notes_say_what_is_left_to_do() -> None:
    """The address for callers, how long a stop takes, and what of the configuration has consequences here."""
    text = config().replace("[server]", '[server]\nhosts = ["payproxy.example"]')
    done = helm(
        *("install", "pay", CHART, "--dry-run=client", "--namespace", "payments"),
        *value_files("minimal"),
        *("--set-literal", f"config={text}"),
    )
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]

    assert "http://pay-payproxy.payments.svc:8080" in notes
    assert "up to 230 s" in notes
    assert "server.hosts is payproxy.example" in notes
    assert "The listener has no TLS" in notes
    assert "admin.listen is on loopback" in notes


def test_replicas_come_and_go_slowly_by_themselves() -> None:
    """With autoscaling the number is the autoscaler's, and one replica at most leaves in ten minutes."""
    manifests = render(values="everything")
    scaler = only(manifests, "HorizontalPodAutoscaler")["spec"]

    assert "replicas" not in only(manifests, "StatefulSet")["spec"]
    assert scaler["scaleTargetRef"]["name"] == only(manifests, "StatefulSet")["metadata"]["name"]
    assert scaler["behavior"]["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 600}]
