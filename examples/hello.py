"""A small ASGI app without a framework: a page that shows the request.

reactor-run examples.hello:app
"""

import html
import os

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>reactor-run works</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 4rem auto;
         padding: 0 1rem; color: #1c2a33; background: #f6f8f9 }}
  h1 {{ font-weight: 600 }}
  table {{ border-collapse: collapse; width: 100%; background: #fff; box-shadow: 0 1px 3px #0002 }}
  th, td {{ padding: .4rem .8rem; text-align: left; border-top: 1px solid #e4eaed }}
  th {{ font-weight: 500; color: #5b6f7a; white-space: nowrap }}
  td {{ font-family: ui-monospace, monospace; overflow-wrap: anywhere }}
</style>
<h1>reactor-run works</h1>
<p>The app received this request:</p>
<table>
{rows}
</table>
</html>
"""


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(f"this app does not support {scope['type']}")
    facts = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "HTTP version": scope["http_version"],
        "scheme": scope["scheme"],
        "client": scope["client"],
        "server": scope["server"],
        "reactor process": os.getpid(),
    }
    facts |= {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    rows = "\n".join(
        f"<tr><th>{html.escape(name)}<td>{html.escape(str(value))}" for name, value in facts.items()
    )
    body = PAGE.format(rows=rows).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/html; charset=utf-8"),
                (b"content-length", str(len(body)).encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
