"""Chromium without a window, driven by the DevTools protocol over two pipes."""

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync")
FLAGS += ("--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe")
CODES = {" ": "Space", "+": "Equal", "-": "Minus"}


class Page:
    """A tab of a browser whose messages come and go by two pipes."""

    def __init__(self, commands: int, messages: int):
        self.commands, self.messages = os.fdopen(commands, "wb", buffering=0), os.fdopen(messages, "rb")
        self.numbers, self.session, self.left = itertools.count(1), "", b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """What a command answers."""
        number = next(self.numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        self.commands.write(json.dumps(message).encode() + b"\0")
        return self.wait_for(lambda answer: answer.get("id") == number)["result"]

    def wait_for(self, is_wanted) -> dict[str, Any]:
        """The next message that is wanted."""
        while True:
            while b"\0" not in self.left:
                chunk = os.read(self.messages.fileno(), 1 << 16)
                assert chunk, "the browser has ended"
                self.left += chunk
            text, _, self.left = self.left.partition(b"\0")
            answer = json.loads(text)
            assert "error" not in answer, answer
            if is_wanted(answer):
                return answer

    def open(self, path: Path) -> None:
        """Load a page from disk."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for(lambda answer: answer.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = 10) -> None:
        """Wait until a JavaScript expression is true."""
        script = f"""new Promise((done) => {{
            const end = Date.now() + {1000 * seconds};
            const look = () => {{ const value = Boolean({condition});
                if (value || Date.now() > end) done(value); else setTimeout(look, 10); }};
            look();
        }})"""
        assert self.run(script), condition

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        which = {"key": key, "code": CODES.get(key, f"Digit{key}" if key.isdigit() else key)}
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **which, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **which)


@contextmanager
def browser(folder: Path, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A tab of a new browser, which keeps what it remembers in a folder."""
    assert CHROMIUM is not None
    command_end, our_commands = os.pipe()
    our_messages, message_end = os.pipe()
    moved = [os.dup(command_end), os.dup(message_end)]  # out of the way of 3 and 4

    def take_pipes() -> None:
        os.dup2(moved[0], 3)
        os.dup2(moved[1], 4)

    command = [CHROMIUM, *FLAGS, f"--window-size={width},{height}", f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        command, close_fds=False, preexec_fn=take_pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for end in (command_end, message_end, *moved):
        os.close(end)
    try:
        yield Page(our_commands, our_messages)
    finally:
        process.kill()
        process.wait()
