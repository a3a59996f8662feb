"""Runs a plan: starts servers, takes their turns, writes down every run, and never ends for one
server or one workload that fails."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from bench import schedule
from bench.deployment import Deployment
from bench.errors import DidNotStart, RunFailed, time_limit
from bench.measures import MEASURES
from bench.pinning import Cores
from bench.plan import Options, Planned
from bench.records import Recorder
from bench.running import Running, running, signals_held
from bench.sample import Sample
from bench.servers import BY_NAME
from bench.workload import Setup

_FAILURES_MAX: Final = 2
"""In a row, after which a server is left out of a case."""
_SPARE: Final = 45.0
"""Seconds that a run may take beyond thrice its cost: a start, answers that time out."""
_REST_MAX: Final = 30.0
"""Seconds that are waited for servers to finish what nobody asks for any more."""
_LOOK: Final = 0.1
"""Seconds over which is seen whether they have."""
_IDLE: Final = 0.2
"""Share of a core that servers without requests may use, all together."""


class Campaign:
    """One plan, one folder."""

    def __init__(self, cores: Cores, options: Options, recorder: Recorder) -> None:
        self._cores = cores
        self._options = options
        self._recorder = recorder
        self._kept: dict[tuple[str, Deployment], tuple[Running, ExitStack]] = {}
        self._failures: dict[str, int] = {}
        """In a row, of each server in this case."""

    def run(self, planned: Sequence[Planned]) -> Generator[Planned, None, None]:
        """Run all; yield each case when it is over. Every server ends with it, however it ends."""
        try:
            for each in planned:
                self._failures = {}
                self._run_case(each)
                yield each
        finally:
            with signals_held():
                self._release(())

    def _run_case(self, planned: Planned) -> None:
        case = planned.case
        if planned.workload.start == "kept":
            self._release([(name, case.deployment) for name in case.servers()])
            for name in case.servers():
                self._warm_up(planned, name)
        else:
            self._release(())
        for number in range(1, self._options.rounds + 1):
            for turn, names in enumerate(schedule.turns(case, number)):
                said = [self._take_turn(planned, name, number, turn) for name in names]
                tell(f"{planned.workload.name}/{case.name} round {number}: {', '.join(said)}")

    def _take_turn(self, planned: Planned, name: str, number: int, turn: int) -> str:
        """One run; what came of it, for those who watch."""
        if self._failures.get(name, 0) >= _FAILURES_MAX:
            return f"{name} left out"
        setup = Setup(self._cores, planned.seconds, number, self._options.scale, self._options.cpu)
        self._await_rest()
        try:
            sample = self._sample(planned, name, setup)
        except (DidNotStart, RunFailed) as error:
            return self._note_failure(planned, name, f"round {number}: {error}")
        except Exception as error:
            # A fault of this tool, or of a server that answers what none should: go on without.
            return self._note_failure(planned, name, f"round {number}: {error!r}")
        self._failures[name] = 0
        self._recorder.sample(planned, name, number, turn, sample)
        first = planned.workload.measures[0]
        value = sample.measures.get(first)
        shown = "nothing" if value is None else MEASURES[first].shown(value)
        return f"{name} {shown}{' (does not count)' if sample.problems else ''}"

    def _sample(self, planned: Planned, name: str, setup: Setup) -> Sample:
        workload, case = planned.workload, planned.case
        limit = 3 * workload.cost(setup.seconds) + _SPARE
        with time_limit(limit, "the run"):
            if workload.start == "own":
                return workload.sample_start(case, lambda: self._start(planned, name), setup)
            if workload.start == "fresh":
                with self._start(planned, name) as server:
                    return workload.sample(case, server, setup)
            with self._turn(planned, name) as server:
                return workload.sample(case, server, setup)

    def _await_rest(self) -> None:
        """Wait until no server works any more: after an overload some still do, for nobody."""
        latest = time.monotonic() + _REST_MAX
        used = self._used()
        while time.monotonic() < latest:
            time.sleep(_LOOK)
            before, used = used, self._used()
            if used - before <= _IDLE * _LOOK:
                return
        tell(f"servers that nobody asks are still at work after {_REST_MAX:g} s")

    def _used(self) -> float:
        """CPU seconds of all servers that run."""
        return sum(
            cpu.total for server, _ in self._kept.values() for cpu in server.usage().values()
        )

    def _warm_up(self, planned: Planned, name: str) -> None:
        """Start a server that is to run all the time, and load it once."""
        if (name, planned.case.deployment) in self._kept:
            return
        setup = Setup(self._cores, self._options.warm_up, 0, self._options.scale)
        try:
            limit = 3 * planned.workload.cost(setup.seconds) + _SPARE
            with time_limit(limit, "the warm-up"), self._turn(planned, name) as server:
                planned.workload.sample(planned.case, server, setup)
        except DidNotStart as error:
            tell(self._note_failure(planned, name, f"did not start: {error}"))
            self._failures[name] = _FAILURES_MAX
        except Exception as error:
            tell(self._note_failure(planned, name, f"warm-up: {error}"))

    def _note_failure(self, planned: Planned, name: str, why: str) -> str:
        self._failures[name] = self._failures.get(name, 0) + 1
        self._recorder.failed(planned, name, why)
        # It may be in any state: the next run gets a new one.
        kept = self._kept.pop((name, planned.case.deployment), None)
        if kept:
            kept[1].close()
        return f"{name} failed: {why}"

    @contextmanager
    def _turn(self, planned: Planned, name: str) -> Iterator[Running]:
        """A server that runs all the time; one that never rests only now."""
        server = self._keep(planned, name)
        if not BY_NAME[name].restless:
            yield server
            return
        server.signal(signal.SIGCONT)
        try:
            yield server
        finally:
            server.signal(signal.SIGSTOP)

    def _keep(self, planned: Planned, name: str) -> Running:
        key = (name, planned.case.deployment)
        if key not in self._kept:
            stack = ExitStack()
            server = stack.enter_context(self._start(planned, name))
            # It cannot end while it is stopped.
            stack.callback(server.signal, signal.SIGCONT)
            self._kept[key] = server, stack
        return self._kept[key][0]

    def _release(self, but: Sequence[tuple[str, Deployment]]) -> None:
        """End the servers that are kept, except these."""
        for key in list(self._kept):
            if key not in but:
                self._kept.pop(key)[1].close()

    @contextmanager
    def _start(self, planned: Planned, name: str) -> Iterator[Running]:
        with running(BY_NAME[name], planned.case.deployment, self._cores) as server:
            self._recorder.started(planned, name, server.command, server.keeps_alive)
            yield server


def tell(line: str) -> None:
    """Say how it goes, beside the report."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
