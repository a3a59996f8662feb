"""Reads X.509 certificates: their names, their dates, their serial number (RFC 5280 §4.1).

Python's ssl tells these facts only of a peer's certificate, and only in part. So this file reads
the DER itself. It judges nothing: OpenSSL has verified a client's certificate before, and the
operator has chosen the server's own.

    Certificate     tbsCertificate, signatureAlgorithm, signatureValue
    tbsCertificate  [0] version, serialNumber, signature, issuer, validity, subject,
                    subjectPublicKeyInfo, [1], [2], [3] extensions

Each value is a tag, a length and content. Only definite lengths and tags of one byte occur here.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

__all__ = ["Certificate", "as_pem", "pem_certificates", "read_certificate"]

_INTEGER: Final = 0x02
_OCTET_STRING: Final = 0x04
_OID: Final = 0x06
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_BOOLEAN: Final = 0x01
_DNS_NAME: Final = 0x82

_STRINGS: Final = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""The encoding of each type of string (RFC 5280 §4.1.2.4)."""
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18

_COMMON_NAME: Final = "2.5.4.3"
_ATTRIBUTES: Final = {
    _COMMON_NAME: "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
"""The short names of RFC 4514 §3."""
_SUBJECT_ALT_NAME: Final = "2.5.29.17"

_ESCAPED: Final = re.compile(r'["+,;<>\\]')
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PEM: Final = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----\s(.*?)-----END", re.DOTALL
)


class Certificate(NamedTuple):
    """What a certificate says.

    serial: its number.
    issuer, subject: the distinguished names, as strings of RFC 4514.
    not_before, not_after: when it is valid, in seconds since 1970.
    common_name: of the subject; empty: it has none.
    dns_names: of the extension subjectAltName, in lower case; a wildcard begins with `*.`.
    """

    serial: int
    issuer: str
    subject: str
    not_before: float
    not_after: float
    common_name: str
    dns_names: tuple[str, ...]


def pem_certificates(text: bytes) -> list[bytes]:
    """Return the DER of each certificate in a PEM file (RFC 7468 §5). Raises ValueError."""
    return [binascii.a2b_base64(block) for block in _PEM.findall(text)]


def as_pem(der: bytes) -> str:
    """Return a certificate as PEM."""
    encoded = binascii.b2a_base64(der, newline=False).decode("ascii")
    lines = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def read_certificate(der: bytes) -> Certificate:
    """Read the DER of a certificate. Raises ValueError if it is malformed."""
    reader = _Reader(_Reader(_Reader(der).expect(_SEQUENCE)).expect(_SEQUENCE))
    if reader.next_tag == _VERSION:
        reader.expect(_VERSION)
    serial = int.from_bytes(reader.expect(_INTEGER), "big", signed=True)
    reader.expect(_SEQUENCE)
    issuer, _ = _read_name(reader.expect(_SEQUENCE))
    validity = _Reader(reader.expect(_SEQUENCE))
    not_before, not_after = (_read_time(*validity.take()) for _ in range(2))
    subject, common_name = _read_name(reader.expect(_SEQUENCE))
    reader.expect(_SEQUENCE)
    dns_names: tuple[str, ...] = ()
    for tag, content in reader:
        if tag == _EXTENSIONS:
            dns_names = _read_dns_names(_Reader(content).expect(_SEQUENCE))
    return Certificate(serial, issuer, subject, not_before, not_after, common_name, dns_names)


class _Reader:
    """Reads the values in `data`, one after another. Each method raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def next_tag(self) -> int:
        """The tag of the next value; -1: there is none."""
        return self._data[self._at] if self._at < len(self._data) else -1

    def take(self) -> tuple[int, bytes]:
        """Return the tag and the content of the next value."""
        data, at = self._data, self._at
        if len(data) < at + 2:
            raise ValueError("a value is cut")
        tag, length = data[at], data[at + 1]
        start = at + 2
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4:
                raise ValueError("a length is not definite")
            length = int.from_bytes(data[start : start + size], "big")
            start += size
        end = start + length
        if end > len(data):
            raise ValueError("a value is cut")
        self._at = end
        return tag, data[start:end]

    def expect(self, tag: int) -> bytes:
        """Return the content of the next value, which must have this tag."""
        found, content = self.take()
        if found != tag:
            raise ValueError(f"tag {found:#04x} instead of {tag:#04x}")
        return content

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while self.next_tag >= 0:
            yield self.take()


def _read_oid(content: bytes) -> str:
    """Return an object identifier in dotted form."""
    numbers: list[int] = []
    number = 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(number)
            number = 0
    if not numbers or content[-1] >= 0x80:
        raise ValueError("an object identifier is cut")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _read_time(tag: int, content: bytes) -> float:
    """Return a time in seconds since 1970 (RFC 5280 §4.1.2.5)."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        century = "19" if text >= "50" else "20"
        text = century + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _read_name(content: bytes) -> tuple[str, str]:
    """Return a distinguished name as a string of RFC 4514, and the common name in it."""
    relative: list[str] = []
    common_name = ""
    for tag, attributes in _Reader(content):
        if tag != _SET:
            raise ValueError("a name is no sequence of sets")
        parts = []
        for _, attribute in _Reader(attributes):
            reader = _Reader(attribute)
            kind = _read_oid(reader.expect(_OID))
            tag, value = reader.take()
            text = _read_string(tag, value)
            if kind == _COMMON_NAME and text is not None:
                common_name = text
            short = _ATTRIBUTES.get(kind)
            if short is None or text is None:
                # §2.4: what has no short name is shown as the hexadecimal form of its DER.
                parts.append(f"{short or kind}=#{attribute[-_size(value) :].hex()}")
            else:
                parts.append(f"{short}={_escape(text)}")
        relative.append("+".join(parts))
    return ",".join(reversed(relative)), common_name


def _size(content: bytes) -> int:
    """Return the size of a value with its tag and its length."""
    size = len(content)
    return size + (2 if size < 0x80 else 2 + (size.bit_length() + 7) // 8)


def _read_string(tag: int, content: bytes) -> str | None:
    """Return a string; None if it is none, or not in its encoding."""
    encoding = _STRINGS.get(tag)
    if encoding is None:
        return None
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _escape(text: str) -> str:
    """Escape the value of an attribute (RFC 4514 §2.4), and all control characters."""
    escaped = _ESCAPED.sub(r"\\\g<0>", text)
    if escaped[:1] in (" ", "#"):
        escaped = "\\" + escaped
    if escaped[-1:] == " " and len(text) > 1:
        escaped = escaped[:-1] + "\\ "
    return _CONTROL.sub(
        lambda match: "".join(f"\\{byte:02X}" for byte in match[0].encode()), escaped
    )


def _read_dns_names(content: bytes) -> tuple[str, ...]:
    """Return the host names in a list of extensions (RFC 5280 §4.2.1.6)."""
    names: list[str] = []
    for _, extension in _Reader(content):
        reader = _Reader(extension)
        if _read_oid(reader.expect(_OID)) != _SUBJECT_ALT_NAME:
            continue
        if reader.next_tag == _BOOLEAN:
            reader.expect(_BOOLEAN)
        for tag, name in _Reader(_Reader(reader.expect(_OCTET_STRING)).expect(_SEQUENCE)):
            if tag == _DNS_NAME:
                names.append(name.decode("ascii").lower())
    return tuple(names)
