"""A certificate with its private key, read from the operator's files.

Every error here is for the operator to correct and raises `OperatorError`.
"""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from typing import Final, NamedTuple

from reactor_run.frontend.errors import OperatorError
from reactor_run.protocol.certificate import Certificate, pem_certificates, read_certificate

__all__ = ["Identity", "KeyPair", "date_of", "load_identity", "read_file"]

_ENCRYPTED: Final = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")
_KEY: Final = b"PRIVATE KEY-----"


class KeyPair(NamedTuple):
    """The files of a certificate and its private key. They may be the same file."""

    certfile: str
    keyfile: str


class Identity(NamedTuple):
    """A certificate with its key, ready for handshakes.

    certfile: the file that it was read from.
    """

    certfile: str
    context: ssl.SSLContext
    certificate: Certificate

    @property
    def names(self) -> tuple[str, ...]:
        """The host names of the certificate, in lower case.

        A certificate without a subjectAltName has the common name, as in old ones.
        """
        named = self.certificate
        return named.dns_names or ((named.common_name.lower(),) if named.common_name else ())


def load_identity(pair: KeyPair, context: ssl.SSLContext, password: str | None) -> Identity:
    """Load a certificate and its key into `context`. `password`: of the key; None: there is none.

    Raises OperatorError, also if the certificate has expired.
    """
    certfile, keyfile = pair
    try:
        chain = pem_certificates(read_file(certfile, "certificate"))
        certificate = read_certificate(chain[0])
    except (ValueError, IndexError):
        raise OperatorError(f"{certfile} holds no certificate in PEM; give one") from None
    key = read_file(keyfile, "private key")
    if _KEY not in key:
        raise OperatorError(f"{keyfile} holds no private key in PEM; give one by --keyfile")
    encrypted = any(mark in key for mark in _ENCRYPTED)
    if encrypted and password is None:
        raise OperatorError(
            f"the private key in {keyfile} is encrypted; give its password by "
            "--keyfile-password-file"
        )
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certfile, keyfile, password or "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            wrong = f"the private key in {keyfile} does not belong to the certificate in {certfile}"
            raise OperatorError(f"{wrong}; give the matching pair") from None
        if encrypted:
            raise OperatorError(
                f"the private key in {keyfile} cannot be decrypted; check the password in "
                "--keyfile-password-file"
            ) from None
        raise OperatorError(
            f"{certfile} and {keyfile} cannot be used: {error.reason or 'malformed PEM'}; "
            "give a valid certificate and its key"
        ) from None
    except (OSError, ValueError) as error:
        raise OperatorError(f"{certfile} and {keyfile} cannot be used: {error}") from None
    if certificate.not_after <= time.time():
        raise OperatorError(
            f"the certificate in {certfile} expired on {date_of(certificate.not_after)}; renew it"
        )
    return Identity(certfile, context, certificate)


def read_file(path: str, what: str) -> bytes:
    """Return the content of a file of the operator. Raises OperatorError, which says `what`."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise OperatorError(f"the {what} {path} cannot be read: {error.strerror}") from None


def date_of(when: float) -> str:
    """Return a time as an operator reads it: `2030-01-31 12:00 UTC`."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")
