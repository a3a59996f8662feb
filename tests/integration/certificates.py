"""Certificates for tests, as files and as contexts of clients."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import trustme

__all__ = ["Authority"]


class Authority:
    """An authority, the files of the certificates that it has signed, and clients that trust it."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        """`directory`: where the files are put."""
        self._directory = directory
        self._name = name
        self.ca = trustme.CA()
        self.file = str(directory / f"{name}.pem")
        self.ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, file: str = "", **options: Any) -> tuple[str, str]:
        """Return the files of a new certificate and its key. `file`: their name without suffix."""
        certificate = self.ca.issue_cert(*names, **options)
        stem = self._directory / (file or f"{self._name}-{names[0].replace('*', '_')}")
        certfile, keyfile = stem.with_suffix(".crt"), stem.with_suffix(".key")
        certificate.private_key_pem.write_to_path(str(keyfile))
        certfile.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        return str(certfile), str(keyfile)

    def options(self, *names: str, **options: Any) -> list[str]:
        """Return the flags for a server with a new certificate."""
        certfile, keyfile = self.issue(*names, **options)
        return ["--certfile", certfile, "--keyfile", keyfile]

    def client(self, own: tuple[str, str] | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority. `own`: its certificate."""
        context = ssl.create_default_context(cafile=self.file)
        if own is not None:
            context.load_cert_chain(*own)
        return context
