"""The `reactor-run` command: from what the operator has written to `Settings`.

This file owns the settings that exclude each other, and the output of an operator's error.
`command.sources` finds what was written, `command.settings` knows the name and the values of each
option. The server is imported only after the settings are valid, because that takes time.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from itertools import chain

from reactor_run.frontend.command.argv import sort_words
from reactor_run.frontend.command.pools import apps_of
from reactor_run.frontend.command.routing import route_table
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.command.sources import Reading, read_sources
from reactor_run.frontend.errors import SEE_HELP, OperatorError
from reactor_run.frontend.sockets.networks import NO_NETWORKS
from reactor_run.protocol.own_fields import SIZE_MAX

REMOTE_COMMANDS = ("status", "top", "reload", "reopen-logs", "maintenance", "scale", "stop")
"""Commands to a running service."""
COMMANDS = (*REMOTE_COMMANDS, "check", "config")
"""First words of the command line that are a command and not the name of an app."""
_NEEDS_CERTIFICATE = (
    "keyfile",
    "keyfile_password_file",
    "ca_certs",
    "verify_client",
    "tls_min",
    "ciphers",
    "handshake_timeout",
    "redirect_http",
)
"""Settings that have no effect without TLS."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status.

    2 means that the operator has to correct something, which standard error says in one line.
    `argv` defaults to the arguments of the process. Raises SystemExit(0) after help and version.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        if words and words[0] in REMOTE_COMMANDS:
            from reactor_run.frontend.command.remote import run_command

            return run_command(words, os.environ)
        if words and words[0] == "config":
            return _show_config(words[1:], os.environ)
        if words and words[0] == "check":
            return _check_app(words[1:], os.environ)
        return serve_written(sort_words(words), os.environ)
    except OperatorError as error:
        print(f"reactor-run: error: {error}{_meant(words, str(error))}", file=sys.stderr)
        return 2


def _meant(words: Sequence[str], said: str) -> str:
    """Return the command that was probably meant by a first word that was taken for an app."""
    if not words or repr(words[0]) not in said:
        return ""
    from difflib import get_close_matches

    near = get_close_matches(words[0], COMMANDS, 1, cutoff=0.7)
    return f"; or is it the command {near[0]}?" if near else ""


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings. The command line wins over the environment, the environment over the
    configuration file, and the file over the defaults.

    An empty environment variable counts as unset. Raises OperatorError, which names the flag, the
    variable or the key at fault, and SystemExit(0) after help and version.
    """
    return read_written(sort_words(argv), environ)


def read_written(written: Mapping[str, list[str]], environ: Mapping[str, str]) -> Settings:
    """Read the settings, as `read_settings` does. `written`: the texts of the command line, by the
    name of the option."""
    return _settings(_read(written, environ))


def serve_written(written: Mapping[str, list[str]], environ: MutableMapping[str, str]) -> int:
    """Serve, with settings as `read_written` reads them, until a signal ends the service.

    Adds the variables of the env file to `environ`, which is the environment of this process.
    Returns the exit status. Raises OperatorError.
    """
    reading = _read(written, environ)
    settings = _settings(reading)
    environ.update(reading.variables)
    from reactor_run.frontend.service.serve import serve

    return serve(settings, reading.warnings, reading.variables.keys())


def _settings(reading: Reading) -> Settings:
    values = reading.values
    several = len(values.get("mount", ())) + len(values.get("app_table", ()))
    if several and "app" not in values:
        values = {"app": "", **values}
    if several + bool(values.get("app")) > 1 and "answers" not in values:
        # A reactor could read what clients of other apps send later on a granted connection.
        values = {**values, "answers": "relay"}
    if "app" not in values:
        raise OperatorError(f"no app given; name it, as in `reactor-run shop.web:app` ({SEE_HELP})")
    return Settings(**values)


def _check_app(argv: Sequence[str], environ: MutableMapping[str, str]) -> int:
    """Report whether the app would serve; return the exit status. Raises OperatorError."""
    reading = _read(sort_words(argv), environ)
    settings = _settings(reading)
    _print_warnings(reading)
    environ.update(reading.variables)
    from reactor_run.frontend.service.check import check

    return check(settings)


def _show_config(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print each setting in force, and its source. Raises OperatorError as `read_settings` does."""
    from reactor_run.frontend.command.show import table

    reading = _read(sort_words(argv), environ)
    _print_warnings(reading)
    try:
        print("\n".join(table(reading.values, reading.sources)), flush=True)
    except BrokenPipeError:
        # `reactor-run config | head`: Python must not flush again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _print_warnings(reading: Reading) -> None:
    for warning in reading.warnings:
        print(f"reactor-run: warning: {warning}", file=sys.stderr)


def _read(written: Mapping[str, list[str]], environ: Mapping[str, str]) -> Reading:
    """Read the settings, and check them. The app may be missing."""
    reading = read_sources(written, environ)
    app = reading.values.get("app", "")
    if "app" in written and app in COMMANDS:
        raise OperatorError(
            f"{app} is a command and must be the first word, as in `reactor-run {app}`; for an app "
            f"in a module of that name, add its attribute: {app}:app"
        )
    _check(Settings(**{"app": "", **reading.values}), reading.sources)
    return reading


def _check(settings: Settings, sources: Mapping[str, str]) -> None:
    """Raise OperatorError for settings that contradict each other or cannot work.

    `sources`: the flag, variable or key of each setting that is not a default.
    """
    if settings.interface == "asgi" and settings.threads > 1:
        raise OperatorError(
            f"{sources['threads']} is for WSGI apps, but {sources['interface']} is asgi; remove "
            "it (--concurrency limits ASGI requests)"
        )
    if settings.interface == "wsgi" and "concurrency" in sources:
        raise OperatorError(
            f"{sources['concurrency']} is for ASGI apps, but {sources['interface']} is wsgi; "
            "remove it (--threads limits WSGI requests)"
        )
    if "proxy_allow_from" in sources and not settings.proxy_protocol:
        raise OperatorError(
            f"{sources['proxy_allow_from']} has no effect without --proxy-protocol; add "
            "--proxy-protocol or remove it"
        )
    if "forwarded_fields" in sources and settings.forwarded_allow_from == NO_NETWORKS:
        raise OperatorError(
            f"{sources['forwarded_fields']} has no effect without --forwarded-allow-from; list "
            "the proxies there or remove it"
        )
    if settings.forwarded_allow_from != NO_NETWORKS and settings.lane_proxy != "v2":
        raise OperatorError(
            f"{sources['forwarded_allow_from']} needs --lane-proxy v2, but {sources['lane_proxy']} "
            f"is {settings.lane_proxy}, which cannot carry what proxies send; remove it"
        )
    _check_tls(settings, sources)
    if sum(map(len, chain.from_iterable(settings.header))) > SIZE_MAX:
        raise OperatorError(f"{sources['header']}: more than {SIZE_MAX >> 10} KiB; use less")
    route_table(settings, sources)
    if settings.reload:
        from importlib.util import find_spec

        if find_spec("watchfiles") is None:
            raise OperatorError(
                f"{sources['reload']}: watchfiles is not installed; "
                "pip install 'reactor-run[reload]'"
            )
    runtimes = {settings.runtime, *(app.settings.runtime for app in apps_of(settings))}
    if "uvloop" in runtimes:
        from importlib.util import find_spec

        if find_spec("uvloop") is None:
            raise OperatorError(
                f"{sources.get('runtime', 'runtime')}: uvloop is not installed; "
                "pip install 'reactor-run[uvloop]'"
            )


def _check_tls(settings: Settings, sources: Mapping[str, str]) -> None:
    """Raise OperatorError for settings of TLS that contradict each other, or have no effect."""
    if settings.tls_dev:
        if settings.certfile:
            raise OperatorError(
                f"{sources['tls_dev']} makes a certificate, but {sources['certfile']} gives one; "
                "remove one of them"
            )
        from importlib.util import find_spec

        if find_spec("trustme") is None:
            raise OperatorError(
                f"{sources['tls_dev']}: trustme is not installed; "
                "pip install 'reactor-run[tls-dev]'"
            )
    elif not settings.certfile:
        for name in _NEEDS_CERTIFICATE:
            if name in sources and getattr(settings, name) != getattr(Settings, name):
                raise OperatorError(
                    f"{sources[name]} has no effect without a certificate; add --certfile or "
                    "remove it"
                )
        return
    certificates, keys = len(settings.certfile), len(settings.keyfile)
    if keys not in (0, certificates):
        raise OperatorError(
            f"{sources['keyfile']}: {keys} private keys for {certificates} certificates; give one "
            "key for each certificate, in the same order"
        )
    if settings.verify_client != "off" and not settings.ca_certs:
        raise OperatorError(
            f"{sources['verify_client']} needs --ca-certs with the authorities that sign clients' "
            "certificates"
        )
    if settings.ca_certs and settings.verify_client == "off":
        raise OperatorError(
            f"{sources['ca_certs']} has no effect without --verify-client; add --verify-client "
            "required or optional, or remove it"
        )
