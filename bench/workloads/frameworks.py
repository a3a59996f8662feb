"""Real frameworks: where the app takes longer than the server."""

from __future__ import annotations

import json
from typing import ClassVar, Final

from bench.deployment import Deployment
from bench.workload import Case, against
from bench.workloads.closed import Closed

_ORDER: Final = json.dumps(
    {
        "customer": "Ada Lovelace",
        "note": "by the back door",
        "lines": [
            {"sku": "wheel-7", "quantity": 12, "price": 3.25},
            {"sku": "card-x", "quantity": 400, "price": 0.05},
            {"sku": "crank-2", "quantity": 1, "price": 129.0},
        ],
    }
)


class Frameworks(Closed):
    name: ClassVar[str] = "frameworks"
    title: ClassVar[str] = "FastAPI, Flask, Django"
    about: ClassVar[str] = (
        "FastAPI validates an order in JSON and answers in JSON; in `fastapi-varied` each order "
        "comes with another cookie, because reactor-run remembers heads that it has seen. Flask "
        "and Django make a page of twenty rows from a template, Django behind its usual "
        "middleware, without a database. One core, one worker, one thread, 64 connections."
    )

    def __init__(self) -> None:
        fastapi = Deployment((("asgi", "bench.apps.fastapi_items:app"),))
        flask = Deployment((("wsgi", "bench.apps.flask_page:app"),))
        django = Deployment((("wsgi", "bench.apps.django_page:application"),))
        order = {"connections": 64, "path": "/shops/7/orders?discount=0.1"}
        wsgi = against("reactor-run-wsgi", "granian-wsgi", "gunicorn-gthread", "gunicorn-sync")
        self.cases = (
            Case(
                "fastapi",
                "FastAPI: JSON with validation",
                fastapi,
                (
                    *against("reactor-run", "uvicorn", "granian-asgi", "gunicorn-asgi"),
                    *against("reactor-run-asyncio", "uvicorn"),
                    *against("reactor-run-uvloop", "uvicorn"),
                ),
                2,
                {**order, "settings": {"BENCH_JSON": _ORDER}},
                ("uvicorn",),
            ),
            Case(
                "fastapi-varied",
                "FastAPI: the same, no two requests alike",
                fastapi,
                against("reactor-run", "uvicorn"),
                2,
                {**order, "settings": {"BENCH_JSON": _ORDER, "BENCH_VARY": "1"}},
            ),
            Case("flask", "Flask: a template", flask, wsgi, 2, {"connections": 64}),
            Case("django", "Django: a template", django, wsgi, 2, {"connections": 64}),
        )
