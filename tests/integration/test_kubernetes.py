"""The manifests of ops/kubernetes, as kubectl's kustomize renders them.

    kubectl kustomize ──> resources ──> the API's own schemas, unknown fields refused
                                    ──> what must fit together: ports, labels, times, memory

Nothing here asks a cluster. Schemas of custom resources (KEDA, the Prometheus operator) are not at
hand: of those a few fields are compared with what their documentation asks for.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from pagesight._cli import app
from pagesight_server.__main__ import app as server_app
from pagesight_server.cli.doctor import memory_plan
from pagesight_server.config import Config, config_of, read_layers, unknown_variables
from pagesight_server.telemetry.exporting import exporters_of
from tests.prometheus_rule import RULES, TARGET, prometheus_rule
from tests.support.manual import page

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "ops" / "kubernetes"
COMPONENTS = sorted(folder.name for folder in (MANIFESTS / "components").iterdir())
OVERLAYS = sorted(folder.name for folder in (MANIFESTS / "overlays").iterdir())
VERSIONS = ("1.30", kubernetes_validate.latest_version())
"""The oldest Kubernetes for which the manifests are, by the preStop hook, and the newest known."""

PROCESS_MB = 413
"""A server before its first screenshot (docs/sizing.md, Memory of pictures)."""

SUPERVISOR_S = 15
"""How long after `drain_seconds` a supervisor waits at most (docs/several-processes.md)."""

Resource = dict[str, Any]


@cache
def kubectl() -> str:
    tools = ROOT / ".tools" / "kubectl"
    program = shutil.which("kubectl", path=str(tools)) or shutil.which("kubectl")
    if program is None:
        reason = "no kubectl: `make kubectl` puts it into .tools"
        if os.environ.get("REQUIRE_KUBECTL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@cache
def rendered(folder: Path) -> tuple[Resource, ...]:
    """The resources of a folder; not to be changed."""
    command = [kubectl(), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    # kustomize warns of deprecated fields there.
    assert done.stderr == ""
    return tuple(yaml.safe_load_all(done.stdout))


def variants(tmp: Path) -> Iterator[tuple[str, tuple[Resource, ...]]]:
    """The base, every overlay, and the base with every set of components."""
    yield "base", rendered(MANIFESTS / "base")
    for name in OVERLAYS:
        yield name, rendered(MANIFESTS / "overlays" / name)
    for count in range(2, len(COMPONENTS) + 1):
        for chosen in combinations(COMPONENTS, count):
            folder = tmp / "-".join(chosen)
            folder.mkdir()
            here = os.path.relpath(MANIFESTS, folder)
            components = [f"{here}/components/{name}" for name in chosen]
            text = yaml.safe_dump({"resources": [f"{here}/base"], "components": components})
            (folder / "kustomization.yaml").write_text(text, "utf-8")
            yield folder.name, rendered(folder)


@pytest.fixture(scope="module")
def all_variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Resource, ...]]:
    return dict(variants(tmp_path_factory.mktemp("overlays")))


@pytest.fixture(scope="module")
def base() -> tuple[Resource, ...]:
    return rendered(MANIFESTS / "base")


def one(resources: tuple[Resource, ...], kind: str, name: str = "") -> Resource:
    """The only resource of a kind, and of a name where one is given."""
    (found,) = (
        resource
        for resource in resources
        if resource["kind"] == kind and name in ("", resource["metadata"]["name"])
    )
    return found


def is_custom(resource: Resource) -> bool:
    group = resource["apiVersion"].partition("/")[0]
    return group in ("keda.sh", "monitoring.coreos.com")


def pod(resources: tuple[Resource, ...]) -> Resource:
    spec: Resource = one(resources, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(resources: tuple[Resource, ...]) -> Resource:
    (found,) = pod(resources)["containers"]
    assert isinstance(found, dict)
    return found


def environment(resources: tuple[Resource, ...]) -> dict[str, str]:
    """The variables whose values are in the manifests."""
    return {v["name"]: v["value"] for v in container(resources)["env"] if "value" in v}


def secret_keys(resources: tuple[Resource, ...]) -> set[tuple[str, str]]:
    """Each Secret that the pods ask for, with the key; of volumes the files that settings name."""
    (toml,) = one(resources, "ConfigMap")["data"].values()
    named = {*environment(resources).values(), *re.findall(r'"(/[^"]+)"', toml)}
    keys = {
        (reference["name"], reference["key"])
        for variable in container(resources)["env"]
        if (reference := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container(resources)["volumeMounts"]}
    for volume in pod(resources)["volumes"]:
        if "secret" in volume:
            folder = mounts[volume["name"]] + "/"
            keys_in_use = {file.removeprefix(folder) for file in named if file.startswith(folder)}
            assert keys_in_use, volume
            items = {item["key"] for item in volume["secret"].get("items", ())}
            assert not items or items == keys_in_use
            keys |= {(volume["secret"]["secretName"], key) for key in keys_in_use}
    return keys


def settings(
    resources: tuple[Resource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """The server's settings in such a pod, by the code that reads them there."""
    for name in os.environ:
        if name.startswith(("PAGESIGHT_", "OTEL_")):
            monkeypatch.delenv(name)
    for name, value in environment(resources).items():
        monkeypatch.setenv(name, value)
    (text,) = one(resources, "ConfigMap")["data"].values()
    file = tmp_path / "pagesight.toml"
    file.write_text(text, "utf-8")
    layers = read_layers(file, {})
    assert unknown_variables(layers) == []
    return config_of(layers)


def bytes_of(quantity: str) -> int:
    units = {"Mi": 2**20, "Gi": 2**30}
    return int(quantity[:-2]) * units[quantity[-2:]]


# --- the API's schemas ---


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_one_that_the_api_takes(
    all_variants: Mapping[str, tuple[Resource, ...]], version: str
) -> None:
    assert len(all_variants) == 1 + len(OVERLAYS) + 11  # six pairs, four threes, one of all four
    # Most are the same in many variants, and a schema takes a while to be read.
    distinct = {
        yaml.safe_dump(resource): (name, resource)
        for name, resources in all_variants.items()
        for resource in resources
        if not is_custom(resource)
    }
    for name, resource in distinct.values():
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{name}: {resource['kind']}: {list(error.path)}: {error.message}")
    seen = {resource["kind"] for _, resource in distinct.values()}
    assert seen == {
        "ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service",
        "ServiceAccount",
    }  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_do_refuse_what_the_api_does_not_know(
    base: tuple[Resource, ...], version: str
) -> None:
    deployment = copy.deepcopy(one(base, "Deployment"))
    pod((deployment,))["terminationGraceSeconds"] = 60
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(deployment, version, strict=True)


def test_the_example_of_the_secrets_has_what_is_asked_for_and_placeholders_only(
    all_variants: Mapping[str, tuple[Resource, ...]],
) -> None:
    text = (MANIFESTS / "secrets.example.yaml").read_text("utf-8")
    examples = list(yaml.safe_load_all(text))
    for secret in examples:
        kubernetes_validate.validate(secret, VERSIONS[-1], strict=True)
        assert all(re.search(r"REPLACE-ME|-HOST:", v) for v in secret["stringData"].values())
    offered = {(s["metadata"]["name"], key) for s in examples for key in s["stringData"]}
    asked = {key for resources in all_variants.values() for key in secret_keys(resources)}
    assert asked == offered
    assert not any(r["kind"] == "Secret" for found in all_variants.values() for r in found)


# --- what must fit together ---


def test_selectors_find_the_pods_and_nothing_else_is_asked_of_them(
    all_variants: Mapping[str, tuple[Resource, ...]],
) -> None:
    for resources in all_variants.values():
        deployment = one(resources, "Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        budget, policy = one(resources, "PodDisruptionBudget"), one(resources, "NetworkPolicy")
        callers = one(resources, "Service", "pagesight")
        selectors = [
            deployment["spec"]["selector"]["matchLabels"],
            budget["spec"]["selector"]["matchLabels"],
            policy["spec"]["podSelector"]["matchLabels"],
            callers["spec"]["selector"],
            one(resources, "Service", "pagesight-metrics")["spec"]["selector"],
            *(
                s["labelSelector"]["matchLabels"]
                for s in pod(resources)["topologySpreadConstraints"]
            ),
        ]
        assert all(selector and selector.items() <= labels for selector in selectors)
        # Client-side balancing needs the addresses of the pods.
        assert callers["spec"]["clusterIP"] == "None"


def test_ports_probes_and_policy_are_those_of_the_server(
    all_variants: Mapping[str, tuple[Resource, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, resources in all_variants.items():
        config = settings(resources, tmp_path, monkeypatch)
        ours = container(resources)
        assert {p["name"]: p["containerPort"] for p in ours["ports"]} == {
            "grpc": config.server.port,
            "metrics": 9464,
        }
        assert exporters_of(environment(resources))[1] == ("prometheus",)
        assert environment(resources)["OTEL_EXPORTER_PROMETHEUS_HOST"] == config.server.host
        probes = [ours[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
        if config.security.cert:
            for probe in probes:
                command, *arguments = probe["exec"]["command"]
                assert command == "pagesight"
                # --help in place of asking: the command must take what stands before it.
                assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0
                assert "grpc" not in probe
        else:
            assert all(probe["grpc"] == {"port": config.server.port} for probe in probes), name
        ports = {
            port["port"]
            for rule in one(resources, "NetworkPolicy")["spec"]["ingress"]
            for port in rule["ports"]
        }
        assert ports == {"grpc", "metrics"}
        for service in (r for r in resources if r["kind"] == "Service"):
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_the_server_starts_with_the_settings_and_in_the_clear_only_where_it_is_said(
    all_variants: Mapping[str, tuple[Resource, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, resources in all_variants.items():
        config = settings(resources, tmp_path, monkeypatch)
        arguments = container(resources)["args"]
        assert CliRunner().invoke(server_app, [*arguments[:1], "--help"]).exit_code == 0
        mounts = {m["name"]: m["mountPath"] for m in container(resources)["volumeMounts"]}
        (volume,) = (v["name"] for v in pod(resources)["volumes"] if "configMap" in v)
        (key,) = one(resources, "ConfigMap")["data"]
        assert arguments[1:] == ["--config", f"{mounts[volume]}/{key}"]
        tls = name == "production" or "tls" in name.split("-")
        assert config.security.allow_plaintext is not tls
        assert bool(config.security.cert and config.security.tokens) is tls
        assert (config.compute.device == "cuda") is ("gpu" in name.split("-"))


def test_a_replica_has_the_time_to_end_what_it_does(
    all_variants: Mapping[str, tuple[Resource, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for resources in all_variants.values():
        server = settings(resources, tmp_path, monkeypatch).server
        stop_s = container(resources)["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed_s = stop_s + server.lame_duck_seconds + server.drain_seconds + SUPERVISOR_S
        assert pod(resources)["terminationGracePeriodSeconds"] >= needed_s


def test_memory_holds_what_doctor_plans_and_the_server_itself(
    all_variants: Mapping[str, tuple[Resource, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, resources in all_variants.items():
        plan = memory_plan(settings(resources, tmp_path, monkeypatch))
        host = {
            part: mb
            for part, mb in plan.items()
            if part not in ("process_now_mb", "machine_mb") and not part.startswith("gpu_")
        }
        needed_mb = sum(int(str(mb)) for mb in host.values()) + PROCESS_MB
        limits = container(resources)["resources"]
        assert limits["requests"]["memory"] == limits["limits"]["memory"]
        assert bytes_of(limits["requests"]["memory"]) >= needed_mb * 2**20, (name, host)


def test_replicas_find_each_other_and_the_store_without_exhausting_it(
    all_variants: Mapping[str, tuple[Resource, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for resources in all_variants.values():
        config = settings(resources, tmp_path, monkeypatch)
        scaled = [r["spec"]["maxReplicaCount"] for r in resources if r["kind"] == "ScaledObject"]
        deployment = one(resources, "Deployment")["spec"]
        most = (scaled or [deployment["replicas"]])[0]
        surge = deployment["strategy"]["rollingUpdate"]["maxSurge"]
        # One more of each listens. PostgreSQL takes 97 beside its own three, unless told otherwise.
        assert (most + surge) * (config.gallery.store_connections + 1) <= 97
        # Callers that never connect anew would never find a replica that was added.
        age_s = config.server.max_connection_age_seconds
        assert 0 < age_s <= (300 if scaled else 1800)


def test_nodes_may_be_emptied_and_rollouts_made_with_replicas_left(
    all_variants: Mapping[str, tuple[Resource, ...]],
) -> None:
    for name, resources in all_variants.items():
        least = one(resources, "Deployment")["spec"].get("replicas")
        if name == "production" or "autoscaling" in name.split("-"):
            assert least is None  # the autoscaler's
            least = one(resources, "ScaledObject")["spec"]["minReplicaCount"]
        assert least >= 3
        assert 0 < one(resources, "PodDisruptionBudget")["spec"]["maxUnavailable"] < least
        rollout = one(resources, "Deployment")["spec"]["strategy"]["rollingUpdate"]
        assert rollout["maxUnavailable"] < least
        assert rollout["maxSurge"] + rollout["maxUnavailable"] > 0


def test_a_pod_may_do_nothing_that_it_need_not(
    all_variants: Mapping[str, tuple[Resource, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dockerfile = (ROOT / "ops" / "Dockerfile").read_text("utf-8")
    (user,) = re.findall(r"^USER (\d+):\d+$", dockerfile, re.M)
    for resources in all_variants.values():
        spec, ours = pod(resources), container(resources)
        # What the profile "restricted" of Pod Security asks for, and a file system of its own.
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["securityContext"]["runAsUser"] == int(user)
        assert ours["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        written = {v["name"] for v in spec["volumes"] if "emptyDir" in v}
        assert any(
            mount["mountPath"]
            == str(settings(resources, tmp_path, monkeypatch).gallery.store_folder)
            for mount in ours["volumeMounts"]
            if mount["name"] in written
        )
        for mount in ours["volumeMounts"]:
            assert mount.get("readOnly", False) is (mount["name"] not in written)


# --- custom resources, whose schemas are not at hand ---


def test_the_autoscaler_asks_for_metrics_that_a_server_exports() -> None:
    resources = rendered(MANIFESTS / "overlays" / "autoscaling")
    scaled = one(resources, "ScaledObject")
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert (
        scaled["spec"]["scaleTargetRef"]["name"] == one(resources, "Deployment")["metadata"]["name"]
    )
    assert scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]
    age, rate = scaled["spec"]["triggers"]
    for trigger in (age, rate):
        assert trigger["type"] == "prometheus"
        assert {"serverAddress", "query", "threshold"} <= set(trigger["metadata"])
        assert float(trigger["metadata"]["threshold"]) > 0
        # Strings alone, in KEDA's schema.
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
    # Where nothing is scraped replicas must not be taken away.
    assert age["metadata"]["ignoreNullValues"] == "false"
    # An age does not grow smaller by being divided by the number of replicas; a rate does.
    assert (age["metricType"], rate["metricType"]) == ("Value", "AverageValue")
    manual = page("monitoring.md")
    metrics = set(re.findall(r"pagesight_\w+", str(scaled["spec"]["triggers"])))
    assert metrics == {"pagesight_queue_oldest_age_seconds", "pagesight_outcome_total"}
    # test_ops.py holds the manual's table against what a server exports.
    assert all(f"`{metric}`" in manual for metric in metrics)


def test_prometheus_finds_every_replica_under_the_name_that_the_rules_ask_for() -> None:
    resources = rendered(MANIFESTS / "overlays" / "monitoring")
    monitor = one(resources, "ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    asked = monitor["spec"]["selector"]["matchLabels"].items()
    services = [r for r in resources if r["kind"] == "Service"]
    (found,) = (s for s in services if asked <= s["metadata"]["labels"].items())
    assert found["metadata"]["name"] == "pagesight-metrics"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in found["spec"]["ports"]}
    job = found["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    assert set(re.findall(r'\bjob="([^"]+)"', RULES.read_text("utf-8"))) == {job}
    scaled = str(one(rendered(MANIFESTS / "overlays" / "autoscaling"), "ScaledObject"))
    assert set(re.findall(r'\bjob="([^"]+)"', scaled)) == {job}


def test_the_prometheus_rule_is_the_rules_of_prometheus() -> None:
    assert TARGET.read_text("utf-8") == prometheus_rule(), "stale: run `make docs`"
    resource = one(rendered(MANIFESTS / "overlays" / "monitoring"), "PrometheusRule")
    assert resource["apiVersion"] == "monitoring.coreos.com/v1"
    assert resource["spec"] == yaml.safe_load(RULES.read_text("utf-8"))
