"""Reactors that a zygote forks (`--preload on`). The test plays the zygote and the reactors."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.reactors.process import ForkedChild
from tests.frontend.conftest import Start
from tests.frontend.standin import Front, StandIn, StandInZygote, get


@pytest.fixture
def begin(start: Start) -> Callable[..., tuple[Front, StandInZygote]]:
    """A front end whose zygote imports the app."""

    def run(count: int = 1, **settings: object) -> tuple[Front, StandInZygote]:
        front = start(capacities=(), count=count, preload="on", **settings)
        (zygote,) = front.zygotes
        return front, zygote

    return run


Begin = Callable[..., tuple[Front, StandInZygote]]


def forking(front: Front) -> bool:
    return front.server.supervisor.forking


def ready(reactor: StandIn, front: Front) -> StandIn:
    reactor.ready()
    front.settle()
    return reactor


def serves(front: Front, reactor: StandIn) -> bool:
    client = front.connect()
    client.send(get())
    reactor.reply(reactor.request()[0])
    return client.response().status == 200


def test_reactors_are_asked_for_when_the_app_is_imported(begin: Begin) -> None:
    front, zygote = begin(2)
    front.settle()
    assert zygote.silent
    assert [each.pid for each in front.server.supervisor.reactors] == [0, 0]
    zygote.say(preloaded=True)
    first, second = zygote.fork(), zygote.fork()
    assert (first.name, second.name) == ("reactor 1", "reactor 2")
    assert 0 not in [each.pid for each in front.server.supervisor.reactors]
    assert serves(front, ready(first, front))
    assert not forking(front)


def test_a_dead_reactor_is_forked_again_and_its_status_is_known(begin: Begin) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    first = ready(zygote.fork(), front)
    pid = first.inside.pid
    first.die()
    second = ready(zygote.fork(), front)
    assert f"error reactor 1 (pid {pid}) was killed by signal 9" in " ".join(front.log)
    assert serves(front, second)


def test_while_a_reactor_is_forked_no_child_counts_as_an_orphan(begin: Begin) -> None:
    front, zygote = begin()
    assert not forking(front)
    zygote.say(preloaded=True)
    assert forking(front)
    # The status of a child stays, although it is none of the known ones.
    child = ForkedChild(os.posix_spawnp("true", ["true"], os.environ))
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    front.signal(signal.SIGCHLD)
    assert child.wait() == 0
    zygote.fork()
    assert not forking(front)


# Reactors that are never born ---------------------------------------------------------------------


def test_an_unwanted_reactor_is_not_asked_for(begin: Begin) -> None:
    front, zygote = begin(2)
    front.signal(signal.SIGTTOU)
    front.settle()
    assert len(front.server.supervisor.reactors) == 1
    zygote.say(preloaded=True)
    assert serves(front, ready(zygote.fork(), front))
    assert zygote.silent


def test_a_reactor_that_is_unwanted_while_it_is_forked_is_killed(begin: Begin) -> None:
    front, zygote = begin(2)
    zygote.say(preloaded=True)
    ready(zygote.fork(), front)
    front.signal(signal.SIGTTOU)
    front.settle()
    assert len(front.server.supervisor.reactors) == 2
    second = zygote.fork()
    second.wait_for_end()
    assert len(front.server.supervisor.reactors) == 1


def test_an_app_that_cannot_be_imported_ends_the_service(begin: Begin) -> None:
    front, zygote = begin(2)
    zygote._channel.sendall(b'{"failed": "importing it failed", "details": null}\n')
    with pytest.raises(OperatorError, match="importing it failed"):
        front.exit()


def test_a_reactor_that_cannot_be_forked_is_tried_again(begin: Begin) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    ready(zygote.fork(), front).die()
    zygote.fail_to_fork("there is no room")
    assert "error reactor 2: there is no room" in front.log
    front.pass_time(3)
    assert serves(front, ready(zygote.fork(), front))


def test_a_zygote_that_dies_is_replaced_by_the_next_reactor(begin: Begin) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    first = ready(zygote.fork(), front)
    pid = zygote.pid
    zygote.kill()
    assert f"error zygote (pid {pid}) was killed by signal 9" in front.log
    assert serves(front, first)
    first.die()
    front.settle()
    second = front.zygotes[1]
    second.say(preloaded=True)
    assert serves(front, ready(second.fork(), front))


def test_a_zygote_that_dies_takes_those_with_it_that_it_was_to_fork(begin: Begin) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    ready(zygote.fork(), front).die()
    front.settle()
    assert forking(front)
    zygote.kill()
    assert not forking(front)
    assert "error reactor 2: the zygote was killed by signal 9" in front.log
    front.pass_time(3)
    front.zygotes[1].say(preloaded=True)
    assert serves(front, ready(front.zygotes[1].fork(), front))


def test_a_zygote_that_breaks_the_protocol_is_killed(begin: Begin) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    ready(zygote.fork(), front)
    pid = zygote.pid
    zygote.say(forked=1)
    zygote.see_dead(pid)
    assert any("invalid message" in line for line in front.log)


def test_a_zygote_that_hangs_is_killed_after_the_start_timeout(begin: Begin) -> None:
    front, zygote = begin(start_timeout=5.0)
    zygote.say(preloaded=True)
    first = ready(zygote.fork(), front)
    pid = zygote.pid
    first.die()
    front.settle()
    front.pass_time(6)
    zygote.see_dead(pid)
    front.pass_time(3)
    front.zygotes[1].say(preloaded=True)
    assert serves(front, ready(front.zygotes[1].fork(), front))


def test_a_zygote_that_hangs_in_the_import_is_killed_too(begin: Begin) -> None:
    front, zygote = begin(start_timeout=5.0)
    zygote.say(preloaded=True)
    first = ready(zygote.fork(), front)
    zygote.kill()
    first.die()
    front.settle()
    hangs = zygote.pid
    front.pass_time(6)
    zygote.see_dead(hangs)
    assert f"error zygote (pid {hangs}): reactor 2 has waited for 5 s, killing it" in front.log
    front.pass_time(3)
    front.zygotes[2].say(preloaded=True)
    assert serves(front, ready(front.zygotes[2].fork(), front))


def test_a_zygote_that_is_about_to_end_is_not_asked(begin: Begin) -> None:
    """The kernel closes the channel of a process before it reports the end of the process."""
    front, zygote = begin()
    zygote.say(preloaded=True)
    first = ready(zygote.fork(), front)
    ends = zygote.pid
    zygote.hang_up()
    front.settle()
    first.die()
    front.settle()
    front.zygotes[1].say(preloaded=True)
    assert serves(front, ready(front.zygotes[1].fork(), front))
    # It has two seconds to end.
    front.pass_time(3)
    zygote.see_dead(ends)
    assert f"error zygote (pid {ends}) was killed by signal 9" in front.log


def test_many_deaths_do_not_delay_what_a_dead_zygote_was_to_fork(begin: Begin) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    for _ in range(10):
        ready(zygote.fork(), front).die()
        front.pass_time(0.3)
    zygote.kill()
    assert front.log[-1] == "warning reactor 11: its replacement starts in 1 s"
    front.pass_time(1.3)
    assert len(front.zygotes) == 2


# Apps that cannot be forked -----------------------------------------------------------------------


def test_reactors_of_an_app_that_cannot_be_forked_are_executed(begin: Begin) -> None:
    front, zygote = begin(2)
    zygote.say(not_forkable=["a thread", "a socket"])
    assert any("the import leaves a thread, a socket; see" in line for line in front.log)
    assert [reactor.name for reactor in front.reactors] == ["reactor 1", "reactor 2"]
    first = ready(front.reactors[0], front)
    assert serves(front, first)
    zygote.kill()
    assert not any("zygote" in line and line.startswith("error") for line in front.log)
    first.die()
    front.settle()
    assert len(front.zygotes) == 1
    assert serves(front, ready(front.reactors[2], front))


def test_a_reactor_that_cannot_be_executed_either_is_tried_again(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    ready(zygote.fork(), front).die()
    zygote.fail_to_fork("there is no room")
    zygote.kill()
    front.pass_time(3)

    def fail(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", fail)
        front.zygotes[1].say(not_forkable=["a thread"])
    assert any("cannot be started: Resource temporarily" in line for line in front.log)
    front.pass_time(5)
    assert serves(front, ready(front.reactors[-1], front))


# Reloads ------------------------------------------------------------------------------------------


def test_a_reload_has_a_zygote_of_its_own(begin: Begin) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    old = ready(zygote.fork(), front)
    first = zygote.pid
    front.signal(signal.SIGHUP)
    front.settle()
    coming = front.zygotes[1]
    coming.say(preloaded=True)
    new = ready(coming.fork(), front)
    zygote.see_dead(first)
    assert len(front.server.pools.zygotes) == 1
    old.hear("stop")
    assert serves(front, new)
    assert not any(line.startswith("error") for line in front.log)


def test_a_reload_that_fails_ends_its_zygote_only(begin: Begin) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    first = ready(zygote.fork(), front)
    serving = zygote.pid
    front.signal(signal.SIGHUP)
    front.settle()
    (coming,) = set(front.server.pools.zygotes) - {serving}
    front.zygotes[1].say(failed="importing it failed", details=None)
    zygote.see_dead(coming)
    assert any("RELOAD FAILED: importing it failed" in line for line in front.log)
    assert front.server.pools.zygotes == [serving]
    first.die()
    assert serves(front, ready(zygote.fork(), front))


def test_a_reload_that_begins_anew_imports_anew(begin: Begin) -> None:
    front, zygote = begin()
    zygote.say(preloaded=True)
    ready(zygote.fork(), front)
    serving = zygote.pid
    front.signal(signal.SIGHUP)
    front.settle()
    (given_up,) = set(front.server.pools.zygotes) - {serving}
    front.call(lambda: front.server.supervisor.reload(anew=True))
    zygote.see_dead(given_up)
    front.zygotes[2].say(preloaded=True)
    assert serves(front, ready(front.zygotes[2].fork(), front))
