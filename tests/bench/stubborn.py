"""A server that ignores SIGTERM and has a child that does so too: `stubborn.py BODY PORT`.

There is nothing at /missing.
"""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = sys.argv[1].encode()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, signal.SIG_IGN)
with HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler) as server:
    if os.fork() == 0:
        while True:
            signal.pause()
    server.serve_forever()
