"""Several processes that work together: how they agree, how long they wait, and how they are told to stop."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, gather_object

Item = TypeVar("Item")

PATIENCE = timedelta(hours=2)  # of processes that wait for one which encodes or validates


@dataclass(frozen=True)
class Share:
    """This process among those that `accelerate launch` has started: the only one without it."""

    state: PartialState

    @property
    def is_main(self) -> bool:
        """Whether it is the one that writes what there is only one of."""
        return self.state.is_main_process

    @property
    def count(self) -> int:
        """How many of them there are."""
        return self.state.num_processes

    @property
    def device(self) -> torch.device:
        """Its GPU, or the CPU."""
        return self.state.device

    def mine(self, items: Sequence[Item]) -> list[Item]:
        """Its part of what all of them do."""
        return list(items[self.state.process_index :: self.count])

    def agree(self, value: Item) -> Item:
        """The main process's value, in all of them."""
        return broadcast_object_list([value])[0] if self.count > 1 else value

    def gather(self, values: dict[str, str]) -> dict[str, str]:
        """What all of them have, in all of them."""
        return {name: value for each in gather_object([values]) for name, value in each.items()}

    def wait(self) -> None:
        """Until all of them are here."""
        self.state.wait_for_everyone()


def this_share() -> Share:
    """The share of this process."""
    return Share(PartialState(timeout=PATIENCE))


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
