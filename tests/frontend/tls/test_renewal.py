"""Certificates that change while the service runs, and those that expire."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reactor_run.frontend.tls.renewal import is_due
from tests.frontend.conftest import Start
from tests.frontend.standin import Front, get
from tests.integration.certificates import Authority

LOOK = 6.0
"""More than the seconds between two looks at the files."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def serve(start: Start, pair: tuple[str, str], **settings: Any) -> Front:
    return start(certfile=(pair[0],), keyfile=(pair[1],), **settings)


def names(front: Front, authority: Authority) -> set[str]:
    """The names of the certificate that a new client gets."""
    context = authority.client()
    context.check_hostname = False
    client = front.connect(tls=context)
    certificate: Any = client.tls.getpeercert()
    client.close()
    return {name for _, name in certificate["subjectAltName"]}


def replace(pair: tuple[str, str], by: tuple[str, str]) -> None:
    """Put other content into the files of a pair, each at once."""
    for old, new in zip(pair, by, strict=True):
        Path(new).rename(old)


def told(front: Front) -> dict[str, Any]:
    renewal = front.server._certificates
    assert renewal is not None
    return front.call(renewal.report)


def test_files_that_change_are_read_again(start: Start, authority: Authority) -> None:
    pair = authority.issue("a.test")
    front = serve(start, pair)
    kept = front.connect(tls=authority.client(), host="a.test")
    assert names(front, authority) == {"a.test"}
    front.pass_time(LOOK)
    assert told(front)["reloads"] == 0
    replace(pair, authority.issue("b.test"))
    assert names(front, authority) == {"a.test"}
    front.pass_time(LOOK)
    assert names(front, authority) == {"b.test"}
    assert told(front)["reloads"] == 1
    assert told(front)["certificates"][0]["names"] == ["b.test"]
    assert any("was read again, valid until " in line for line in front.log)
    # The connection from before goes on.
    kept.send(get())
    (reactor,) = front.reactors
    reactor.reply(reactor.request()[0])
    assert kept.response().status == 200


def test_a_swapped_link_is_noticed(start: Start, authority: Authority, tmp_path: Path) -> None:
    # As Kubernetes mounts a secret: both files lead through one link, which is swapped.
    for version, name in (("1", "a.test"), ("2", "b.test")):
        (tmp_path / version).mkdir()
        pair = authority.issue(name)
        for old, new in zip(pair, ("tls.crt", "tls.key"), strict=True):
            Path(old).rename(tmp_path / version / new)
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "tls.crt").symlink_to("data/tls.crt")
    (tmp_path / "tls.key").symlink_to("data/tls.key")
    front = serve(start, (str(tmp_path / "tls.crt"), str(tmp_path / "tls.key")))
    assert names(front, authority) == {"a.test"}
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "data")
    front.pass_time(LOOK)
    assert names(front, authority) == {"b.test"}


def test_new_permissions_are_noticed(start: Start, authority: Authority) -> None:
    # A tool may write a key, and only then let the service's user read it.
    pair = authority.issue("a.test")
    front = serve(start, pair)
    os.chmod(pair[1], 0o600)
    front.pass_time(LOOK)
    assert told(front)["reloads"] == 1


def test_files_that_cannot_be_used_change_nothing(start: Start, authority: Authority) -> None:
    pair = authority.issue("a.test")
    front = serve(start, pair)
    certfile, keyfile = authority.issue("b.test")
    os.replace(certfile, pair[0])
    front.pass_time(LOOK)
    assert names(front, authority) == {"a.test"}
    assert "does not belong to" in told(front)["failure"]
    line = "the old certificates stay in use: "
    assert sum(line in each for each in front.log) == 1
    # Nothing is tried again before a file changes.
    front.pass_time(LOOK)
    assert sum(line in each for each in front.log) == 1
    os.replace(keyfile, pair[1])
    front.pass_time(LOOK)
    assert names(front, authority) == {"b.test"}
    assert told(front)["failure"] is None


def test_missing_and_expired_files_change_nothing(start: Start, authority: Authority) -> None:
    pair = authority.issue("a.test")
    front = serve(start, pair)
    os.rename(pair[0], pair[0] + ".away")
    front.pass_time(LOOK)
    assert "cannot be read" in told(front)["failure"]
    past = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    replace(pair, authority.issue("old.test", not_after=past))
    front.pass_time(LOOK)
    assert "expired on 2020-01-02" in told(front)["failure"]
    assert names(front, authority) == {"a.test"}


def test_a_reload_reads_them_at_once(start: Start, authority: Authority) -> None:
    pair = authority.issue("a.test")
    front = serve(start, pair)
    replace(pair, authority.issue("b.test"))
    front.call(front.server.commands.reload)
    assert names(front, authority) == {"b.test"}
    assert told(front)["reloads"] == 1
    front.call(front.server.commands.reload)
    assert told(front)["reloads"] == 1


def test_a_reload_tries_again_what_has_failed(start: Start, authority: Authority) -> None:
    pair = authority.issue("a.test")
    front = serve(start, pair)
    os.rename(pair[0], pair[0] + ".away")
    for _ in range(2):
        front.call(front.server.commands.reload)
    assert sum("stay in use: " in each for each in front.log) == 2


def test_the_log_warns_before_the_end_once_a_day(start: Start, authority: Authority) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=13)
    front = serve(start, authority.issue("a.test", not_after=soon))
    line = "expires on "
    assert sum(line in each for each in front.log) == 1
    front.pass_time(LOOK)
    assert sum(line in each for each in front.log) == 1
    front.pass_time(86400)
    assert sum(line in each for each in front.log) == 2


@pytest.mark.parametrize(
    ("days", "left", "due"),
    [
        (365, 15, False),
        (365, 13, True),
        (6, 3, False),
        (6, 1.9, True),
        (42, 14.1, False),
        (1, -1, True),
    ],
)
def test_when_a_renewal_is_due(days: float, left: float, due: bool) -> None:
    now = time.time()
    end = now + left * 86400
    certificate = SimpleNamespace(not_before=end - days * 86400, not_after=end)
    identity: Any = SimpleNamespace(certificate=certificate)
    assert is_due(identity, now) is due
