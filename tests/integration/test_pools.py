"""Several apps in one service: what they share, and what they do not notice of each other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.apps.shared import hash_of, pattern
from tests.integration.certificates import Authority
from tests.integration.client import Client, Response, request
from tests.integration.conftest import Gate, Notes, Start
from tests.integration.server import ROOT, Server, clean_environment, command, is_alive, upgraded
from tests.integration.waiting import eventually

ASGI = "tests.integration.apps.asgi:app"
WSGI = "tests.integration.apps.wsgi:app"


PATIENT = """
import os, time

while not os.path.exists({go!r}):
    time.sleep(0.01)


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"mended"]
"""

MENDED = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"mended"]
"""


@pytest.fixture
def admin(tmp_path: Path) -> Path:
    return tmp_path / "admin"


@pytest.fixture
def tell(admin: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`tell("reload", "api")`: a command to the service."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words, "--admin", f"unix:{admin}"),
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


Tell = Callable[..., subprocess.CompletedProcess[str]]


def both(start: Start, admin: Path, *options: str) -> Server:
    """A WSGI app at /, an ASGI app at /api."""
    server = start(
        WSGI, "--interface=auto", f"--mount=/api={ASGI}", f"--admin=unix:{admin}", *options
    )
    with Client(server.address) as client:
        assert eventually(lambda: client.request("GET", "/api/hello").status == 200)
        assert eventually(lambda: client.request("GET", "/hello").status == 200)
    return server


def ask(server: Server, target: str, method: str = "GET", body: bytes | None = None) -> Response:
    with Client(server.address) as client:
        return client.request(method, target, body=body)


def report(admin: Path) -> dict[str, Any]:
    """What `status --json` prints."""
    with Client(f"unix:{admin}") as client:
        found: dict[str, Any] = client.request("GET", "/status").json()
        return found


def reactors_of(admin: Path, name: str) -> list[dict[str, Any]]:
    told = report(admin)
    (app,) = (each for each in told["apps"] if each["name"] == name)
    return [each for each in told["reactors"] if each["name"] in app["reactors"]]


def metrics(admin: Path) -> str:
    with Client(f"unix:{admin}") as client:
        return client.get("/metrics").text


def test_each_app_gets_its_requests(start: Start, admin: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = both(start, admin, f"--access-log={log}", "--access-log-format=json")
    log.write_text("")
    pids = set()
    with Client(server.address) as client:
        # On one connection: the one streams its body, the other one's is collected.
        for _ in range(3):
            for prefix in "/api", "":
                pids.add(client.get(f"{prefix}/pid").json())
                size = 300_000
                data = b"".join(pattern(size))
                answer = client.request("POST", f"{prefix}/hash", body=data)
                assert answer.status == 200
                assert hash_of(pattern(size)) in answer.text
    assert len(pids) == 2

    def names() -> set[str]:
        return {json.loads(line)["reactor"] for line in log.read_text().splitlines()}

    assert eventually(lambda: names() == {"default reactor 1", "api reactor 1"})


def test_requests_are_counted_by_app(
    start: Start, admin: Path, tell: Tell, tmp_path: Path, gate: Gate
) -> None:
    log = tmp_path / "log"
    (tmp_path / "a.txt").write_text("a")
    server = start(
        ASGI,
        f"--mount=/api={ASGI}",
        f"--static=/files={tmp_path}",
        "--concurrency=1",
        "--queue-size=1",
        f"--admin=unix:{admin}",
        f"--access-log={log}",
        "--access-log-format=%(app)s %(reactor)s %(s)s %(U)s",
    )
    with Client(server.address) as client:
        assert eventually(lambda: client.request("GET", "/api/hello").status == 200)
        assert eventually(lambda: client.request("GET", "/hello").status == 200)
        log.write_text("")
        before = requests_of(metrics(admin))
        waiting = [Client(server.address) for _ in range(2)]
        for each in waiting:
            each.send(request("GET", f"/api/wait?gate={gate}"))

        def is_full() -> bool:
            app = next(app for app in report(admin)["apps"] if app["name"] == "api")
            return bool(app["in_flight"] == 1 and app["queue"]["waiting"] == 1)

        assert eventually(is_full)
        assert client.request("GET", "/api/hello").status == 503
        gate.open()
        for each in waiting:
            assert each.response().status == 200
            each.close()
        assert client.request("POST", "/hello", body=b"").status == 200
        assert client.request("GET", "/files/a.txt").status == 200
        assert client.request("GET", "/files/b.txt").status == 404

    def new() -> dict[tuple[str, str], int]:
        now = requests_of(metrics(admin))
        return {key: count - before.get(key, 0) for key, count in now.items()}

    wanted = {
        ("api", "2xx"): 2,
        ("api", "5xx"): 1,
        ("default", "2xx"): 1,
        ("", "2xx"): 1,
        ("", "4xx"): 1,
    }

    def has_counted() -> bool:
        return {key: count for key, count in new().items() if count} == wanted

    assert eventually(has_counted)
    text = metrics(admin)
    assert 'reactor_run_request_duration_seconds_count{app="api"}' in text
    assert 'reactor_run_request_queue_seconds_bucket{app="default",le="+Inf"}' in text
    assert 'reactor_run_reactor_deaths_total{app="api"} 0' in text
    app = {app["name"]: app for app in report(admin)["apps"]}
    assert app["api"]["requests"]["5xx"] == 1
    assert app["default"]["requests"]["5xx"] == 0
    assert app["api"]["recent"]["requests_per_second"] > 0
    assert "requests/s, p99" in tell("status", "api").stdout
    lines = log.read_text().splitlines()
    assert lines.count("api - 503 /api/hello") == 1
    assert "api api reactor 1 200 /api/wait" in lines
    assert "- /files 200 /files/a.txt" in lines


def requests_of(text: str) -> dict[tuple[str, str], int]:
    """The numbers of requests by app and class of status that are not 0."""
    found: dict[tuple[str, str], int] = {}
    name = r'reactor_run_requests_total\{app="(.*)",method="\w+",status="(\w+)"\} (\d+)'
    for app, status, count in re.findall(name, text):
        if int(count):
            found[app, status] = found.get((app, status), 0) + int(count)
    return found


def test_a_dead_app_does_not_harm_the_other(start: Start, admin: Path, tell: Tell) -> None:
    server = both(start, admin)
    before = ask(server, "/pid").json()
    with Client(server.address) as client:
        assert ask(server, "/api/leave", "POST", b"").status == 502
        assert client.get("/pid").json() == before
        assert eventually(lambda: client.request("GET", "/api/hello").status == 200)
    assert report(admin)["counters"]["reactor_deaths"] == 1
    assert ask(server, "/pid").json() == before


def test_a_busy_app_does_not_harm_the_other(
    start: Start, admin: Path, tell: Tell, gate: Gate
) -> None:
    server = start(
        ASGI,
        f"--mount=/busy={ASGI}",
        "--concurrency=1",
        "--queue-size=1",
        f"--admin=unix:{admin}",
    )
    with Client(server.address) as client:
        assert eventually(lambda: client.request("GET", "/busy/hello").status == 200)
        waiting = [Client(server.address) for _ in range(2)]
        for each in waiting:
            each.send(request("GET", f"/busy/wait?gate={gate}"))

        def is_full() -> bool:
            app = next(app for app in report(admin)["apps"] if app["name"] == "busy")
            return bool(app["in_flight"] == 1 and app["queue"]["waiting"] == 1)

        assert eventually(is_full)
        assert client.request("GET", "/busy/hello").status == 503
        assert client.get("/hello").body == b"hello"
        gate.open()
        for each in waiting:
            assert each.response().status == 200
            each.close()
        assert eventually(lambda: client.request("GET", "/busy/hello").status == 200)


def test_an_app_that_does_not_start(start: Start, admin: Path, tell: Tell, tmp_path: Path) -> None:
    (tmp_path / "later.py").write_text("import nothing_of_this_name\n")
    config = tmp_path / "shop.toml"
    config.write_text(
        f'[app.web]\napp = "{ASGI}"\n[app.later]\napp = "later:app"\napp-dir = "{tmp_path}"\n'
        '[[route]]\nprefix = "/"\napp = "web"\n[[route]]\nprefix = "/later"\napp = "later"\n'
    )
    server = start("", f"--config={config}", f"--admin=unix:{admin}")
    with Client(server.address) as client:
        assert eventually(lambda: client.request("GET", "/hello").status == 200)
        assert eventually(lambda: client.request("GET", "/later/x").status == 503)
        assert client.get("/hello").body == b"hello"
        apps = {app["name"]: app for app in report(admin)["apps"]}
        assert (apps["web"]["failed"], apps["later"]["failed"]) == (False, True)
        assert tell("status").returncode == 0
        assert tell("status", "later").returncode == 1
        (tmp_path / "later.py").write_text(MENDED)
        done = tell("reload", "later")
        assert done.returncode == 0, done.stderr
        assert eventually(lambda: client.request("GET", "/later/x").status == 200)
        assert {app["failed"] for app in report(admin)["apps"]} == {False}


def test_if_no_app_starts_the_service_ends(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    done = subprocess.run(
        command("broken:app", "--mount=/api=broken:other", f"--app-dir={tmp_path}", "-b:0"),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "nothing_of_this_name" in done.stderr


def test_reload_and_scale_of_one_app(start: Start, admin: Path, tell: Tell) -> None:
    server = both(start, admin)
    web, api = ask(server, "/pid").json(), ask(server, "/api/pid").json()
    done = tell("reload", "api")
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: ask(server, "/api/pid").json() != api)
    assert ask(server, "/pid").json() == web
    assert "api: generation 2" in done.stdout
    assert tell("scale", "api", "2").returncode == 0
    assert eventually(lambda: len(reactors_of(admin, "api")) == 2)
    told = json.loads(tell("status", "api", "--json").stdout)
    assert [each["name"] for each in told["reactors"]] == [
        each["name"] for each in reactors_of(admin, "api")
    ]
    assert 'reactor_run_reactors_wanted{app="api"} 2' in metrics(admin)
    assert 'reactor_run_reactors_wanted{app="default"} 1' in metrics(admin)


VARIABLES = """
import json, os

SEEN = {name: os.environ.get(name) for name in ("SHARED", "OWN", "PATH")}

def app(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps(SEEN).encode()]
"""


@pytest.mark.parametrize("preload", ["on", "off"])
def test_each_app_has_variables_of_its_own(
    start: Start, admin: Path, tell: Tell, tmp_path: Path, preload: str
) -> None:
    (tmp_path / "variables.py").write_text(VARIABLES)
    config = tmp_path / "shop.toml"
    config.write_text(
        f'preload = "{preload}"\nenv = {{ SHARED = "all" }}\n'
        '[app.web]\napp = "variables:app"\nenv = { OWN = "of web" }\n'
        '[app.api]\napp = "variables:app"\nenv = { SHARED = "api", OWN = "a=b" }\n'
        '[[route]]\nprefix = "/"\napp = "web"\n[[route]]\nprefix = "/api"\napp = "api"\n'
    )
    server = start("", f"--config={config}", f"--admin=unix:{admin}", app_dir=tmp_path)
    path = os.environ["PATH"]

    def seen() -> list[dict[str, str]]:
        answers = [ask(server, target) for target in ("/", "/api")]
        return [answer.json() for answer in answers if answer.status == 200]

    wanted = [
        {"SHARED": "all", "OWN": "of web", "PATH": path},
        {"SHARED": "api", "OWN": "a=b", "PATH": path},
    ]
    assert eventually(lambda: seen() == wanted)
    assert tell("reload").returncode == 0
    assert seen() == wanted


def test_maintenance_of_one_app(start: Start, admin: Path, tell: Tell) -> None:
    server = both(start, admin)
    assert tell("maintenance", "on", "api", "soon").returncode == 0
    assert ask(server, "/api/hello").body == b"soon\n"
    assert ask(server, "/hello").status == 200
    assert tell("maintenance", "on", "all of it").returncode == 0
    assert ask(server, "/hello").body == ask(server, "/api/hello").body == b"all of it\n"
    assert tell("maintenance", "off", "default").returncode == 0
    assert ask(server, "/hello").status == 200
    assert ask(server, "/api/hello").status == 503


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["reload", "x"], "there is no app 'x'; the apps are default, api"),
        (["scale", "x", "2"], "there is no app 'x'; the apps are default, api"),
        (["maintenance", "on", "x", "y"], "there is no app 'x'; the apps are default, api"),
        (["status", "x"], "there is no app 'x'; the apps are default, api"),
        (["scale", "api", "0"], "expected a number of reactors, at least 1"),
    ],
)
def test_commands_for_an_app_that_is_not_there(
    shared: Start, tmp_path_factory: pytest.TempPathFactory, words: list[str], says: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "pools-admin"
    shared(ASGI, f"--mount=/api={ASGI}", f"--admin=unix:{path}")
    done = subprocess.run(
        command(*words, "--admin", f"unix:{path}"),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"reactor-run: error: {says}")


def test_an_upgrade_hands_over_what_the_operator_changed(
    start: Start, admin: Path, tell: Tell
) -> None:
    server = both(start, admin)
    assert tell("scale", "api", "2").returncode == 0
    assert tell("maintenance", "on", "default", "soon").returncode == 0
    with upgraded(server):
        assert eventually(lambda: len(reactors_of(admin, "api")) == 2)
        assert len(reactors_of(admin, "default")) == 1
        assert ask(server, "/hello").body == b"soon\n"
        assert ask(server, "/api/hello").body == b"hello"


def test_an_upgrade_hands_over_what_the_operator_changes_meanwhile(
    start: Start, admin: Path, tell: Tell, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.touch()
    (tmp_path / "patient.py").write_text(PATIENT.format(go=str(go)))
    mount = "--mount=/api=patient:app"
    server = start("patient:app", mount, f"--admin=unix:{admin}", app_dir=tmp_path)
    assert eventually(lambda: ask(server, "/api/").status == 200)
    assert tell("maintenance", "on", "default", "soon").returncode == 0
    assert tell("scale", "api", "2").returncode == 0
    go.unlink()
    server.signal(signal.SIGUSR2)
    found = eventually(lambda: re.search(r"the new front end is process (\d+)", server.log()))
    assert found is not None
    successor = int(found[1])
    try:
        # It has begun, with what it was told at its start.
        assert eventually(lambda: server.log().count("maintenance is on") == 2)
        assert tell("maintenance", "off").returncode == 0
        assert tell("maintenance", "on", "api", "later").returncode == 0
        assert tell("scale", "api", "1").returncode == 0
        assert tell("scale", "default", "2").returncode == 0
        go.touch()
        assert server.wait() == 0
        assert ask(server, "/").body == b"mended"
        assert ask(server, "/api/").body == b"later\n"
        assert eventually(lambda: len(reactors_of(admin, "default")) == 2)
        assert eventually(lambda: len(reactors_of(admin, "api")) == 1)
    finally:
        go.touch()
        os.kill(successor, signal.SIGTERM)
        assert eventually(lambda: not is_alive(successor), deadline=20)


def test_a_granted_connection_serves_no_other_app(start: Start, admin: Path) -> None:
    server = start(ASGI, f"--mount=/api={ASGI}", "--answers=direct", f"--admin=unix:{admin}")
    with Client(server.address) as client:
        assert eventually(lambda: client.request("GET", "/api/hello").status == 200)
        for _ in range(2):
            assert len(client.get("/api/download?size=1000000").body) == 1_000_000
        answer = client.get("/hello")
        assert (answer.body, answer.field("connection")) == (b"hello", b"close")
        assert client.at_end()


def test_answers_are_relayed_by_default(start: Start, admin: Path) -> None:
    server = both(start, admin)
    with Client(server.address) as client:
        for target in "/api/download?size=1000000", "/hello", "/api/download?size=1000000":
            client.get(target)
    assert 'responses_in_pieces_total{way="direct"} 0' in metrics(admin)


def test_both_finish_when_the_service_stops(
    start: Start, admin: Path, gate: Gate, notes: Notes
) -> None:
    server = both(start, admin)
    with Client(server.address) as one, Client(server.address) as other:
        one.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
        other.send(request("GET", f"/api/wait?gate={gate}&notes={notes}"))
        assert eventually(lambda: len(notes.lines()) == 2)
        server.signal(signal.SIGTERM)
        assert eventually(lambda: "shutting down" in server.log())
        gate.open()
        assert one.response().body == other.response().body == b"waited"
    assert server.wait() == 0


OWN_LISTENER = """
cors-origin = "https://shop.example"
[app.web]
app = "tests.integration.apps.wsgi:app"
[app.api]
app = "tests.integration.apps.asgi:app"
bind = "unix:{folder}/api"
[[route]]
prefix = "/"
app = "web"
"""


@pytest.fixture
def own_listener(start: Start, admin: Path, tmp_path: Path) -> Server:
    """An app at /, and one that only a listener of its own reaches."""
    config = tmp_path / "own.toml"
    config.write_text(OWN_LISTENER.format(folder=tmp_path))
    server = start("", f"--config={config}", f"--admin=unix:{admin}")
    for address in server.addresses:
        with Client(address) as client:
            await_answer(client, "/hello")
    return server


def await_answer(client: Client, target: str) -> None:
    assert eventually(lambda: client.request("GET", target).status == 200)


def test_a_listener_of_its_own(own_listener: Server, admin: Path, tell: Tell) -> None:
    shared, own = own_listener.addresses
    with Client(shared) as web, Client(own) as api:
        pids = {reactors_of(admin, name)[0]["pid"] for name in ("web", "api")}
        assert {web.get("/pid").json(), api.get("/pid").json()} == pids
        assert api.get("/scope").json()["root_path"] == ""
        for _ in range(2):
            # ASGI: a body is streamed; WSGI: it is collected.
            for client in web, api:
                size = 300_000
                answer = client.request("POST", "/hash", body=b"".join(pattern(size)))
                assert hash_of(pattern(size)) in answer.text
        answer = api.request("GET", "/hello", [("Origin", "https://shop.example")])
        assert answer.field("access-control-allow-origin") == b"https://shop.example"
        assert [each["app"] for each in report(admin)["listeners"]] == [None, "api"]
        assert tell("maintenance", "on", "api", "soon").returncode == 0
        assert api.request("GET", "/hello").body == b"soon\n"
        assert web.request("GET", "/hello").status == 200
        assert tell("maintenance", "off", "api").returncode == 0
        assert api.request("GET", "/hello").status == 200
    assert eventually(lambda: requests_of(metrics(admin))["api", "2xx"] >= 6)
    assert requests_of(metrics(admin))["api", "5xx"] >= 1


def test_an_upgrade_hands_over_the_listener_of_an_app(own_listener: Server, admin: Path) -> None:
    _, own = own_listener.addresses
    before = reactors_of(admin, "api")[0]["pid"]
    with upgraded(own_listener):
        with Client(own) as api:
            pid = api.get("/pid").json()
        assert [each["pid"] for each in reactors_of(admin, "api")] == [pid] != [before]


def test_the_prefix_of_an_app_holds_on_its_own_listener(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "own.toml"
    route = '[[route]]\nprefix = "/api"\napp = "api"\n'
    config.write_text(OWN_LISTENER.format(folder=tmp_path) + route)
    server = start("", f"--config={config}")
    with Client(server.addresses[1]) as api:
        assert eventually(lambda: api.request("GET", "/api/hello").status == 200)
        assert api.get("/api/scope").json()["root_path"] == "/api"
        assert api.request("GET", "/hello").status == 404


def test_tls_on_the_listener_of_an_app(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    config = tmp_path / "own.toml"
    text = OWN_LISTENER.format(folder=tmp_path)
    config.write_text(text.replace(f"unix:{tmp_path}/api", "127.0.0.2:0"))
    server = start("", f"--config={config}", *authority.options("localhost"))
    shared, own = server.addresses
    assert own.startswith("https://")
    pids = set()
    for address in shared, own:
        with Client(address, tls=authority.client()) as client:
            await_answer(client, "/pid")
            pids.add(client.get("/pid").json())
    assert len(pids) == 2


def test_check_looks_at_each_app() -> None:
    done = subprocess.run(
        command("check", ASGI, f"--mount=/api={WSGI}", f"--app-dir={ROOT}"),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.partition(" would serve: ")[0] for line in done.stdout.splitlines()] == [
        *(ASGI, WSGI)
    ]


def test_an_upgrade_needs_all_apps(start: Start, admin: Path, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(MENDED)
    (tmp_path / "api.py").write_text(MENDED)
    server = start("web:app", "--mount=/api=api:app", f"--admin=unix:{admin}", app_dir=tmp_path)
    with Client(server.address) as client:
        assert eventually(lambda: client.request("GET", "/api/").status == 200)
        (tmp_path / "api.py").write_text("import nothing_of_this_name\n")
        server.signal(signal.SIGUSR2)
        assert eventually(lambda: "UPGRADE FAILED" in server.log())
        assert client.get("/").body == client.get("/api/").body == b"mended"
    # What the new one has written is in the log of the old one, which goes on.
    assert "nothing_of_this_name" in server.log()
