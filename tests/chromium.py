"""Chromium without a window, spoken to over its DevTools: tests read real pages, where there is a browser."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 60  # that anything may take on a busy computer


def find_chromium() -> str | None:
    """Its path, where there is one."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Tab:
    """One tab. `errors` holds what the page's scripts threw or the browser refused them."""

    def __init__(self, address: str):
        import websocket  # comes with kubernetes' client, of the test extra

        self._socket = websocket.create_connection(address, timeout=SECONDS, suppress_origin=True, max_size=None)
        self._last, self.errors, self.asked, self._events = 0, [], [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while (message := self._next()).get("id") != self._last:
            pass
        assert "error" not in message, (method, message["error"])
        return message["result"]

    def _next(self) -> dict[str, Any]:
        message = json.loads(self._socket.recv())
        name, told = message.get("method"), message.get("params", {})
        if name == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"]))
        elif name == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"])
        elif name == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        return message

    def run(self, script: str) -> Any:
        """The value of an expression, waited for if it is a promise."""
        told = self.do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, (script, told["exceptionDetails"], self.errors)
        return told["result"].get("value")

    def open(self, address: str, ready: str) -> None:
        """Goes there, and waits until the expression `ready` is true."""
        self.do("Page.navigate", url="about:blank")
        self.errors.clear()
        self.asked.clear()
        self.do("Page.navigate", url=address)
        self.until(ready)

    def until(self, condition: str) -> None:
        """Waits until an expression is true, looked at in each frame that is drawn."""
        self.run(
            f"new Promise((done, fail) => {{ const end = performance.now() + {SECONDS * 900}; const look = () => "
            f"{{ let met = false; try {{ met = {condition}; }} catch {{}} if (met) done(); else if "
            f"(performance.now() > end) fail(new Error('never')); else setTimeout(look, 5); }}; look(); }})"
        )

    def key(self, key: str) -> None:
        """Presses one."""
        text = {"text": key} if len(key) == 1 else {}
        self.do("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.do("Input.dispatchKeyEvent", type="keyUp", key=key)

    def window(self, width: int, height: int, phone: bool = False, theme: str = "light") -> None:
        """Of that many CSS pixels, with what the system prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.do("Emulation.setDeviceMetricsOverride", **size)
        self.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def picture(self, path: Path) -> None:
        """A PNG of what is in sight."""
        path.write_bytes(base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def chromium() -> Iterator[Tab]:
    """A tab of a fresh browser; skips the test where there is none."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this computer")
    pytest.importorskip("websocket")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        command = [program, *flags, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
        quiet = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
        process = subprocess.Popen(command, start_new_session=True, **quiet)
        try:
            line = next((line for line in process.stderr if "DevTools listening on" in line), "")
            port = line.split("127.0.0.1:")[1].split("/")[0]
            with urlopen(f"http://127.0.0.1:{port}/json", timeout=SECONDS) as answer:
                pages = [one for one in json.load(answer) if one["type"] == "page"]
            yield Tab(pages[0]["webSocketDebuggerUrl"])
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with the renderers that it started
            process.wait()
            process.stderr.close()
