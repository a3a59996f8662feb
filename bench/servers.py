"""Which servers are compared, and the command line that each one's own documentation recommends.

Knows nothing of processes, cores or loads: see `running` and the workloads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.certificates import FLAGS as CERTIFICATE_FLAGS
from bench.deployment import Deployment, Interface


@dataclass(frozen=True)
class Program:
    """One program of a server, and what its processes are called in reports."""

    line: str
    """The command line; {app}, {port} and the like are filled in."""
    first: str
    """The role of the process that is started."""
    rest: str
    """The role of all those that it starts."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Configuration, written to {folder}; names are in braces there too."""


@dataclass(frozen=True)
class Server:
    """One server in one configuration: one program, or more with the one in front last."""

    name: str
    family: str
    """Whose settings it understands: see `Deployment.flags`."""
    interface: Interface
    distributions: tuple[str, ...]
    """Those whose versions decide how it does."""
    programs: tuple[Program, ...]
    install: str = "pip install 'reactor-run[bench]'"
    """What to do where it is missing."""
    restless: bool = False
    """It uses its core although nobody asks for anything: it is stopped while others have it."""

    def commands(self, deployment: Deployment, port: int, folder: str) -> list[list[str]]:
        """The words of each command line that serves on this port of the loopback."""
        values = self._values(deployment, port, folder)
        return [_fill(program.line, values).split() for program in self.programs]

    def configuration(self, deployment: Deployment, port: int, folder: str) -> dict[str, str]:
        """The files that go into `folder`, by name."""
        values = self._values(deployment, port, folder)
        return {
            name: _fill(text, values)
            for program in self.programs
            for name, text in program.files.items()
        }

    def _flags(self, deployment: Deployment, folder: str) -> str:
        flags = deployment.added(self.family, self.name)
        if deployment.tls:
            flags += " " + _fill(CERTIFICATE_FLAGS[self.family], {"folder": folder})
        return flags

    def _values(self, deployment: Deployment, port: int, folder: str) -> dict[str, str]:
        return {
            "app": deployment.app(self.interface) or "",
            "port": str(port),
            "folder": folder,
            "workers": str(deployment.workers),
            "threads": str(deployment.threads),
            "cores": str(deployment.cores),
            # A server counts some connections besides those of the load.
            "connections": str(deployment.connections + 500),
            "flags": self._flags(deployment, folder),
        }


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Replace {name} where there is such a value; other braces are left alone."""
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), text)


def _one(line: str, first: str, rest: str) -> tuple[Program, ...]:
    return (Program(line, first, rest),)


METRICS_HOST: Final = "127.0.0.2"
"""Another address of the loopback, where metrics have the port that clients have on the first."""
_OURS: Final = (
    "reactor-run --bind 127.0.0.1:{port} --log-level warning --reactors {workers}"
    " --max-connections {connections} {flags}"
)
# "Benchmarks suggests st mode to be more efficient with a small amount of processes"; its own
# benchmarks run st for ASGI, mt for WSGI, one runtime thread, --http 1, --no-ws and uvloop.
_GRANIAN: Final = (
    "granian --host 127.0.0.1 --port {port} --workers {workers} --runtime-threads 1 --http 1"
    " --no-ws --backlog 2048 --backpressure {connections} --log-level warning"
    " --no-access-log {flags}"
)
# Its C parser (--http-parser auto) is used where gunicorn_h1c is installed, as it is here.
_GUNICORN: Final = (
    "gunicorn --workers {workers} --worker-connections {connections} --keep-alive 75"
    " --log-level warning --no-control-socket"
)
_UVICORN_WITH: Final = (
    "uvicorn --loop uvloop --http httptools {log} --workers {{workers}} --timeout-keep-alive 75"
    " {{flags}}"
)
_UVICORN: Final = _UVICORN_WITH.format(log="--no-access-log --log-level warning")
_LOGGING_UVICORN: Final = _UVICORN_WITH.format(log="--access-log --log-level info")
# Its default closes a connection after 1000 requests, which has no flag; 75 s as elsewhere.
_HYPERCORN: Final = (
    "--bind 127.0.0.1:{port} --workers {workers} --keep-alive 75 --backlog 2048"
    " --log-level warning {flags} {app}"
)
# https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive
_NGINX_CONF: Final = """
daemon off; worker_processes {cores}; pid {folder}/nginx.pid; error_log stderr error;
worker_rlimit_nofile 20000;
events { worker_connections 8192; }
http {
  access_log off;
  client_max_body_size 0;
  keepalive_requests 1000000000; keepalive_timeout 75s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream app { server unix:{folder}/app.sock fail_timeout=0; keepalive 64;
    keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:{port} backlog=2048;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }
  }
}
"""
_HAPROXY_CONF: Final = """
global
  nbthread {cores}
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  http-reuse always
  option forwardfor
frontend in
  bind 127.0.0.1:{port} backlog 2048
  default_backend app
backend app
  server app unix@{folder}/app.sock
"""
# timeout: a reactor that was stopped is replaced after a second.
_POOLS_TOML: Final = """
admin = "unix:{folder}/admin.sock"
timeout = 1
queue-timeout = 1
[app.web]
app = "bench.apps.django_page:application"
threads = 8
[app.api]
app = "bench.apps.fastapi_items:app"
runtime = "uvloop"
[app.live]
app = "bench.apps.slow:asgi"
runtime = "trio"
[[route]]
prefix = "/"
app = "web"
[[route]]
prefix = "/api"
app = "api"
[[route]]
prefix = "/live"
app = "live"
[[route]]
prefix = "/up"
answer = "up"
"""
_NGINX: Final = Program(
    "nginx -e stderr -c {folder}/nginx.conf", "nginx main", "nginx", {"nginx.conf": _NGINX_CONF}
)
_HAPROXY: Final = Program(
    "haproxy -q -db -f {folder}/haproxy.cfg", "HAProxy", "HAProxy", {"haproxy.cfg": _HAPROXY_CONF}
)

_RELAY: Final = ("front end", "reactor")
_FORKING: Final = ("main", "worker")
_OUR_PARTS: Final = ("reactor-run", "trio", "anyio", "gunicorn_h1c")
_BUILD: Final = "it did not build when `make bench` tried; see bench/README.md"

SERVERS: Final[Sequence[Server]] = (
    Server(
        "reactor-run",
        "ours",
        "asgi",
        _OUR_PARTS,
        _one(f"{_OURS} --runtime trio {{app}}", *_RELAY),
    ),
    Server(
        "reactor-run-access-log",
        "ours",
        "asgi",
        _OUR_PARTS,
        _one(f"{_OURS} --access-log - {{app}}", *_RELAY),
    ),
    Server(
        "reactor-run-metrics",
        "ours",
        "asgi",
        _OUR_PARTS,
        _one(f"{_OURS} --runtime trio --metrics {METRICS_HOST}:{{port}} {{app}}", *_RELAY),
    ),
    Server(
        "reactor-run-hooks",
        "ours",
        "asgi",
        _OUR_PARTS,
        _one(f"{_OURS} --runtime trio --hooks bench.apps.hooks {{app}}", *_RELAY),
    ),
    Server(
        "reactor-run-no-aside",
        "ours",
        "asgi",
        _OUR_PARTS,
        _one(f"{_OURS} --runtime trio --set-aside off {{app}}", *_RELAY),
    ),
    Server(
        "reactor-run-plain",
        "ours",
        "asgi",
        _OUR_PARTS,
        _one(f"{_OURS} --runtime trio --lanes plain {{app}}", *_RELAY),
    ),
    Server(
        "reactor-run-asyncio",
        "ours",
        "asgi",
        _OUR_PARTS,
        _one(f"{_OURS} --runtime asyncio {{app}}", *_RELAY),
    ),
    Server(
        "reactor-run-uvloop",
        "ours",
        "asgi",
        (*_OUR_PARTS, "uvloop"),
        _one(f"{_OURS} --runtime uvloop {{app}}", *_RELAY),
    ),
    Server(
        "reactor-run-preload",
        "ours",
        "asgi",
        (*_OUR_PARTS, "uvloop"),
        _one(f"{_OURS} --runtime uvloop --preload on {{app}}", *_RELAY),
    ),
    Server(
        "reactor-run-pools",
        "ours",
        "asgi",
        (*_OUR_PARTS, "uvloop", "django", "fastapi"),
        (
            Program(
                "reactor-run --config {folder}/pools.toml --bind 127.0.0.1:{port}"
                " --log-level warning --max-connections {connections} {flags}",
                *_RELAY,
                {"pools.toml": _POOLS_TOML},
            ),
        ),
    ),
    Server(
        "reactor-run-wsgi",
        "ours",
        "wsgi",
        _OUR_PARTS,
        _one(f"{_OURS} --interface wsgi --threads {{threads}} {{app}}", *_RELAY),
    ),
    Server(
        "uvicorn",
        "uvicorn",
        "asgi",
        ("uvicorn", "uvloop", "httptools"),
        _one(f"{_UVICORN} --host 127.0.0.1 --port {{port}} {{app}}", "uvicorn", "worker"),
    ),
    Server(
        "uvicorn-wsproto",
        "uvicorn",
        "asgi",
        ("uvicorn", "uvloop", "httptools", "wsproto"),
        _one(f"{_UVICORN} --host 127.0.0.1 --port {{port}} {{app}}", "uvicorn", "worker"),
    ),
    Server(
        "uvicorn-access-log",
        "uvicorn",
        "asgi",
        ("uvicorn", "uvloop", "httptools"),
        _one(f"{_LOGGING_UVICORN} --host 127.0.0.1 --port {{port}} {{app}}", "uvicorn", "worker"),
    ),
    Server(
        "uvicorn-http2",
        "uvicorn",
        "asgi",
        ("uvicorn", "uvloop", "zttp"),
        _one(
            "uvicorn --loop uvloop --http zttp --http2 --no-access-log --log-level warning"
            " --workers {workers} --timeout-keep-alive 75 {flags} --host 127.0.0.1 --port {port}"
            " {app}",
            "uvicorn",
            "worker",
        ),
    ),
    Server(
        "granian-asgi",
        "granian",
        "asgi",
        ("granian", "uvloop"),
        _one(f"{_GRANIAN} --interface asgi --runtime-mode st --loop uvloop {{app}}", *_FORKING),
    ),
    Server(
        "gunicorn-asgi",
        "gunicorn",
        "asgi",
        ("gunicorn", "uvloop"),
        _one(
            f"{_GUNICORN} --bind 127.0.0.1:{{port}} --worker-class asgi --asgi-loop uvloop"
            " {flags} {app}",
            *_FORKING,
        ),
    ),
    Server(
        "gunicorn-http2",
        "gunicorn",
        "asgi",
        ("gunicorn", "uvloop", "h2"),
        _one(
            f"{_GUNICORN} --bind 127.0.0.1:{{port}} --worker-class asgi --asgi-loop uvloop"
            " --http-protocols h2,h1 --http2-cleartext both {flags} {app}",
            *_FORKING,
        ),
    ),
    Server(
        "hypercorn-trio",
        "hypercorn",
        "asgi",
        ("hypercorn", "trio"),
        _one(f"hypercorn --worker-class trio {_HYPERCORN}", *_FORKING),
    ),
    Server(
        "hypercorn-uvloop",
        "hypercorn",
        "asgi",
        ("hypercorn", "uvloop"),
        _one(f"hypercorn --worker-class uvloop {_HYPERCORN}", *_FORKING),
    ),
    Server(
        "anycorn-trio",
        "hypercorn",
        "asgi",
        ("anycorn", "trio"),
        _one(f"anycorn --worker-class trio {_HYPERCORN}", *_FORKING),
    ),
    Server(
        "fastpysgi-asgi",
        "fastpysgi",
        "asgi",
        ("fastpysgi",),
        _one("python -m bench.serve fastpysgi {port} {workers} {app}", *_FORKING),
        restless=True,
    ),
    Server(
        "nginx-uvicorn",
        "uvicorn",
        "asgi",
        ("uvicorn", "uvloop", "httptools"),
        (Program(f"{_UVICORN} --uds {{folder}}/app.sock {{app}}", "uvicorn", "uvicorn"), _NGINX),
        install="apt install nginx-light",
    ),
    Server(
        "haproxy-uvicorn",
        "uvicorn",
        "asgi",
        ("uvicorn", "uvloop", "httptools"),
        (Program(f"{_UVICORN} --uds {{folder}}/app.sock {{app}}", "uvicorn", "uvicorn"), _HAPROXY),
        install="apt install haproxy",
    ),
    Server(
        "granian-wsgi",
        "granian",
        "wsgi",
        ("granian",),
        # "If your application have an average millisecond response, a very limited amount of
        # blocking threads usually delivers better throughput."
        _one(
            f"{_GRANIAN} --interface wsgi --runtime-mode mt --blocking-threads {{threads}} {{app}}",
            *_FORKING,
        ),
    ),
    Server(
        "gunicorn-gthread",
        "gunicorn",
        "wsgi",
        ("gunicorn",),
        _one(
            f"{_GUNICORN} --bind 127.0.0.1:{{port}} --worker-class gthread --threads {{threads}}"
            " {flags} {app}",
            *_FORKING,
        ),
    ),
    Server(
        "gunicorn-sync",
        "gunicorn",
        "wsgi",
        ("gunicorn",),
        _one(
            f"{_GUNICORN} --bind 127.0.0.1:{{port}} --worker-class sync {{flags}} {{app}}",
            *_FORKING,
        ),
    ),
    Server(
        "nginx-gunicorn",
        "gunicorn",
        "wsgi",
        ("gunicorn",),
        (
            Program(
                f"{_GUNICORN} --bind unix:{{folder}}/app.sock --worker-class sync {{flags}}"
                " {app}",
                "gunicorn main",
                "gunicorn",
            ),
            _NGINX,
        ),
        install="apt install nginx-light",
    ),
    Server(
        "fastpysgi-wsgi",
        "fastpysgi",
        "wsgi",
        ("fastpysgi",),
        _one("python -m bench.serve fastpysgi {port} {workers} {app}", *_FORKING),
    ),
    Server(
        "bjoern",
        "bjoern",
        "wsgi",
        ("bjoern",),
        _one("python -m bench.serve bjoern {port} {workers} {app}", *_FORKING),
        install=_BUILD,
    ),
    Server(
        "uwsgi",
        "uwsgi",
        "wsgi",
        ("uWSGI",),
        # https://uwsgi-docs.readthedocs.io/en/latest/ThingsToKnow.html
        _one(
            "uwsgi --http 127.0.0.1:{port} --http-keepalive=75 --listen 1024 --master"
            " --processes {workers} --threads {threads} --enable-threads --thunder-lock"
            " --single-interpreter --need-app --die-on-term --disable-logging --lazy-apps"
            " {flags} --module {app}",
            *_FORKING,
        ),
        install=_BUILD,
    ),
    Server(
        "floor",
        "floor",
        "asgi",
        (),
        _one("python -m bench.serve floor {port} {workers} {app}", "loop", "loop"),
    ),
)

BY_NAME: Final = {server.name: server for server in SERVERS}
OURS: Final = frozenset(s.name for s in SERVERS if s.family == "ours")
