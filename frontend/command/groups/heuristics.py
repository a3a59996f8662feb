"""Heuristics, each of which can be switched off."""

from reactor_run.frontend.command.kinds import OnOff
from reactor_run.frontend.command.options import choice
from reactor_run.frontend.command.table import Group, option


class HeuristicsGroup(Group, key="heuristics", title="Heuristics"):
    """Heuristics, each of which can be switched off."""

    sched_yield: OnOff = option(
        choice(OnOff),
        "on",
        "Front end and reactors yield the CPU around their wait for events.",
    )
    busy_poll: OnOff = option(
        choice(OnOff),
        "on",
        "Poll for up to 50 µs instead of sleeping, while a single client sends one request after "
        "another. Needs --sched-yield on.",
    )
    set_aside: OnOff = option(
        choice(OnOff),
        "on",
        "With several reactors, requests of routes that stall a reactor leave one reactor to the "
        "other requests.",
    )
