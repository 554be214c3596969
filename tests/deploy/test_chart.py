"""The Helm chart, rendered by Helm: what it makes is valid, careful, and stops gently."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from batchmill.app.stopping import notice_seconds
from batchmill.config import load
from batchmill.web.meter import Meter
from tools.deploy_tools import KUBERNETES, Tools

CHART = Path(__file__).parents[2] / "deploy" / "chart"
NEEDED = ("secrets.database.name=ledger", "storageUrl=s3://bucket")
EVERYTHING = (
    *NEEDED,
    "imagePullSecrets[0].name=registry",
    "secrets.storage.name=store",
    "secrets.engine.name=engines",
    "secrets.webhook.name=webhooks",
    "serviceAccount.name=batchmill",
    "metricsKey.name=metrics",
    "env.AWS_REGION=eu-west-1",
    "extraVolumes[0].name=ca",
    "extraVolumes[0].configMap.name=our-ca",
    "extraVolumeMounts[0].name=ca",
    "extraVolumeMounts[0].mountPath=/etc/ca",
    "keda.enabled=true",
    "serviceMonitor.enabled=true",
    "networkPolicy.enabled=true",
    "networkPolicy.egress[0].ports[0].port=443",
    "ingress.enabled=true",
    "ingress.host=batch.example.com",
    "ingress.tlsSecret=tls",
)
FOREIGN = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor"}
"""Kinds that others bring to a cluster; Kubernetes has no schema of them."""

Objects = dict[tuple[str, str], dict[str, Any]]
Render = Callable[..., Objects]


@pytest.fixture(scope="module")
def helm(tools: Tools) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str, values: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        settings = [word for value in values for word in ("--set-string", value)]
        typed = [word.replace("--set-string", "--set") for word in settings]
        return subprocess.run(
            [str(tools.helm), *words, str(CHART), *typed],
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def render(helm: Any) -> Render:
    @functools.cache
    def run(*values: str) -> Objects:
        done = helm("template", "mill", values=values)
        assert done.returncode == 0, done.stderr
        found = [each for each in yaml.safe_load_all(done.stdout) if each]
        return {(each["kind"], each["metadata"]["name"]): each for each in found}

    return run


def pod(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    return objects[kind, f"mill-batchmill-{name}"]["spec"]["template"]["spec"]


PODS = (("Deployment", "api"), ("Deployment", "worker"), ("Job", "migration"))


@pytest.mark.parametrize("values", [NEEDED, EVERYTHING], ids=["least", "everything"])
def test_the_linter_has_nothing_to_warn_of(helm: Any, values: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", values=values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("release", KUBERNETES)
@pytest.mark.parametrize("values", [NEEDED, EVERYTHING], ids=["least", "everything"])
def test_kubernetes_takes_what_it_makes(
    tools: Tools, render: Render, values: tuple[str, ...], release: str
) -> None:
    folder = tools.kubernetes(release)
    definitions = json.loads((folder / "_definitions.json").read_text())
    registry = Registry().with_resource(
        "/api/_definitions.json", Resource(contents=definitions, specification=DRAFT202012)
    )
    checked = 0
    for (kind, _), each in render(*values).items():
        if kind not in FOREIGN:
            schema = json.loads((folder / f"{schema_name(each)}.json").read_text())
            jsonschema.Draft202012Validator(schema, registry=registry).validate(each)
            checked += 1
    assert checked >= 7


def schema_name(each: dict[str, Any]) -> str:
    group, _, version = each["apiVersion"].rpartition("/")
    return "-".join(filter(None, (each["kind"].lower(), group.partition(".")[0], version)))


def test_an_unknown_field_would_be_refused(tools: Tools) -> None:
    folder = tools.kubernetes(KUBERNETES[-1])
    schema = json.loads((folder / "service-v1.json").read_text())
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(("kind", "name"), PODS)
def test_no_container_may_do_more_than_it_needs(render: Render, kind: str, name: str) -> None:
    spec = pod(render(*EVERYTHING), kind, name)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(("kind", "name"), PODS)
def test_variables_and_a_certificate_authority_reach_every_container(
    render: Render, kind: str, name: str
) -> None:
    spec = pod(render(*EVERYTHING), kind, name)
    assert {"name": "ca", "configMap": {"name": "our-ca"}} in spec["volumes"]
    for container in spec["containers"]:
        assert {"name": "AWS_REGION", "value": "eu-west-1"} in container["env"]
        assert {"name": "ca", "mountPath": "/etc/ca"} in container["volumeMounts"]


def test_secrets_come_from_secrets_and_stand_nowhere_else(render: Render) -> None:
    objects = render(*EVERYTHING)
    assert not [key for key in objects if key[0] == "Secret"]
    for kind, name in PODS:
        for variable in pod(objects, kind, name)["containers"][0]["env"]:
            if variable["name"].endswith(("_URL", "_KEY", "_SECRET")):
                named = variable["name"] == "BATCHMILL_STORAGE_URL"
                assert named or "secretKeyRef" in variable["valueFrom"]


@pytest.mark.parametrize(
    ("name", "setting"), [("worker", "drainSeconds"), ("api", "api.drainSeconds")]
)
def test_a_pod_is_given_its_drain_time_and_more(render: Render, name: str, setting: str) -> None:
    spec = pod(render(*NEEDED, f"{setting}=120"), "Deployment", name)
    variables = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
    assert variables["BATCHMILL_DRAIN_TIME"] == "120s"
    assert spec["terminationGracePeriodSeconds"] >= 130


def test_the_api_leaves_the_service_while_it_still_takes_requests(render: Render) -> None:
    spec = pod(render(*NEEDED), "Deployment", "api")
    (variable,) = [
        each for each in spec["containers"][0]["env"] if each["name"] == "BATCHMILL_DRAIN_TIME"
    ]
    settings = load({"role": "api"}, {variable["name"]: variable["value"]})
    probe = spec["containers"][0]["readinessProbe"]
    assert notice_seconds(settings) >= probe["periodSeconds"]


def test_the_api_is_asked_whether_it_lives_and_whether_it_can_work(render: Render) -> None:
    container = pod(render(*NEEDED), "Deployment", "api")["containers"][0]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in PROBES}
    assert paths == PROBES


PROBES = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz?stores=false"}


def test_the_tables_are_made_before_anything_else_and_with_nothing_else(render: Render) -> None:
    objects = render(*EVERYTHING)
    job = objects["Job", "mill-batchmill-migration"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    spec = pod(objects, "Job", "migration")
    assert spec["containers"][0]["args"] == ["db", "upgrade"]
    others = [volume["name"] for volume in spec["volumes"] if "emptyDir" not in volume]
    assert others == ["ca"], "what the release itself brings is not there yet"


def test_a_disruption_takes_one_pod_of_a_kind_at_a_time(render: Render) -> None:
    objects = render(*NEEDED)
    for name in ("api", "worker"):
        budget = objects["PodDisruptionBudget", f"mill-batchmill-{name}"]["spec"]
        labels = objects["Deployment", f"mill-batchmill-{name}"]["spec"]["selector"]
        assert budget == {"maxUnavailable": 1, "selector": labels}


def test_keda_scales_by_a_metric_that_exists_and_alone(render: Render) -> None:
    objects = render(*EVERYTHING)
    trigger = objects["ScaledObject", "mill-batchmill-worker"]["spec"]["triggers"][0]
    metric = trigger["metadata"]["valueLocation"]
    assert metric in {family.name for family in Meter().registry.collect()}
    assert "replicas" not in objects["Deployment", "mill-batchmill-worker"]["spec"]
    assert objects["TriggerAuthentication", trigger["authenticationRef"]["name"]]


def test_without_options_there_is_nothing_that_a_cluster_may_lack(render: Render) -> None:
    kinds = {kind for kind, _ in render(*NEEDED)}
    assert kinds == {"ConfigMap", "Deployment", "Job", "PodDisruptionBudget", "Service"}


def test_the_configuration_and_the_variables_are_read_by_batchmill(
    render: Render, tmp_path: Path
) -> None:
    objects = render(*NEEDED)
    file = tmp_path / "batchmill.toml"
    file.write_text(objects["ConfigMap", "mill-batchmill"]["data"]["batchmill.toml"])
    for name in ("api", "worker"):
        variables = pod(objects, "Deployment", name)["containers"][0]["env"]
        values = {each["name"]: each.get("value", "postgresql://db/b") for each in variables}
        settings = load({}, values | {"BATCHMILL_CONFIG": str(file)})
        assert [engine.name for engine in settings.engines] == ["gpu1"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((), "storageUrl|secrets.database.name"),
        ((*NEEDED, "keda.enabled=true"), "metricsKey.name"),
        ((*NEEDED, "worker.replica=3"), "replica"),
        ((*NEEDED, "storageUrl=s3://key:secret@bucket"), "storageUrl"),
        ((*NEEDED, "drainSeconds=5m"), "drainSeconds"),
    ],
)
def test_a_mistake_in_the_values_is_named(helm: Any, values: tuple[str, ...], says: str) -> None:
    done = helm("template", "mill", values=values)
    assert done.returncode != 0
    assert any(word in done.stderr for word in says.split("|")), done.stderr
