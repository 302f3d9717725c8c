"""A process of its own for what may crash, hang, or fill memory and disk, and a look at what it leaves."""

import contextlib
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import datasets

MOST_MEMORY = 3 << 30  # bytes beyond what the process has that is forked
MOST_FILE = 256 << 20  # bytes in one file


def confined(work: Callable[[], None], place: Path, seconds: float) -> str:
    """Do something in a fork that lives in a folder, with limits; what ended it, "" if it came to its own end.

    `place` has folders cwd and tmp, and gets the files stdout and stderr.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            be_alone(place)
            work()
            status = 0
        except BaseException:  # whatever it is, it is told
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    try:
        return wait_for(child, seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # and what it started


def be_alone(place: Path) -> None:
    """Give this process limits, folders and streams of its own."""
    os.setsid()
    os.chdir(place / "cwd")
    os.environ["TMPDIR"] = tempfile.tempdir = str(place / "tmp")
    datasets.config.HF_DATASETS_CACHE = place / "cache"
    for descriptor, name in ((0, os.devnull), (1, place / "stdout"), (2, place / "stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    kilobytes = re.findall(r"VmData:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]
    limits = {resource.RLIMIT_FSIZE: MOST_FILE, resource.RLIMIT_CORE: 0}
    limits[resource.RLIMIT_DATA] = int(kilobytes) * 1024 + MOST_MEMORY
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))


def wait_for(child: int, seconds: float) -> str:
    """Wait for a process, and kill it after that time; what ended it, if not itself."""
    until, status = time.monotonic() + seconds, None
    while status is None and time.monotonic() < until:
        ended, found = os.waitpid(child, os.WNOHANG)
        status = found if ended else None
        time.sleep(0.005)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"not done after {seconds:g} s"
    return f"ended by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else ""


def tree(folder: Path) -> list[list[object]]:
    """Names, sizes and times of all files and folders."""
    found = [(os.fsencode(path).hex(), path.lstat()) for path in sorted(folder.rglob("*"))]
    return [[name, status.st_size, status.st_mtime_ns] for name, status in found]
