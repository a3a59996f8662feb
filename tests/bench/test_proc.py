"""What /proc says, read."""

import os
import subprocess
import sys
import time

import pytest

from bench import proc

TICK = 1 / os.sysconf("SC_CLK_TCK")


def stat_line(name: str) -> str:
    fields = "S 1 42 40 0 -1 4194560 100 0 0 0 250 130 7 8 20 0 3 0 98765 1000 200"
    return f"42 ({name}) {fields}\n"


@pytest.mark.parametrize("name", ["python3", "Web Content", "a) R 1 (b", ""])
def test_a_name_may_hold_anything(name):
    process = proc.parse_stat(stat_line(name))
    assert process.pid == 42
    assert process.state == "S"
    assert process.session == 40
    assert process.started == 98765
    assert process.cpu.user == pytest.approx(250 * TICK)
    assert process.cpu.system == pytest.approx(130 * TICK)


def test_finds_this_process_in_its_session():
    leader = os.getsid(0)
    assert os.getpid() in {process.pid for process in proc.session(leader)}


def test_a_core_counts_processes_and_steal_and_interrupts_if_asked():
    text = (
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 1 1 1 1 1 1 1 1 0 0\ncpu10 100 20 30 7777 888 44 55 6 0 0\n"
    )
    assert proc.parse_core(text, 10, interrupts=False) == pytest.approx(156 * TICK)
    assert proc.parse_core(text, 10, interrupts=True) == pytest.approx(255 * TICK)
    with pytest.raises(LookupError):
        proc.parse_core(text, 0, interrupts=True)


def test_memory_of_a_process():
    text = (
        "5600-7fff ---p 00000000 00:00 0    [rollup]\n"
        "Rss:               8292 kB\nPss:               4028 kB\nPss_Dirty:   1 kB\n"
    )
    assert proc.parse_memory(text) == proc.Memory(8292 * 1024, 4028 * 1024)
    assert proc.memory(os.getpid()).resident > 1 << 20


def test_a_process_that_is_gone_has_no_memory():
    assert proc.memory(1 << 30) == proc.Memory(0, 0)


@pytest.fixture
def sleeper():
    """A process with two threads, in a session of its own."""
    code = "import threading, time; threading.Thread(target=time.sleep, args=[60]).start(); print()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def test_the_clock_of_a_process_is_finer_than_its_ticks():
    before = proc.cpu_clock(os.getpid()), time.process_time()
    while time.process_time() < before[1] + 0.003:
        pass
    after = proc.cpu_clock(os.getpid()), time.process_time()
    assert 0.003 <= after[0] - before[0] == pytest.approx(after[1] - before[1], abs=0.001)


def test_a_process_that_is_gone_has_no_clock():
    assert proc.cpu_clock(1 << 22) == 0


def test_all_threads_of_a_process_move(sleeper):
    cores = proc.affinity(sleeper)
    proc.move(sleeper, {min(cores)})
    assert proc.affinity(sleeper) == {min(cores)}
    proc.move(sleeper, cores)
    assert proc.affinity(sleeper) == cores


def test_all_threads_of_a_process_are_preferred(sleeper):
    wanted = os.getpriority(os.PRIO_PROCESS, sleeper) + 1
    assert proc.prefer(sleeper, wanted)
    threads = [int(name) for name in os.listdir(f"/proc/{sleeper}/task")]
    assert len(threads) == 2
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {wanted}
