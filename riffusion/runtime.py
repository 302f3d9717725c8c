"""The process around a script: how it starts, and how it ends."""

import argparse
import ctypes
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import NoReturn, TypeVar

import torch
from accelerate import Accelerator

from riffusion.errors import UserError

Args = TypeVar("Args")

PATIENCE = timedelta(hours=2)  # of accelerate's processes that wait for one which encodes or validates
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def torch_device(name: str) -> torch.device:
    """A torch device for argparse's `type`: a name that torch doesn't know, or a GPU that isn't there, is refused."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"no such device here: {name}") from error


def run_script(main: Callable[[Args], int], args: Args) -> NoReturn:
    """Leave the process with main's exit code: 2 and one line on stderr for a UserError, 130 for Ctrl-C."""
    keep_freed_memory()
    try:
        sys.exit(main(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: what is finished stays", file=sys.stderr)
        sys.exit(130)


def keep_freed_memory() -> None:
    """Let glibc reuse large freed blocks instead of giving them back to the kernel; elsewhere do nothing.

    Every large tensor otherwise costs fresh pages: without it a mel spectrogram takes twice as long on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether the flag is set in one of accelerate's processes, the same answer in all of them."""
    if accelerator.num_processes == 1:
        return flag  # without making a GPU wait
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)))


def catch_sigterm() -> Event:
    """From now on SIGTERM, which schedulers send before they kill, ends nothing; it only sets the event."""
    received = Event()
    signal.signal(signal.SIGTERM, lambda *_: received.set())
    return received


def ignore_sigterm(_: int) -> None:
    """For a DataLoader's workers: a SIGTERM to the whole group mustn't end them before their parent has saved."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
