"""Apps that report the state of the process at their import and now."""

import gc
import json
import sys

BEFORE = {"collects": gc.isenabled(), "frozen": gc.get_freeze_count(), "modules": [*sys.modules]}


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    now = {"collects": gc.isenabled(), "frozen": gc.get_freeze_count()}
    body = json.dumps({"before": BEFORE, "now": now}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def wsgi_app(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps([*sys.modules]).encode()]
