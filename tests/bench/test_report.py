"""From records to a report: ratios turn by turn, bars, what failed, and a file that was cut."""

import re
from pathlib import Path

import pytest

from bench import plan, report
from bench.__main__ import main
from bench.bars import BARS, Bar
from bench.plan import Options
from bench.records import Recorder, Results
from bench.sample import Sample
from bench.workloads import WORKLOADS

README = (Path(__file__).parents[2] / "bench" / "README.md").read_text()
MACHINE = {"date": "2026-01-02", "machine": "a loom"}
HELLO = plan.make(Options(only=["hello/64"], peers=["uvicorn"]))[0]


def sample(rate: float, p99: float = 0.01, **more) -> Sample:
    return Sample({"rate": rate, "p99": p99}, {"worker": (0.3, 0.2)}, 10_000, **more)


@pytest.fixture
def folder(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.begin(MACHINE, Options(), [HELLO])
    recorder.started(HELLO, "uvicorn", "uvicorn --port 20123 --workers 1 app", False)
    runs = [
        ("reactor-run", 1, 200, "uvicorn", 100),
        ("reactor-run", 2, 30, "uvicorn", 10),
        ("reactor-run", 3, 600, "uvicorn", 600),
    ]
    for ours, number, rate, peer, their_rate in runs:
        recorder.sample(HELLO, ours, number, 0, sample(rate))
        recorder.sample(HELLO, peer, number, 0, sample(their_rate, 0.02))
    bad = sample(1, 99, problems=["wrk's errors: 3 read"])
    recorder.sample(HELLO, "reactor-run", 4, 0, bad)
    recorder.sample(HELLO, "uvicorn", 4, 0, sample(900, remarks=["others used the core"]))
    recorder.failed(HELLO, "reactor-run-plain", "did not start: no | such\nthing")
    recorder.end("complete")
    return tmp_path


def test_the_ratio_is_the_median_of_the_turns_ratios(folder):
    ratio = Results(folder).case("hello", "64").ratio("reactor-run", "uvicorn", "rate")
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == (1, 2, 3)


def test_a_run_with_problems_is_in_no_figure(folder):
    found = Results(folder).case("hello", "64").figure("reactor-run", "rate")
    assert found is not None
    assert (found.low, found.median, found.high) == (30, 200, 600)


def test_the_report_says_what_was_measured_and_what_was_not(folder):
    text = report.render(Results(folder), ["hello.png"])
    assert "- machine: a loom" in text
    row = next(line for line in text.splitlines() if line.startswith("| uvicorn"))
    assert "uvicorn (closes connections)" in row
    assert "350 [10 to 900]" in row
    assert "2.00 [1.00 to 3.00] (reactor-run)" in row
    assert "worker 30.0 + 20.0 µs" in row
    assert "not measured: did not start: no / such thing" in text
    assert "- reactor-run, round 4 does not count: wrk's errors: 3 read" in text
    assert "- uvicorn: others used the core (1 of 4 runs)" in text
    assert "**closed loop.**" in text
    assert "![Hello: 13 bytes, identical requests](hello.png)" in text
    assert "`uvicorn --port PORT --workers 1 app`" in text
    bar = next(line for line in text.splitlines() if ">= 1.5 x uvicorn" in line)
    assert "| 2 (reactor-run / uvicorn, hello/64)" in bar
    assert bar.rstrip(" |").endswith("yes")
    assert "This run is" not in text


def test_a_run_that_was_cut_short_has_a_report(folder):
    records = folder / "records.jsonl"
    records.write_text(records.read_text()[:-9])
    head = folder / "run.json"
    head.write_text(head.read_text().replace('"complete"', '"unfinished"'))
    text = report.render(Results(folder))
    assert "**This run is unfinished.**" in text
    assert "350 [10 to 900]" in text


def test_a_report_can_be_made_again(folder, capsys):
    assert main(["--report", str(folder)]) == 0
    assert (folder / "report.md").read_text() == report.render(
        Results(folder), [path.name for path in folder.glob("*.png")]
    )


def test_a_folder_without_a_run_is_an_error_of_the_user(tmp_path, capsys):
    assert main(["--report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_the_newest_report_is_linked_from_one_page(folder):
    path = report.write_latest(folder)
    text = path.read_text()
    assert path.parent == folder.parent
    assert f"({folder.name}/report.md)" in text
    assert "../../README" not in text


@pytest.mark.parametrize(
    ("values", "bound", "at_most", "met"),
    [
        ([2.0, 3.0], 2, False, True),
        ([1.9, 3.0], 2, False, False),
        ([0.5, 1.0], 1, True, True),
        ([0.5, 1.1], 1, True, False),
        ([], 1, True, None),
    ],
)
def test_a_bar_has_its_side_and_the_worst_value_counts(folder, values, bound, at_most, met):
    bar = Bar("", lambda results: [("x", value) for value in values], bound, at_most)
    assert bar.is_met(Results(folder)) is met


def test_every_bar_is_met_or_missed_by_a_whole_run_and_points_to_what_was_tried(tmp_path):
    planned = plan.make(Options())
    recorder = Recorder(tmp_path)
    recorder.begin(MACHINE, Options(), planned)
    for each in planned:
        measures = dict.fromkeys(each.workload.measures, 1.0)
        for server in each.case.servers():
            recorder.sample(each, server, 1, 0, Sample(measures))
    recorder.end("complete")
    results = Results(tmp_path)
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", README, re.M)
    }
    for bar in BARS:
        assert bar.measured(results) is not None, bar.wanted
        assert bar.read in headings, bar.wanted
    text = report.render(results)
    for workload in WORKLOADS:
        assert f"(`{workload.name}`)" in text
