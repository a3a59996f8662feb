"""The certificates with which the service proves who it is, and those that it asks clients for.

One `CredentialSet` is in force at a time. A new one takes its place as a whole, for handshakes that
begin later. Connections that have begun keep what they have.

A client names the host that it wants (SNI, RFC 6066 §3). The certificate is chosen in this order:

    1. the first one with exactly this name
    2. the first one with a wildcard for it: `*.example.org` covers one label
    3. the first of all, also if the client names no host

ALPN, versions and the verification of clients are the same for all certificates. OpenSSL takes them
from the context with which a handshake begins.
"""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.tls.identity import Identity, KeyPair, load_identity, read_file
from reactor_run.protocol.tls import Tlvs, tls_tlvs

if TYPE_CHECKING:
    from reactor_run.frontend.command.settings import Settings

__all__ = ["Credentials", "TlsOptions", "load_credentials", "tls_options"]

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY: Final = {
    "off": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class TlsOptions(NamedTuple):
    """What the operator has chosen for TLS; see the settings of these names."""

    pairs: tuple[KeyPair, ...]
    password_file: str
    ca_certs: str
    verify_client: str
    minimum: str
    ciphers: str
    protocols: tuple[str, ...] = ("http/1.1",)
    """What clients may choose from by ALPN, the preferred one first."""

    @property
    def files(self) -> list[str]:
        """All files that are read."""
        files = [path for pair in self.pairs for path in pair]
        return [path for path in (*files, self.password_file, self.ca_certs) if path]


def tls_options(settings: Settings, *, http2: bool = False) -> TlsOptions:
    """Return the part of the settings that is about TLS. `http2`: clients may speak HTTP/2."""
    certfiles = settings.certfile
    pairs = zip(certfiles, settings.keyfile or certfiles, strict=True)
    return TlsOptions(
        tuple(KeyPair(*pair) for pair in pairs),
        settings.keyfile_password_file,
        settings.ca_certs,
        settings.verify_client,
        settings.tls_min,
        settings.ciphers,
        ("h2", "http/1.1") if http2 else ("http/1.1",),
    )


class Credentials:
    """The certificates in force."""

    def __init__(self, identities: list[Identity]) -> None:
        """`identities`: at least one."""
        self.identities = identities
        self._context = identities[0].context
        self._exact: dict[str, ssl.SSLContext] = {}
        self._wildcards: dict[str, ssl.SSLContext] = {}
        """By the name without its first label."""
        for identity in identities:
            for name in identity.names:
                if name.startswith("*."):
                    self._wildcards.setdefault(name[2:], identity.context)
                else:
                    self._exact.setdefault(name, identity.context)
        self._numbers: dict[str, int] = {
            cipher["name"]: cipher["id"] & 0xFFFF for cipher in self._context.get_ciphers()
        }
        if len(identities) > 1:
            self._context.sni_callback = self._on_name
            _hush_invalid_names()

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the server's end of a new TLS connection over two buffers."""
        return self._context.wrap_bio(incoming, outgoing, server_side=True)

    def describe(self, tls: ssl.SSLObject) -> Tlvs:
        """Return what reactors are told of a connection whose handshake is done."""
        cipher = tls.cipher()
        assert cipher is not None
        return tls_tlvs(
            tls.version() or "",
            cipher[0],
            self._numbers.get(cipher[0], 0),
            tls.selected_alpn_protocol(),
            _client_chain(tls),
        )

    def context_for(self, name: str | None) -> ssl.SSLContext:
        """Return the context for a host name that a client has sent; None: it sent none."""
        if name is None:
            return self._context
        name = name.lower().rstrip(".")
        return self._exact.get(name) or self._wildcards.get(name.partition(".")[2]) or self._context

    def _on_name(self, tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        context = self.context_for(name)
        if context is not self._context:
            tls.context = context


def load_credentials(options: TlsOptions) -> Credentials:
    """Read all files, and return the credentials. Raises OperatorError."""
    password = None
    if options.password_file:
        text = read_file(options.password_file, "password file")
        password = text.decode(errors="surrogateescape").partition("\n")[0].rstrip("\r")
    return Credentials(
        [load_identity(pair, _new_context(options), password) for pair in options.pairs]
    )


def _new_context(options: TlsOptions) -> ssl.SSLContext:
    """Return a context without a certificate. Raises OperatorError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = _VERSIONS[options.minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(options.protocols)
    if options.ciphers:
        try:
            context.set_ciphers(options.ciphers)
        except ssl.SSLError:
            raise OperatorError(
                f"--ciphers {options.ciphers!r} selects no cipher; write a list as in "
                "openssl-ciphers(1)"
            ) from None
    context.verify_mode = _VERIFY[options.verify_client]
    if options.ca_certs:
        read_file(options.ca_certs, "file of --ca-certs")
        try:
            context.load_verify_locations(options.ca_certs)
        except ssl.SSLError:
            raise OperatorError(
                f"{options.ca_certs} holds no certificate in PEM; give one"
            ) from None
    return context


def _client_chain(tls: ssl.SSLObject) -> list[bytes]:
    """Return the DER of the client's verified certificates, its own first.

    Python 3.11 and 3.12 tell only its own. So do resumed sessions.
    """
    chain: list[bytes] | None = None
    if sys.version_info >= (3, 13):
        chain = tls.get_verified_chain()
    if not chain:
        own = tls.getpeercert(binary_form=True)
        chain = [own] if own else []
    return chain


def _hush_invalid_names() -> None:
    """Keep a client from filling the log with names that are not ASCII.

    ssl decodes the name before it calls us. If that fails, it prints a traceback by this hook and
    ends the handshake.
    """
    hook = sys.unraisablehook
    if hook is not _skip_invalid_names:
        sys.unraisablehook = _skip_invalid_names


def _skip_invalid_names(unraisable: sys.UnraisableHookArgs) -> None:
    invalid_name = isinstance(unraisable.exc_value, UnicodeDecodeError)
    if not (invalid_name and isinstance(unraisable.object, bytes)):
        sys.__unraisablehook__(unraisable)
