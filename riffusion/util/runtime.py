"""The process around a script: how it starts, and how it ends."""

import ctypes
import gc
import multiprocessing
import multiprocessing.context
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TypeVar

from filelock import FileLock, Timeout

from riffusion.util.disk_space import writing
from riffusion.util.errors import UserError, one_line
from riffusion.util.streams import guard_streams

Args = TypeVar("Args")

TERMINATED = 128 + signal.SIGTERM  # a shell's exit code of what SIGTERM has ended
GARBAGE_THRESHOLD = 100_000  # new objects until Python looks for unused ones: importing libraries makes millions
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars, not even of downloads, and no advice from diffusers and transformers meanwhile."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [library.get_verbosity() for library in libraries]
    with only_download_bars(downloads=False):
        for library in libraries:
            library.set_verbosity_error()
        try:
            yield
        finally:
            for library, verbosity in zip(libraries, before, strict=True):
                library.set_verbosity(verbosity)


@contextmanager
def only_download_bars(downloads: bool = True) -> Iterator[None]:
    """No progress bars of diffusers and transformers meanwhile, which load a model in parts of no size; those of
    downloads stay, unless `downloads` says otherwise."""
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    had_downloads = not are_progress_bars_disabled()
    libraries = [one for one in (diffusers_logging, transformers_logging) if one.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    if had_downloads and downloads:
        enable_progress_bars()  # transformers has turned these off with its own
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()


def run_script(main: Callable[[Args], int], args: Args) -> NoReturn:
    """Leave the process with main's exit code: 2 and one line on stderr for bad input or a failure of the system.

    That is a UserError, an OSError or no memory left. Ctrl-C is 130 and SIGTERM 143, after working files are removed.
    A reader of stdout that goes away ends nothing.
    """
    streams = guard_streams()
    keep_freed_memory()
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        with ending_on_sigterm():
            code = main(args)
        sys.stdout.flush()
    except (UserError, OSError, MemoryError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, TerminatedError) as error:
        print(": ".join(["interrupted", *getattr(error, "__notes__", [])]), file=sys.stderr)
        code = TERMINATED if isinstance(error, TerminatedError) else 130
    if streams["stdout"].failure:
        print(f"error: standard output: {streams['stdout'].failure}; finished results are kept", file=sys.stderr)
        code = code or 2
    sys.exit(code)


@contextmanager
def telling_what_is_kept(told: Callable[[], str]) -> Iterator[None]:
    """Where this is interrupted, let the script's last line say what `told` returns then: what is kept, and how to go
    on."""
    try:
        yield
    except (KeyboardInterrupt, TerminatedError) as error:
        error.add_note(told())
        raise


class TerminatedError(SystemExit):
    """SIGTERM was received; no error of any kind, so that only `finally` and `with` see it."""


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM, which schedulers send before they kill, raise TerminatedError, so that working files are removed.

    It ends the processes that multiprocessing has started here, too: a pool would finish all its work first. Where
    SIGTERM is ignored or handled already, it stays so.
    """
    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        if os.getpid() != here:  # a fork, whose pool would take this for its job's failure and give it the next one
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one mustn't stop the removal
        for process in multiprocessing.active_children():
            process.terminate()
        raise TerminatedError(TERMINATED)

    here = os.getpid()
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def only_run(lock: Path) -> Iterator[None]:
    """No other run is at work in the lock file's folder meanwhile, on any machine that sees it.

    The folder is made if it is missing, and goes again if nothing was written. A killed run leaves no lock. Raises
    UserError if another run holds the lock.
    """
    is_new = not lock.parent.exists()
    held = FileLock(lock, timeout=0)
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire()
        except Timeout as error:
            raise UserError(f"{lock.parent}: another run is using this folder; wait until it has finished") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        held.release()
        if is_new:
            with suppress(OSError):  # it isn't empty
                lock.parent.rmdir()


def worker_context(modules: Sequence[str]) -> multiprocessing.context.BaseContext:
    """How worker processes are to start that need some modules, which take long to import.

    On Linux they are forks of a server that starts at once, beside this process, and imports these for all of them;
    elsewhere, where forks aren't safe, each is a new process.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(["__main__", *modules])
    forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


def keep_freed_memory() -> None:
    """Let glibc reuse large freed blocks instead of giving them back to the kernel; elsewhere do nothing.

    Every large tensor otherwise costs fresh pages: without it a mel spectrogram takes twice as long on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
