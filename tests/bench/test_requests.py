"""The loads: requests that our own parser takes, no two alike, the same in each process."""

from pathlib import Path

from bench.load.requests import LOADS, Load, pool, write
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import parse_request_head
from tests.cases import loop_over

SOME = [Load(name, "/x", body=1000) for name in LOADS]


@loop_over("load", SOME)
def test_every_request_is_whole_and_clean(load: Load) -> None:
    for request in pool(load)[:200]:
        head = parse_request_head(request, Limits())
        assert head is not None
        assert len(request) == head.size + head.body


def test_no_two_requests_are_alike_unless_the_load_says_so() -> None:
    for load in SOME:
        entries = pool(load)
        assert len(set(entries)) == (1 if load.name == "identical" else len(entries)), load
        assert len(entries) >= 64


def test_a_third_of_what_browsers_and_services_send_has_a_body() -> None:
    for name in ("browser", "api"):
        posts = sum(request.startswith(b"POST ") for request in pool(Load(name)))
        assert 0.27 < posts / len(pool(Load(name))) < 0.33


def test_pipelined_requests_are_one_entry() -> None:
    entry = pool(Load("distinct", "/x", pipelined=16))[0]
    assert entry.count(b"GET /x?") == 16
    assert len({part for part in entry.split(b"\r\n\r\n") if part}) == 16


def test_a_pool_of_large_requests_is_small() -> None:
    uploads = pool(Load("upload", "/up", body=1 << 20))
    assert len(uploads) == 64
    assert sum(map(len, uploads)) < 80 << 20


def test_the_file_for_wrk_has_each_request_after_its_length(tmp_path: Path) -> None:
    load = Load("distinct", "/x")
    write(load, tmp_path / "pool")
    data = (tmp_path / "pool").read_bytes()
    found = []
    while data:
        length, _, data = data.partition(b"\n")
        found.append(data[: int(length)])
        data = data[int(length) :]
    assert tuple(found) == pool(load)
