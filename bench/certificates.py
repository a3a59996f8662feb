"""A certificate for servers that are measured with TLS: P-256, signed by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from bench.errors import DidNotStart

__all__ = ["FLAGS", "write_certificate"]

FLAGS: Final = {
    "ours": "--certfile {folder}/certificate.pem --keyfile {folder}/key.pem",
    "uvicorn": "--ssl-certfile {folder}/certificate.pem --ssl-keyfile {folder}/key.pem",
    "gunicorn": "--certfile {folder}/certificate.pem --keyfile {folder}/key.pem",
    "hypercorn": "--certfile {folder}/certificate.pem --keyfile {folder}/key.pem",
    "granian": "--ssl-certificate {folder}/certificate.pem --ssl-keyfile {folder}/key.pem",
}
"""What is added to the command lines of a family of servers."""


def write_certificate(folder: str) -> None:
    """Write certificate.pem and key.pem. Raises DidNotStart if openssl is missing."""
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command = [*words.split(), "-subj", "/CN=localhost", "-keyout", "key.pem"]
    try:
        subprocess.run(
            [*command, "-out", "certificate.pem"],
            cwd=folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise DidNotStart(f"no certificate: {error}; on Debian: apt install openssl") from None
    # The workers of some servers run as another user.
    Path(folder, "key.pem").chmod(0o644)
