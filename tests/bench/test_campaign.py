"""A server or a run that fails is told, and the others go on; nothing runs afterwards."""

import os
import time
from typing import Any, cast

import pytest

from bench import campaign as module
from bench import proc
from bench.campaign import Campaign
from bench.deployment import Deployment
from bench.errors import RunFailed, time_limit
from bench.pinning import Cores
from bench.plan import Options, Planned
from bench.records import Recorder, Results
from bench.sample import Sample
from bench.servers import Program, Server
from bench.workload import Case, Workload, against

CORE = min(os.sched_getaffinity(0))
CORES = Cores((CORE, CORE), CORE)
FLOOR = "python -m bench.serve floor {port} 1 bench.apps.hello:asgi"
SERVERS = {
    name: Server(name, name, "asgi", (), (Program(line, "main", "child"),))
    for name, line in {
        "good": FLOOR,
        "other": FLOOR,
        "fails": FLOOR,
        "missing": "no-such-server {port}",
    }.items()
}


class Kept(Workload):
    name = "fake"
    title = "Fake"
    loop = "closed"
    about = "?"
    measures = ("rate",)
    compared = ("rate",)

    overhead = 1.0

    def __init__(self):
        self.pids = []
        deployment = Deployment((("asgi", "bench.apps.hello:asgi"),))
        pairs = against("good", "fails", "missing", "other")
        self.cases = (Case("one", "One", deployment, pairs),)

    def sample(self, case, server, setup):
        self.pids.append(server.pid)
        if server.server.name == "fails" and setup.round:
            raise RunFailed("as it does")
        return Sample({"rate": 1.0})


class Fresh(Kept):
    start = "fresh"


def run(folder, workload, rounds=3):
    options = Options(rounds=rounds)
    planned = [Planned(workload, workload.cases[0], 1.0, 1.0)]
    recorder = Recorder(folder)
    recorder.begin({"machine": "?"}, options, planned)
    try:
        assert list(Campaign(CORES, options, recorder).run(planned)) == planned
    finally:
        recorder.end("over")
    return Results(folder).case("fake", "one")


@pytest.mark.parametrize("kind", [Kept, Fresh])
def test_one_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(module, "BY_NAME", SERVERS)
    workload = kind()
    found = run(tmp_path, workload)
    assert len(found.counted("good")) == 6, "beside two turns in each of three rounds"
    assert len(found.counted("other")) == 3
    assert not found.counted("fails")
    assert found.failures["fails"] == ["round 1: as it does", "round 2: as it does"]
    assert "not installed" in found.failures["missing"][0]
    assert workload.pids
    assert [proc.session(pid) for pid in set(workload.pids)] == [[]] * len(set(workload.pids))


def test_ctrl_c_ends_every_server(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BY_NAME", SERVERS)
    workload = Kept()

    def interrupted(case, server, setup):
        workload.pids.append(server.pid)
        if setup.round:
            raise KeyboardInterrupt
        return Sample({"rate": 1.0})

    monkeypatch.setattr(workload, "sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, workload)
    assert len(set(workload.pids)) == 3
    assert not any(proc.session(pid) for pid in workload.pids)


def test_a_run_that_lasts_too_long_is_given_up():
    begin = time.monotonic()
    with pytest.raises(RunFailed, match="the nap took more than"), time_limit(0.05, "the nap"):
        time.sleep(30)
    assert time.monotonic() - begin < 20


class Working:
    """A server that nobody asks, and that has so much to do still."""

    def __init__(self, *seconds):
        self.seconds = list(seconds)

    def usage(self):
        return {("main", (1, 1)): proc.Cpu(self.seconds.pop(0), 0.0)}


def rests(*seconds, monkeypatch):
    monkeypatch.setattr(module, "_LOOK", 0.01)
    campaign = Campaign(CORES, Options(rounds=1), cast(Recorder, None))
    server = Working(*seconds)
    campaign._kept = cast(Any, {"busy": (server, None)})
    campaign._await_rest()
    return server.seconds


def test_servers_finish_what_they_have_before_the_next_run(monkeypatch):
    left = rests(1.0, 1.01, 1.02, 1.02, 9.0, monkeypatch=monkeypatch)
    assert left == [9.0], "it was looked at until it had rested once"


def test_one_that_never_rests_is_not_waited_for_for_ever(monkeypatch, capsys):
    monkeypatch.setattr(module, "_REST_MAX", 0.0)
    assert rests(1.0, 2.0, monkeypatch=monkeypatch) == [2.0]
    assert "still at work" in capsys.readouterr().err
