"""An open loop: requests come when they are due, whatever became of those before.

Arrivals are a Poisson process, the same for every server (its seed is the run's), decided before
the first is sent. A request goes out on a connection that has none under way, chosen by chance, or
on a new one. Latency counts from the due time, so a server that stalls pays for every request that
came meanwhile: there is no coordinated omission.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.load.answers import Answer, Answers
from bench.load.client import Client, Connection, warm

_MOST: Final = 8000
"""Connections at once."""


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrival times within a run, in seconds from its begin."""
    chance = random.Random(seed)
    times, now = [], 0.0
    while (now := now + chance.expovariate(rate)) < seconds:
        times.append(now)
    return times


def mixed(times: Sequence[float], share: float, seed: int) -> list[tuple[float, str]]:
    """The arrivals, each `slow` with this probability and else `fast`."""
    chance = random.Random(seed)
    return [(when, "slow" if chance.random() < share else "fast") for when in times]


def of_kinds(
    times: Sequence[float], shares: Mapping[str, float], seed: int
) -> list[tuple[float, str]]:
    """The arrivals, each of a kind, by its share of all; the shares add up to 1."""
    kinds = random.Random(seed).choices([*shares], [*shares.values()], k=len(times))
    return list(zip(times, kinds, strict=True))


def run(
    address: tuple[str, int],
    arrivals: Sequence[tuple[float, str]],
    requests: Mapping[str, bytes],
    seconds: float,
    *,
    connections: int = 64,
    timeout: float = 5.0,
    events: Sequence[tuple[float, Callable[[], None]]] = (),
) -> Answers:
    """Send the arrivals, by time and kind; wait for the last of them, at most `timeout` seconds.

    `connections` are opened, and asked something fast, before the first arrival. `events` are
    called at their time within the run.
    """
    client = Client(address, timeout=timeout)
    idle = [client.connect() for _ in range(connections)]
    first = requests.get("fast", next(iter(requests.values())))
    warm(client, idle, first, timeout)
    chance = random.Random(0)

    begin = time.monotonic() + 0.05
    answers = Answers(begin, begin + seconds)
    for when, event in events:
        client.at(begin + when, event)
    position = 0

    def done(connection: Connection, answer: Answer) -> None:
        if connection.is_open:
            idle.append(connection)

    def take() -> Connection | None:
        while idle:
            number = chance.randrange(len(idle))
            idle[number], idle[-1] = idle[-1], idle[number]
            connection = idle.pop()
            if connection.is_open:
                return connection
        return client.connect() if client.open < _MOST else None

    def send_due() -> None:
        nonlocal position
        now = time.monotonic()
        while position < len(arrivals) and begin + arrivals[position][0] <= now:
            when, kind = arrivals[position]
            position += 1
            connection = take()
            if connection is None:
                answers.remarks.append("the generator ran out of connections")
                position = len(arrivals)
                return
            answer = Answer(kind, begin + when, now)
            answers.all.append(answer)
            client.ask(connection, requests[kind], answer, done)
        if position < len(arrivals):
            client.at(begin + arrivals[position][0], send_due)

    if arrivals:
        client.at(begin + arrivals[0][0], send_due)

    def over() -> bool:
        return (
            position == len(arrivals) and not client.under_way and time.monotonic() >= answers.end
        )

    try:
        client.run(over, answers.end + timeout + 1.0)
    finally:
        client.close()
    answers.finish()
    return answers
