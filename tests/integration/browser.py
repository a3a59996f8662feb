"""Debian's Chromium, driven by chromedriver over WebDriver (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.integration.waiting import eventually
from tests.needs import path_of

NEEDS = ("chromium", "chromedriver")
"""What a test that uses `Browser` must be marked with."""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


class Browser:
    """A browser with one window and a profile of its own; a context manager that ends it."""

    def __init__(self, *, trusting: bool = False) -> None:
        """`trusting`: it accepts any certificate."""
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "chromedriver.log"
        with self._log.open("wb") as log:
            self._driver = subprocess.Popen(
                [path_of("chromedriver"), "--port=0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._session = ""
        try:
            port = eventually(
                lambda: re.search(r"successfully on port (\d+)", self._log.read_text()), deadline=20
            )
            self._base = f"http://127.0.0.1:{port[1]}"  # type: ignore[index]
            options = {
                "binary": path_of("chromium"),
                "args": [*_FLAGS, f"--user-data-dir={self._folder.name}/profile"],
            }
            wanted = {
                "acceptInsecureCerts": trusting,
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, url: str) -> None:
        """Load a page."""
        self._ask("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """Return what the body of a function in JavaScript returns."""
        body = {"script": script, "args": []}
        return self._ask("POST", f"{self._session}/execute/sync", body)

    def text(self) -> str:
        """Return the text that the page shows."""
        return str(self.run("return document.body.innerText"))

    def complaints(self) -> list[str]:
        """Return the lines of the console since the last call: errors, violations of a policy."""
        entries = self._ask("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def command(self, name: str, **parameters: Any) -> Any:
        """Give a command of the DevTools protocol."""
        body = {"cmd": name, "params": parameters}
        return self._ask("POST", f"{self._session}/goog/cdp/execute", body)

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Show the page in a window of this size, on a device with this colour scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """Return a picture of the window, as PNG."""
        return base64.b64decode(self._ask("GET", f"{self._session}/screenshot"))

    def close(self) -> None:
        """End the browser."""
        if self._session:
            self._ask("DELETE", self._session)
        self._driver.terminate()
        self._driver.wait(20)
        self._folder.cleanup()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
