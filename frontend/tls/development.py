"""A certificate for development (`--tls-dev`). Its authority is gone at once: no client trusts it.

The file lies in a directory of its own, which is removed when the process ends.
"""

from __future__ import annotations

import atexit
import os
import tempfile

from reactor_run.frontend.log import log

__all__ = ["make_certificate"]

_NAMES = ("localhost", "*.localhost", "127.0.0.1", "::1")


def make_certificate() -> str:
    """Make a certificate for localhost, and return the file that holds it and its key."""
    import trustme

    certificate = trustme.CA().issue_cert(*_NAMES)
    # tempfile makes a directory that only this user may read.
    directory = tempfile.TemporaryDirectory(prefix="reactor-run-tls-")
    atexit.register(directory.cleanup)
    path = os.path.join(directory.name, "localhost.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(path)
    log.warning(
        "--tls-dev: no browser or client trusts this certificate. It is for development on this "
        "machine, and differs at each start"
    )
    return path
