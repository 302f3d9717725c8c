"""Standard streams that never end the work: readers that go away, full disks, closed streams, narrow encodings."""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from riffusion.util.errors import UserError, one_line


class MessageStream(io.FileIO):
    """A standard stream for what is told beside the work, which goes on where nobody hears it.

    `failure` says why the rest was lost, unless its reader went away, as `head` does.
    """

    failure = ""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write, or from the first failure on pretend to."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = "" if isinstance(error, BrokenPipeError) else one_line(error)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def guard_streams() -> dict[str, MessageStream]:
    """Let stdout and stderr take any text, closed or not: what their encoding lacks is written as an escape.

    `sys.__stdin__` and `sys.__stdout__` stay None where the stream was closed.
    """
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the next file opened were taken for that stream
        pass
    os.close(free)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    guarded = {}
    for number, name in enumerate(("stdout", "stderr"), start=1):
        stream = getattr(sys, name)
        if stream is not None:
            stream.flush()
        here = number if stream is not None else os.open(os.devnull, os.O_WRONLY)  # a library may have taken the number
        guarded[name] = MessageStream(here, "w", closefd=False)
        encoding = stream.encoding if stream is not None else "utf-8"
        buffer = io.BufferedWriter(guarded[name])  # type: ignore[type-var]
        setattr(sys, name, io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True))
    return guarded


def require_pipes(processes: int) -> None:
    """Raise UserError where a song from stdin has no one process to read it, or its result no stdout to go to."""
    if processes > 1:
        raise UserError("--audio - reads stdin, which several processes can't share")
    if sys.__stdin__ is None:
        raise UserError("standard input is closed, but the song should come from it")
    if sys.__stdout__ is None:
        raise UserError("standard output is closed, but the painted song should go to it")


def write_to_stdout(path: Path) -> None:
    """Write a file's bytes to standard output. Raises UserError if it takes no more: the file is then kept."""
    assert sys.__stdout__ is not None
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                while block:
                    block = block[os.write(sys.__stdout__.fileno(), block) :]
    except OSError as error:
        reason = "its reader went away" if isinstance(error, BrokenPipeError) else error.strerror
        kept = shutil.move(path, tempfile.mkdtemp(prefix="painted-"))
        raise UserError(f"standard output: {reason}; the painted song is kept as {kept}") from error
