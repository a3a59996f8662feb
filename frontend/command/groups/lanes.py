"""Lanes between front end and reactors."""

from typing import Literal

from reactor_run.frontend.command.options import choice
from reactor_run.frontend.command.table import Group, option

Lanes = Literal["express", "plain"]

LaneProxy = Literal["v2", "v1", "off"]

Answers = Literal["direct", "relay"]


class LanesGroup(Group, key="lanes", title="Lanes between front end and reactors"):
    """Lanes between front end and reactors."""

    lanes: Lanes = option(
        choice(Lanes),
        "express",
        "express: all requests share one socket pair per reactor; plain: each request has a socket "
        "pair of its own.",
    )
    answers: Answers = option(
        choice(Answers),
        "direct",
        "direct: a reactor writes large and streamed answers to the client's socket; relay: the "
        "front end writes all answers. Plain lanes always relay.",
    )
    lane_proxy: LaneProxy = option(
        choice(LaneProxy),
        "v2",
        "PROXY protocol header before each request on a lane. The express lane always uses v2.",
    )
