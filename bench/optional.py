"""`make bench` calls this after installing: tries the peers that have to be compiled here.

Whatever comes of it, the comparison goes on; one that is not there is reported as such.
"""

import subprocess
import sys

_PEERS = {"bjoern": "apt install libev-dev", "uwsgi": "apt install gcc python3-dev"}
_LIMIT = 600
"""Seconds for each."""


def main() -> None:
    """Try each, and say what came of it."""
    for name, hint in _PEERS.items():
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        try:
            done = subprocess.run([*command, name], capture_output=True, timeout=_LIMIT)
            built = done.returncode == 0
        except subprocess.TimeoutExpired:
            built = False
        print(f"{name}: {'installed' if built else f'does not build here; perhaps {hint}'}")


if __name__ == "__main__":
    main()
