"""What an app is told of the TLS that its client speaks to the front end, and how it travels.

The front end tells reactors in the PROXY v2 header of each request:

    01 PP2_TYPE_ALPN       the protocol that was negotiated, as in http/1.1
    20 PP2_TYPE_SSL        flags, the verification of the client's certificate, and within:
       21 version          as in TLSv1.3
       22 common name      of the client's certificate
       23 cipher           OpenSSL's name of the suite
    E4 SUITE               the number of the suite: 2 bytes
    E5 CLIENT_CERTIFICATE  DER; one for each certificate of the chain, the client's own first

ASGI apps get the extension `tls` (ASGI TLS extension 0.2), WSGI apps the variables of Apache's
mod_ssl. `server_cert` of the extension is None: it would travel with each request, and few apps
need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from reactor_run.protocol.certificate import as_pem, read_certificate
from reactor_run.protocol.proxy import PP2_TYPE_ALPN, PP2_TYPE_SSL

__all__ = ["Tls", "Tlvs", "read_tls", "tls_tlvs"]

Tlvs = tuple[tuple[int, bytes], ...]
"""TLVs of a PROXY v2 header: type and value of each."""

_SUITE: Final = 0xE4
_CLIENT_CERTIFICATE: Final = 0xE5

_PP2_CLIENT_SSL: Final = 0x01
_PP2_CLIENT_CERT_CONN: Final = 0x02
_PP2_CLIENT_CERT_SESS: Final = 0x04
_VERIFIED: Final = 0
_NOT_VERIFIED: Final = 1
_SUBTYPE_VERSION: Final = 0x21
_SUBTYPE_CN: Final = 0x22
_SUBTYPE_CIPHER: Final = 0x23

_CHAIN_MAX: Final = 32768
"""The most bytes of certificates. Those at the end of a longer chain are left out."""
_NAME_MAX: Final = 256
"""The most bytes of a common name."""
_VERSIONS: Final = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def tls_tlvs(
    version: str, cipher: str, suite: int, protocol: str | None, chain: Sequence[bytes]
) -> Tlvs:
    """Return the TLVs for a connection with TLS.

    `version`, `cipher`: OpenSSL's names. `suite`: its number. `protocol`: by ALPN; None: there was
    none. `chain`: the DER of the verified certificates of the client, its own first; empty: it has
    none.
    """
    flags, verification, common_name = _PP2_CLIENT_SSL, _NOT_VERIFIED, ""
    if chain:
        flags |= _PP2_CLIENT_CERT_CONN | _PP2_CLIENT_CERT_SESS
        verification = _VERIFIED
        try:
            common_name = read_certificate(chain[0]).common_name
        except ValueError:
            pass
    inner = _tlv(_SUBTYPE_VERSION, version.encode())
    if common_name:
        inner += _tlv(_SUBTYPE_CN, common_name.encode(errors="replace")[:_NAME_MAX])
    inner += _tlv(_SUBTYPE_CIPHER, cipher.encode())
    tlvs: Tlvs = ()
    if protocol:
        tlvs += ((PP2_TYPE_ALPN, protocol.encode()),)
    tlvs += ((PP2_TYPE_SSL, bytes([flags]) + verification.to_bytes(4, "big") + inner),)
    tlvs += ((_SUITE, suite.to_bytes(2, "big")),)
    size = 0
    for certificate in chain:
        size += len(certificate)
        if size > _CHAIN_MAX:
            break
        tlvs += ((_CLIENT_CERTIFICATE, certificate),)
    return tlvs


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def read_tls(tlvs: Tlvs) -> Tls | None:
    """Return what the TLVs of the front end tell; None if they do not come from `tls_tlvs`."""
    suite = 0
    told = b""
    chain = []
    for kind, value in tlvs:
        if kind == PP2_TYPE_SSL:
            told = value
        elif kind == _SUITE:
            suite = int.from_bytes(value, "big")
        elif kind == _CLIENT_CERTIFICATE:
            chain.append(value)
    inner = {}
    at = 5
    while at + 3 <= len(told):
        end = at + 3 + int.from_bytes(told[at + 1 : at + 3], "big")
        inner[told[at]] = told[at + 3 : end].decode(errors="replace")
        at = end
    if not suite or _SUBTYPE_VERSION not in inner:
        return None
    return Tls(inner[_SUBTYPE_VERSION], inner.get(_SUBTYPE_CIPHER, ""), suite, chain)


class Tls:
    """The TLS of one client's connection.

    version, cipher: OpenSSL's names, as in `TLSv1.3` and `TLS_AES_256_GCM_SHA384`.
    """

    def __init__(self, version: str, cipher: str, suite: int, chain: Sequence[bytes]) -> None:
        """See `tls_tlvs`."""
        self.version = version
        self.cipher = cipher
        self._suite = suite
        self._chain = chain

    @cached_property
    def extension(self) -> dict[str, Any]:
        """The extension `tls` of an ASGI scope. The caller must copy it."""
        subject = None
        if self._chain:
            try:
                subject = read_certificate(self._chain[0]).subject
            except ValueError:
                pass
        return {
            "server_cert": None,
            "client_cert_chain": tuple(map(as_pem, self._chain)),
            "client_cert_name": subject,
            "client_cert_error": None,
            "tls_version": _VERSIONS.get(self.version),
            "cipher_suite": self._suite,
        }

    @cached_property
    def environ(self) -> dict[str, str]:
        """The variables of a WSGI environ, as mod_ssl names them."""
        environ = {
            "SSL_PROTOCOL": self.version,
            "SSL_CIPHER": self.cipher,
            "SSL_CLIENT_VERIFY": "SUCCESS" if self._chain else "NONE",
        }
        if self._chain:
            environ["SSL_CLIENT_CERT"] = as_pem(self._chain[0])
            for place, der in enumerate(self._chain[1:]):
                environ[f"SSL_CLIENT_CERT_CHAIN_{place}"] = as_pem(der)
            try:
                certificate = read_certificate(self._chain[0])
            except ValueError:
                return environ
            environ["SSL_CLIENT_S_DN"] = _native(certificate.subject)
            environ["SSL_CLIENT_I_DN"] = _native(certificate.issuer)
            environ["SSL_CLIENT_S_DN_CN"] = _native(certificate.common_name)
            environ["SSL_CLIENT_M_SERIAL"] = f"{certificate.serial:X}"
        return environ


def _native(text: str) -> str:
    """Return text as a native string of WSGI: its bytes, as latin-1 (PEP 3333)."""
    return text.encode(errors="replace").decode("latin-1")
