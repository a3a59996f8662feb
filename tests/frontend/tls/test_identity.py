"""Reading certificates and keys, and what an operator is told who got something wrong."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.tls.credentials import Credentials, TlsOptions, load_credentials
from reactor_run.frontend.tls.identity import KeyPair
from tests.integration.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def load(
    *pairs: tuple[str, str],
    password_file: str = "",
    ca_certs: str = "",
    verify_client: str = "off",
    ciphers: str = "",
) -> Credentials:
    given = tuple(KeyPair(*pair) for pair in pairs)
    return load_credentials(
        TlsOptions(given, password_file, ca_certs, verify_client, "1.2", ciphers)
    )


def encrypted(keyfile: str, path: Path, *, old: bool) -> str:
    """Write the key with the password `secret`. Return the path."""
    key = serialization.load_pem_private_key(Path(keyfile).read_bytes(), None)
    form = serialization.PrivateFormat
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            form.TraditionalOpenSSL if old else form.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return str(path)


def refused(*pairs: tuple[str, str], **options: str) -> str:
    with pytest.raises(OperatorError) as caught:
        load(*pairs, **options)
    return str(caught.value)


def test_a_pair(authority: Authority) -> None:
    (identity,) = load(authority.issue("a.test", "*.B.test")).identities
    assert identity.names == ("a.test", "*.b.test")


def test_one_file_with_both(authority: Authority, tmp_path: Path) -> None:
    certfile, keyfile = authority.issue("a.test")
    both = tmp_path / "both.pem"
    both.write_bytes(Path(keyfile).read_bytes() + Path(certfile).read_bytes())
    assert load((str(both), str(both))).identities


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nnothing more\n"])
def test_an_encrypted_key(authority: Authority, tmp_path: Path, old: bool, end: bytes) -> None:
    certfile, keyfile = authority.issue("a.test")
    secret = encrypted(keyfile, tmp_path / "secret.key", old=old)
    password = tmp_path / "password"
    password.write_bytes(b"secret" + end)
    assert load((certfile, secret), password_file=str(password)).identities
    assert "--keyfile-password-file" in refused((certfile, secret))
    password.write_bytes(b"wrong" + end)
    line = refused((certfile, secret), password_file=str(password))
    assert re.search("cannot be decrypted.*check the password", line)
    assert "cannot be read" in refused((certfile, secret), password_file="/no/such/file")


def test_a_key_that_needs_no_password_ignores_it(authority: Authority, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_bytes(b"secret")
    assert load(authority.issue("a.test"), password_file=str(password)).identities


def test_files_that_cannot_be_used(authority: Authority, tmp_path: Path) -> None:
    certfile, keyfile = authority.issue("a.test")
    _, other = authority.issue("b.test")
    junk = tmp_path / "junk.pem"
    junk.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    empty = tmp_path / "empty.pem"
    empty.touch()
    for pair, words in [
        (("/no/such.crt", keyfile), "certificate /no/such.crt cannot be read: No such file"),
        ((certfile, "/no/such.key"), "private key /no/such.key cannot be read: No such file"),
        ((str(tmp_path), keyfile), "Is a directory"),
        ((str(junk), keyfile), "holds no certificate"),
        ((str(empty), keyfile), "holds no certificate"),
        ((certfile, certfile), "holds no private key"),
        ((certfile, other), "does not belong to"),
    ]:
        line = refused(pair)
        assert words in line, line
        assert "\n" not in line


def test_an_expired_certificate(authority: Authority) -> None:
    past = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    pair = authority.issue("old.test", not_after=past)
    assert "expired on 2020-01-02 00:00 UTC" in refused(pair)


def test_ciphers_and_authorities(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("a.test")
    assert "--ciphers 'FOO' selects no cipher" in refused(pair, ciphers="FOO")
    missing = refused(pair, ca_certs="/no/such/file", verify_client="required")
    assert "/no/such/file cannot be read" in missing
    empty = tmp_path / "empty.pem"
    empty.touch()
    wrong = refused(pair, ca_certs=str(empty), verify_client="required")
    assert "holds no certificate" in wrong


def test_names_select_a_certificate(authority: Authority) -> None:
    names = [("a.test", "x.test"), ("*.w.test", "x.test"), ("b.w.test",)]
    credentials = load(*(authority.issue(*each) for each in names))
    contexts = [identity.context for identity in credentials.identities]
    for name, place in [
        (None, 0),
        ("", 0),
        ("a.test", 0),
        ("A.TEST.", 0),
        ("x.test", 0),
        ("y.w.test", 1),
        ("b.w.test", 2),
        ("w.test", 0),
        ("z.y.w.test", 0),
        ("unknown", 0),
    ]:
        assert credentials.context_for(name) is contexts[place], name
