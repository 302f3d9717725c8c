"""Several processes that train together: how they agree, how long they wait, and how they are told to stop."""

import signal
from datetime import timedelta
from threading import Event

import torch
from accelerate import Accelerator

PATIENCE = timedelta(hours=2)  # of processes that wait for one which encodes or validates


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
