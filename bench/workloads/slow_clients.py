"""200 slow clients, and what is left for the others."""

from __future__ import annotations

from typing import ClassVar

from bench.deployment import Deployment, both
from bench.load import drip
from bench.running import Running
from bench.sample import Sample, add_wrk, watching
from bench.workload import Case, Setup, Workload, against
from bench.workloads.closed import load


class SlowClients(Workload):
    name: ClassVar[str] = "slow-clients"
    title: ClassVar[str] = "200 slow clients beside fast ones"
    loop: ClassVar[str] = "closed, beside clients with a pace of their own"
    about: ClassVar[str] = (
        "200 clients send their head, or their body, or read an answer of 1 MiB, six bytes a "
        "second. wrk measures 64 others, first without and then beside them, in the same run; the "
        "first column is the quotient of the two. One core, one worker, four threads for WSGI. A "
        "server that closes slow clients has fewer of them to bear; how many is in the last column."
    )
    measures: ClassVar[tuple[str, ...]] = ("beside", "without", "rate", "p99", "cpu", "given_up")
    compared: ClassVar[tuple[str, ...]] = ("beside",)
    factor: ClassVar[float] = 2.0
    overhead: ClassVar[float] = 2.0

    def __init__(self) -> None:
        deployment = Deployment(both("bodies"), threads=4, connections=600)
        pairs = (
            *against("reactor-run", "uvicorn"),
            *against("reactor-run-wsgi", "gunicorn-gthread", "granian-wsgi"),
        )

        def case(kind: drip.Kind, title: str) -> Case:
            values = {"kind": kind, "connections": 64}
            quick = ("uvicorn",) if kind == "body" else ()
            return Case(kind, title, deployment, pairs, 2, values, quick)

        self.cases = (
            case("head", "slow heads"),
            case("body", "slow bodies"),
            case("read", "slow readers"),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        core = setup.cores.load
        without = load(case, server, core, setup.seconds)
        if not setup.round:
            return Sample()
        with drip.dripping(server.address, case["kind"], setup.scaled(200)) as slow:
            drip.settle()
            with watching(server) as sample:
                result = load(case, server, core, setup.seconds)
        add_wrk(sample, result, forgiving=True)
        sample.measures |= {"without": without.rate, "given_up": float(slow.given_up)}
        if without.rate:
            sample.measures["beside"] = result.rate / without.rate
        else:
            sample.problems.append("no request was answered without slow clients")
        return sample
