"""Every workload and server can be chosen and is documented; the plan keeps to its time."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bench import plan, schedule
from bench.measures import MEASURES
from bench.plan import NotThere, Options
from bench.servers import BY_NAME, OURS, SERVERS
from bench.workload import Pair
from bench.workloads import WORKLOADS
from tests.cases import loop_over

README = (Path(__file__).parents[2] / "bench" / "README.md").read_text()
CASES = [(workload, case) for workload in WORKLOADS for case in workload.cases]

every_case = loop_over("workload, case", CASES, ids=lambda both: f"{both[0].name}/{both[1].name}")


@every_case
def test_a_case_can_be_chosen_alone(workload, case):
    (planned,) = plan.make(Options(only=[f"{workload.name}/{case.name}"]))
    assert planned.case.name == case.name
    assert planned.cost > 0


@every_case
def test_a_case_compares_servers_that_there_are_by_measures_that_there_are(workload, case):
    for pair in case.pairs:
        assert pair.ours in OURS
        assert case.deployment.app(BY_NAME[pair.peer].interface)
    assert set(case.cannot) <= BY_NAME.keys() - set(case.servers())
    assert set(case.quick) <= {pair.peer for pair in case.pairs}
    assert set(workload.compared) <= set(workload.measures) <= MEASURES.keys()


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_a_workload_can_be_chosen_and_is_documented(workload):
    planned = plan.make(Options(only=[workload.name]))
    assert [each.case.name for each in planned] == [case.name for case in workload.cases]
    assert f"| `{workload.name}` |" in README
    assert workload.about
    assert workload.loop


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_a_server_can_be_chosen_and_is_documented(server):
    assert f"`{server.name}`" in README
    planned = plan.make(Options(peers=[server.name]))
    peers = {pair.peer for each in planned for pair in each.case.pairs}
    if server.name not in OURS:
        assert server.name in peers
        assert all(peer in OURS | {server.name, "floor"} for peer in peers)


def test_a_family_stands_for_its_servers():
    planned = plan.make(Options(only=["hello/64"], peers=["granian"]))
    assert {p.peer for p in planned[0].case.pairs} == {"granian-asgi", "granian-wsgi"}


@pytest.mark.parametrize("options", [Options(only=["hullo"]), Options(peers=["uvicron"])])
def test_a_name_that_is_not_there_is_an_error_that_lists_those_that_are(options):
    with pytest.raises(NotThere, match="there are"):
        plan.make(options)


def test_the_whole_takes_less_than_two_and_a_half_hours_and_the_quick_one_three_minutes():
    assert sum(each.cost for each in plan.make(Options())) < 150 * 60
    quick = plan.make(Options(rounds=1, quick=True))
    assert sum(each.cost for each in quick) < 180
    assert {each.workload.name for each in quick} > {"hello", "uneven", "kills", "overload"}


def test_only_all_of_it_counts_as_the_whole():
    assert Options().is_full
    for part in (
        Options(only=["hello"]),
        Options(peers=["uvicorn"]),
        Options(rounds=3),
        Options(seconds=1),
        Options(quick=True),
        Options(cpu=True),
    ):
        assert not part.is_full


@every_case
@loop_over("number", [1, 2])
def test_every_peer_runs_directly_beside_ours(workload, case, number):
    seen = set()
    for turn in schedule.turns(case, number):
        for first, second in pairwise(turn):
            (ours,) = {first, second} & {pair.ours for pair in case.pairs}
            (peer,) = {first, second} - {ours}
            seen.add(Pair(ours, peer))
    assert seen == set(case.pairs)


def test_who_goes_first_changes_from_round_to_round():
    case = replace(CASES[0][1], pairs=CASES[0][1].pairs[:2])
    assert list(schedule.turns(case, 1)) == [["uvicorn", "reactor-run", "granian-asgi"]]
    assert list(schedule.turns(case, 2)) == [["granian-asgi", "reactor-run", "uvicorn"]]
    assert schedule.runs(case) == 3
