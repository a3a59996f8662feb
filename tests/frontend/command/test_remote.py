"""`reactor-run status`, `reload` and `stop`, against sockets that behave well or badly."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor_run.frontend import cli
from reactor_run.frontend.command import admin_client
from reactor_run.frontend.command.quantities import brief, duration
from reactor_run.frontend.command.remote import run_command
from reactor_run.frontend.errors import OperatorError

Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(*answers, close=True)`: return an address where the next requests get these
    answers."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{tmp_path}/admin.sock")
    listener.listen()
    over = threading.Event()
    threads = []

    def run(answers: tuple[bytes, ...], close: bool) -> None:
        for answer in answers:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                if close:
                    sock.sendall(answer)
                else:
                    over.wait(20)

    def start(*answers: bytes, close: bool = True) -> str:
        threads.append(threading.Thread(target=run, args=(answers, close)))
        threads[-1].start()
        return f"unix:{tmp_path}/admin.sock"

    yield start
    over.set()
    for thread in threads:
        thread.join(20)
    listener.close()


def http(status: str, text: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()


ALIVE = http("200 OK", "alive\n")


def refusal(words: list[str], environ: dict[str, str]) -> str:
    with pytest.raises(OperatorError) as caught:
        run_command(words, environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_address_comes_from_the_flag_or_the_environment(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    good = http("200 OK", '{"ready": true}\n')
    assert run_command(["status", "--json"], {"REACTOR_RUN_ADMIN": serve(ALIVE, good)}) == 0
    address = serve(ALIVE, good)
    assert run_command(["status", "--json", "--admin", address], {"REACTOR_RUN_ADMIN": "no"}) == 0
    assert capsys.readouterr().out == '{"ready": true}\n' * 2


def test_the_address_may_stand_in_a_file(serve: Serve, tmp_path: Path) -> None:
    good = http("200 OK", '{"ready": true}\n')
    config = tmp_path / "shop.toml"
    config.write_text(f"admin = {serve(ALIVE, good)!r}")
    assert run_command(["status", "--json", "--config", str(config)], {}) == 0
    config.write_text("admin = 'fd:3'")
    assert "admin in " in refusal(["status"], {"REACTOR_RUN_CONFIG": str(config)})


def test_a_faulty_file_does_not_matter_if_the_address_is_given(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.reactor-run")
    monkeypatch.chdir(tmp_path)
    good = http("200 OK", '{"ready": true}\n')
    assert run_command(["status", "--json", "--admin", serve(ALIVE, good)], {}) == 0
    assert refusal(["status"], {}).startswith("pyproject.toml, line 1, column 18: ")


def test_top_says_that_a_service_is_too_old(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    report = http("200 OK", '{"ready": true}\n')
    assert run_command(["top", "--admin", serve(ALIVE, report)], {}) == 1
    assert "of an older version" in capsys.readouterr().err


def test_a_service_that_is_not_ready_has_status_1(serve: Serve) -> None:
    report = http("200 OK", '{"ready": false}\n')
    assert run_command(["status", "--json", "--admin", serve(ALIVE, report)], {}) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status"], "--admin unix:/PATH, by REACTOR_RUN_ADMIN, or by admin in the"),
        (["stop", "--admin", "fd:3"], "--admin: 'fd:3' has no permissions"),
        (["stop", "--admin", "unix:/no/such/socket"], "no service listens at unix:/no/such/socket"),
        (["status", "--admin", "127.0.0.1:1"], "no service listens at 127.0.0.1:1"),
        (["stop", "--json"], "--json"),
        (["stop", "shop:app"], "shop:app"),
        (["scale"], "[NAME] N"),
        (
            ["scale", "many"],
            "expected a number of reactors, at least 1, as in `reactor-run scale 4`",
        ),
        (["scale", "0"], "not '0'"),
        (["scale", "4", "api"], "not '4 api'"),
        (["maintenance"], "required: on|off (see"),
        (["maintenance", "maybe"], "argument on|off: invalid choice: 'maybe'"),
    ],
)
def test_errors_that_the_operator_must_correct(words: list[str], says: str) -> None:
    assert says in refusal(words, {})


def test_a_stale_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/stale")
    assert "Connection refused" in refusal(["status", "--admin", f"unix:{tmp_path}/stale"], {})


def test_a_socket_without_permission(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/private")
        sock.listen()
        os.chmod(f"{tmp_path}/private", 0)
        root = os.geteuid() == 0
        if root:  # who may connect to everything
            os.seteuid(65534)
        try:
            assert "no permission" in refusal(["stop", "--admin", f"unix:{tmp_path}/private"], {})
        finally:
            if root:
                os.seteuid(0)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (http("403 Forbidden", "over TCP nothing can be changed\n"), "can be changed (403)"),
        (b"", "sent no HTTP response"),
        (b"220 mail.example ESMTP\r\n", "sent no HTTP response"),
    ],
)
def test_a_failure_is_reported_with_status_1(
    serve: Serve, capsys: pytest.CaptureFixture[str], answer: bytes, says: str
) -> None:
    assert run_command(["stop", "--admin", serve(ALIVE, answer)], {}) == 1
    assert says in capsys.readouterr().err
    assert run_command(["reload", "--admin", serve(ALIVE, answer)], {}) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", "hello\n"),
        http("404 Not Found", "alive\n"),
        b"HTTP/1.0 404 File not found\r\n\r\n",
    ],
)
def test_a_server_that_is_no_admin_socket(serve: Serve, answer: bytes) -> None:
    """For example the app's own listener. Nothing is asked of it but its health."""
    for word in "status", "top", "reload", "reopen-logs", "stop":
        assert "another server listens at unix:" in refusal([word, "--admin", serve(answer)], {})


def test_an_app_that_is_not_there_has_to_be_corrected(serve: Serve) -> None:
    answer = http("404 Not Found", "there is no app 'x'\n")
    assert refusal(["scale", "x", "2", "--admin", serve(ALIVE, answer)], {}) == (
        "there is no app 'x'"
    )


def test_a_stalled_front_end_is_reported_with_status_1(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_client, "_TIMEOUT", 0.05)
    address = serve(b"", b"", b"", close=False)
    for word in "status", "reload", "stop":
        assert run_command([word, "--admin", address], {}) == 1
        assert "the front end is stalled" in capsys.readouterr().err


def test_a_command_is_the_first_word_and_no_app(tmp_path: Path) -> None:
    for words in ["--admin", "unix:/x", "status"], ["--reactors", "2", "stop"]:
        with pytest.raises(
            OperatorError, match=f"{words[-1]} is a command and must be the first word"
        ):
            cli.read_settings(words, {})
    assert cli.read_settings(["status:app"], {}).app == "status:app"
    assert cli.read_settings([], {"REACTOR_RUN_APP": "status"}).app == "status"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3725, "1 h 2 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.00042, "0.4 ms"),
        (0.25, "250 ms"),
        (2.05, "2.0 s"),
        (61.0, "1 min 1 s"),
    ],
)
def test_brief_durations(seconds: float | None, shown: str) -> None:
    assert brief(seconds) == shown
