"""A small WSGI app without a framework: it responds with what it received.

reactor-run examples.wsgi_hello:app
"""


def app(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    answer = (
        "Hello from WSGI\n"
        f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} ?{environ.get('QUERY_STRING', '')}\n"
        f"{len(body)} bytes of body\n"
    ).encode()
    start_response(
        "200 OK",
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(answer)))],
    )
    return [answer]
