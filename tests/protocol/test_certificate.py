"""The reader of certificates, compared with `cryptography`."""

from __future__ import annotations

import datetime

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from reactor_run.protocol.certificate import as_pem, pem_certificates, read_certificate

KEY = ec.generate_private_key(ec.SECP256R1())


def made(subject: x509.Name, *, end: datetime.datetime, names: list[x509.GeneralName]) -> bytes:
    """The DER of a certificate."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
        .public_key(KEY.public_key())
        .serial_number(0xFF01)
        .not_valid_before(datetime.datetime(2001, 2, 3, 4, 5, 6))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(*each) for each in attributes])


def test_facts() -> None:
    subject = name((NameOID.COUNTRY_NAME, "DE"), (NameOID.COMMON_NAME, "Ada"))
    names: list[x509.GeneralName] = [
        x509.DNSName("A.example"),
        x509.RFC822Name("ada@example.org"),
        x509.DNSName("*.example.org"),
    ]
    read = read_certificate(made(subject, end=datetime.datetime(2061, 1, 1), names=names))
    assert read.serial == 0xFF01
    assert read.issuer == "CN=root"
    assert read.subject == "CN=Ada,C=DE"
    assert read.common_name == "Ada"
    assert read.dns_names == ("a.example", "*.example.org")
    assert (
        read.not_before == datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.UTC).timestamp()
    )
    assert read.not_after == datetime.datetime(2061, 1, 1, tzinfo=datetime.UTC).timestamp()


def test_a_certificate_without_names() -> None:
    read = read_certificate(made(x509.Name([]), end=datetime.datetime(2049, 12, 31), names=[]))
    assert (read.subject, read.common_name, read.dns_names) == ("", "", ())
    assert read.not_after == datetime.datetime(2049, 12, 31, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Jäger, Ärger & Co", "CN=Jäger\\, Ärger & Co"),
        (" # x ", "CN=\\ # x\\ "),
        ("#x", "CN=\\#x"),
        (' "+,;<>\\', 'CN=\\ \\"\\+\\,\\;\\<\\>\\\\'),
        (" ", "CN=\\ "),
        ("a\nb\x00", "CN=a\\0Ab\\00"),
        ("a=b", "CN=a=b"),
    ],
)
def test_escapes_of_rfc_4514(value: str, shown: str) -> None:
    der = made(name((NameOID.COMMON_NAME, value)), end=datetime.datetime(2040, 1, 1), names=[])
    assert read_certificate(der).subject == shown


def test_attributes_without_a_short_name_are_hexadecimal() -> None:
    subject = name((NameOID.EMAIL_ADDRESS, "a@b"), (NameOID.COMMON_NAME, "x"))
    read = read_certificate(made(subject, end=datetime.datetime(2040, 1, 1), names=[]))
    assert read.subject == "CN=x,1.2.840.113549.1.9.1=#1603614062"


def test_several_attributes_of_one_relative_name() -> None:
    both = x509.RelativeDistinguishedName(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "a"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "b"),
        ]
    )
    last = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COUNTRY_NAME, "SE")])
    der = made(x509.Name([both, last]), end=datetime.datetime(2040, 1, 1), names=[])
    assert read_certificate(der).subject == "C=SE,CN=a+O=b"


@pytest.mark.parametrize("kind", [_ASN1Type.BMPString, _ASN1Type.PrintableString])
def test_other_encodings(kind: _ASN1Type) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ada", _type=kind)])
    der = made(subject, end=datetime.datetime(2040, 1, 1), names=[])
    assert read_certificate(der).subject == "CN=Ada"


def test_pem() -> None:
    certificate = trustme.CA().issue_cert("a.test")
    pem = certificate.cert_chain_pems[0].bytes()
    key = certificate.private_key_pem.bytes()
    (der,) = pem_certificates(b"a comment\n" + key + pem)
    assert der == x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert as_pem(der) == pem.decode()
    assert len(pem_certificates(pem + pem)) == 2
    assert pem_certificates(b"") == []


DER = made(name((NameOID.COMMON_NAME, "Ada")), end=datetime.datetime(2040, 1, 1), names=[])


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_damaged_certificates_are_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(DER)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(DER) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(DER)))
    for each in (bytes(damaged), DER[:cut]):
        try:
            read_certificate(each)
        except ValueError:
            pass
