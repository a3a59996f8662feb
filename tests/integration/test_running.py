"""`reactor_run.run` in scripts, as users write them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import reactor_run
from reactor_run.frontend.errors import OperatorError
from tests.integration.client import Client
from tests.integration.server import clean_environment
from tests.integration.waiting import eventually

APP = """
import reactor_run

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]

"""


@contextmanager
def running(script: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a script that serves; yield the process and its log."""
    log = script.with_suffix(".log")
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *options, script.name],
            cwd=script.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=clean_environment(),
            process_group=0,
        ) as process,
    ):
        try:
            yield process, log
        finally:
            process.kill()


def output(script: Path) -> str:
    """The output of a script that ends by itself."""
    with running(script) as (process, log):
        assert process.wait(30) == 0, log.read_text()
        return log.read_text()


@pytest.mark.parametrize("app", ['"web:app"', "app"])
def test_a_script_serves_its_app_until_a_signal(tmp_path: Path, app: str) -> None:
    script = tmp_path / "web.py"
    script.write_text(
        f'{APP}if __name__ == "__main__":\n'
        f'    reactor_run.run({app}, bind=["127.0.0.1:0"], reactors=2, log_level="debug")\n'
        '    print("and goes on")\n'
    )
    with running(script) as (process, log):
        eventually(lambda: "ready, accepting connections" in log.read_text())
        (address,) = re.findall(r"listening on (\S+)", log.read_text())
        with Client(address) as client:
            assert client.get("/").body == b"served"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert log.read_text().endswith("and goes on\n")


def test_a_call_without_the_guard_is_explained(tmp_path: Path) -> None:
    script = tmp_path / "web.py"
    script.write_text(
        f"{APP}from reactor_run.frontend.errors import OperatorError\n"
        "try:\n"
        '    reactor_run.run(app, bind="127.0.0.1:0")\n'
        "except OperatorError as error:\n"
        '    print("raised", error)\n'
    )
    text = output(script)
    assert "raised importing web failed: RuntimeError: run() was called while a reactor" in text


def test_an_app_that_does_not_start_raises_the_reason(tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text("app = 1 / 0\n")
    script = tmp_path / "serve.py"
    script.write_text(
        "import reactor_run\n"
        "from reactor_run.frontend.errors import OperatorError\n"
        "try:\n"
        '    reactor_run.run("web:app", bind="127.0.0.1:0")\n'
        "except OperatorError as error:\n"
        '    print("raised", error)\n'
    )
    text = output(script)
    assert "raised importing web failed: ZeroDivisionError: division by zero" in text
    assert 'web.py", line 1' in text


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"binds": "x"}, "TypeError: there is no setting 'binds'; the nearest is 'bind'"),
        ({"bind": "nonsense"}, "OperatorError: --bind: 'nonsense'"),
        ({"reactors": 0}, "OperatorError: --reactors: "),
        ({"factory": "perhaps"}, "OperatorError: --factory: expected on or off"),
        ({"bind": {}}, "OperatorError: bind: expected a string, a number, true or false"),
        (
            {"timeout": None},
            "OperatorError: timeout: expected a string, a number, true or false, not None",
        ),
    ],
)
def test_wrong_settings(settings: dict[str, object], error: str) -> None:
    with pytest.raises((TypeError, OperatorError)) as caught:
        reactor_run.run("web:app", **settings)  # type: ignore[arg-type]
    assert f"{caught.type.__name__}: {caught.value}".startswith(error)


def test_it_needs_the_main_thread() -> None:
    raised: list[BaseException] = []

    def call() -> None:
        try:
            reactor_run.run("web:app")
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "needs the main thread" in str(raised[0])
