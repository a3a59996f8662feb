"""deploy/kubernetes: valid for Kubernetes, its numbers add up, and it runs locked in as there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from reactor_run.frontend.cli import read_settings
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.service.shutdown import _EXIT_MAX
from reactor_run.frontend.sockets.addresses import TCPBind, UnixBind
from tests.integration.apps.shared import hash_of, pattern
from tests.integration.client import Client
from tests.integration.conftest import Start
from tests.integration.server import ROOT
from tests.needs import path_of

Connect = Callable[..., Client]
Wrapper = list[str]

FOLDER = ROOT / "deploy" / "kubernetes"
PAGES = sorted(FOLDER.glob("*.yaml"))
VERSIONS = ["1.29", "1.34"]


def load(kind: str) -> dict[str, Any]:
    """The object of this kind."""
    page: dict[str, Any] = yaml.safe_load((FOLDER / f"{kind}.yaml").read_text())
    return page


DEPLOYMENT = load("deployment")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
ENVIRONMENT = {each["name"]: each["value"] for each in CONTAINER["env"]}
(COMMAND,) = re.findall(r"^CMD (.*)$", (FOLDER / "Dockerfile").read_text(), re.M)


@pytest.fixture
def settings() -> Settings:
    """What the container runs with: the image's command, and the pod's environment."""
    program, *words = json.loads(COMMAND)
    assert program == "reactor-run"
    assert "command" not in CONTAINER
    assert "args" not in CONTAINER
    return read_settings(words, ENVIRONMENT)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_has_the_schema_of_kubernetes(page: Path, version: str) -> None:
    """Names that the schema does not know are mistakes too."""
    used = kubernetes_validate.validate(yaml.safe_load(page.read_text()), version, strict=True)
    assert used == version


def test_every_selector_finds_the_pods() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    (spread,) = POD["topologySpreadConstraints"]
    for selector in (
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        load("poddisruptionbudget")["spec"]["selector"]["matchLabels"],
        load("service")["spec"]["selector"],
        spread["labelSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()


def test_there_is_always_somebody_to_serve() -> None:
    update = DEPLOYMENT["spec"]["strategy"]["rollingUpdate"]
    assert (update["maxUnavailable"], update["maxSurge"]) == (0, 1)
    assert load("poddisruptionbudget")["spec"]["maxUnavailable"] < DEPLOYMENT["spec"]["replicas"]


def test_the_pod_has_the_time_to_stop(settings: Settings) -> None:
    ours = settings.shutdown_delay + settings.graceful_timeout + _EXIT_MAX
    assert POD["terminationGracePeriodSeconds"] > ours
    readiness = CONTAINER["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert settings.shutdown_delay > noticed + readiness["timeoutSeconds"]


def test_the_probes_ask_where_health_is_told(settings: Settings) -> None:
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert settings.health == TCPBind("", ports["health"])
    assert settings.bind == (TCPBind("", ports["http"]),)
    probes = {name: CONTAINER[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    for name, probe in probes.items():
        path = "/healthz" if name == "liveness" else "/readyz"
        assert probe["httpGet"] == {"path": path, "port": "health"}
    start = probes["startup"]
    assert start["periodSeconds"] * start["failureThreshold"] > settings.start_timeout


def test_what_is_written_goes_to_the_volume(settings: Settings) -> None:
    (mount,) = CONTAINER["volumeMounts"]
    (volume,) = POD["volumes"]
    assert mount["name"] == volume["name"]
    assert "emptyDir" in volume
    assert ENVIRONMENT["TMPDIR"] == mount["mountPath"]
    assert isinstance(settings.admin, UnixBind)
    assert settings.admin.path.startswith(f"{mount['mountPath']}/")


def test_as_many_reactors_as_processors(settings: Settings) -> None:
    assert settings.reactors == int(CONTAINER["resources"]["requests"]["cpu"])


def test_the_image_has_the_user_of_the_pod() -> None:
    (user,) = re.findall(r"^USER (.*)$", (FOLDER / "Dockerfile").read_text(), re.M)
    context = POD["securityContext"]
    assert context["runAsNonRoot"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


# With TLS -----------------------------------------------------------------------------------------

TLS = FOLDER / "tls"


def test_the_patch_for_tls_fits_the_deployment() -> None:
    patch = yaml.safe_load((TLS / "deployment.yaml").read_text())
    pod = patch["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == CONTAINER["name"]
    assert patch["metadata"]["name"] == DEPLOYMENT["metadata"]["name"]
    more = {each["name"]: each["value"] for each in container["env"]}
    words = json.loads(COMMAND)[1:]
    settings = read_settings(words, {**ENVIRONMENT, **more})
    (port,) = container["ports"]
    assert settings.bind == (TCPBind("", port["containerPort"]),)
    (mount,) = container["volumeMounts"]
    files = [f"{mount['mountPath']}/tls.crt", f"{mount['mountPath']}/tls.key"]
    assert [*settings.certfile, *settings.keyfile] == files
    (volume,) = pod["volumes"]
    certificate = yaml.safe_load((TLS / "certificate.yaml").read_text())
    assert volume["name"] == mount["name"]
    assert volume["secret"]["secretName"] == certificate["spec"]["secretName"]
    assert pod["securityContext"]["fsGroup"] == POD["securityContext"]["runAsGroup"]
    service = yaml.safe_load((TLS / "service.yaml").read_text())
    assert service["spec"]["ports"][1]["targetPort"] == port["name"]


def test_the_parts_of_the_kustomization_exist() -> None:
    parts = yaml.safe_load((TLS / "kustomization.yaml").read_text())
    named = [*parts["resources"], *(patch["path"] for patch in parts["patches"])]
    assert all((TLS / name).exists() for name in named)
    others = {page.name for page in PAGES} | {page.name for page in TLS.glob("*.yaml")}
    assert {Path(name).name for name in named} | {"kustomization.yaml"} == others


# As locked in as there ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked_in() -> Wrapper:
    """The words that run a command with a read-only root file system, but for /mnt, and without
    any capability."""
    context = CONTAINER["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not context["allowPrivilegeEscalation"]
    mounts = ["mount -t tmpfs tmpfs /mnt", "mount -o remount,bind,ro /"]
    drop = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    script = " && ".join([*mounts, shlex.join(["exec", path_of("setpriv"), *drop]) + ' "$@"'])
    words = [path_of("unshare"), "--mount", "sh", "-c", script, "sh"]
    tried = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs the right to make a mount namespace: {tried.stderr.strip()}")
    return words


@pytest.mark.needs("setpriv", "unshare")
@pytest.mark.parametrize(("directory", "status"), [("/mnt", 200), ("/tmp", 507)])
def test_large_bodies_need_the_volume_and_nothing_else(
    start: Start, connect: Connect, locked_in: Wrapper, directory: str, status: int
) -> None:
    elsewhere = {
        "TMPDIR": directory,
        "REACTOR_RUN_HEALTH": "127.0.0.1:0",
        "REACTOR_RUN_ADMIN": "unix:/mnt/admin.sock",
        "REACTOR_RUN_SHUTDOWN_DELAY": "0",
    }
    server = start(
        "tests.integration.apps.wsgi:app",
        wrapper=locked_in,
        env={**ENVIRONMENT, **elsewhere},
    )
    client = connect(server)
    client.get("/hello")
    answer = client.request("POST", "/hash", body=b"".join(pattern(1 << 20)))
    assert answer.status == status
    if status == 200:
        assert answer.json()["sha256"] == hash_of(pattern(1 << 20))
    health = re.findall(r"health on (\S+)", server.log())[0]
    assert connect(health).get("/readyz").text == "ready\n"
