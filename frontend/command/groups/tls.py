"""TLS: certificates of the service and of its clients."""

from typing import Literal

from reactor_run.frontend.command.kinds import show_address
from reactor_run.frontend.command.options import SWITCH, Kind, choice, parse_text
from reactor_run.frontend.command.table import Group, option, options
from reactor_run.frontend.sockets.addresses import TCPBind, parse_redirect

VerifyClient = Literal["off", "optional", "required"]

TlsVersion = Literal["1.2", "1.3"]


def _parse_redirect(text: str) -> TCPBind | None:
    return None if text == "off" else parse_redirect(text)


REDIRECT = Kind("ADDRESS", _parse_redirect, show_address)


class TlsGroup(Group, key="tls", title="TLS"):
    """TLS: certificates of the service and of its clients."""

    certfile: tuple[str, ...] = options(
        Kind("FILE", parse_text),
        "Certificate in PEM, with those of the authorities between it and the root. With it, TCP "
        "has TLS. May be repeated; clients get the one for the host name that they ask for, or the "
        "first.",
        shown_default="none: no TLS",
    )
    keyfile: tuple[str, ...] = options(
        Kind("FILE", parse_text),
        "Private key of a certificate, in PEM. May be repeated, in the order of --certfile.",
        shown_default="the file of the certificate",
    )
    keyfile_password_file: str = option(
        Kind("FILE", parse_text),
        "",
        "File with the password of the private keys, in its first line.",
        shown_default="none",
    )
    ca_certs: str = option(
        Kind("FILE", parse_text),
        "",
        "Certificates in PEM of the authorities that sign clients' certificates.",
        shown_default="none",
    )
    verify_client: VerifyClient = option(
        choice(VerifyClient),
        "off",
        "Ask clients for a certificate. optional: they may have none; required: they must have "
        "one. An invalid one ends the handshake in both cases. Needs --ca-certs.",
    )
    tls_min: TlsVersion = option(
        choice(TlsVersion), "1.2", "Lowest version of TLS that clients may speak."
    )
    ciphers: str = option(
        Kind("LIST", parse_text),
        "",
        "Ciphers for TLS 1.2, as in openssl-ciphers(1). Those of TLS 1.3 are fixed.",
        shown_default="those of Python's ssl",
    )
    tls_dev: bool = option(
        SWITCH,
        False,
        "For development: make a certificate for localhost, which no client trusts. Needs the "
        "extra tls-dev.",
    )
    redirect_http: TCPBind | None = option(
        REDIRECT,
        None,
        "Address, HOST:PORT or :PORT, without TLS. Requests there are redirected to https (308).",
    )
