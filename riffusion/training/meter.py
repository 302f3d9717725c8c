"""Loss and speed of a training run."""

import statistics
import time
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor


@dataclass(frozen=True)
class Speed:
    """The last reading's loss and the run's speed so far; None if there was no reading."""

    loss: float | None
    samples_per_second: float | None  # examples of all processes, median of the readings
    peak_gpu_memory_gb: float | None  # of this process; None on a CPU


class Meter:
    """Collects losses; `read` only now and then, as each reading makes a GPU wait."""

    def __init__(self, accelerator: Accelerator, batch_size: int):
        self.accelerator = accelerator
        self.batch_size = batch_size
        self.losses: list[Tensor] = []
        self.loss: float | None = None
        self.rates: list[float] = []
        self.started = time.perf_counter()
        if accelerator.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def add(self, loss: Tensor) -> None:
        """Add the loss of one batch of this process, a scalar."""
        self.losses.append(loss)

    def read(self) -> dict[str, float]:
        """The mean `loss` and `samples_per_second` of all processes since the last reading."""
        self.loss = self.accelerator.reduce(torch.stack(self.losses).mean(), "mean").item()
        now = time.perf_counter()
        examples = len(self.losses) * self.batch_size * self.accelerator.num_processes
        self.rates.append(examples / (now - self.started))
        self.losses, self.started = [], now
        return {"loss": self.loss, "samples_per_second": self.rates[-1]}

    def summary(self) -> Speed:
        """The readings so far."""
        on_gpu = self.accelerator.device.type == "cuda"
        return Speed(
            loss=self.loss,
            samples_per_second=statistics.median(self.rates) if self.rates else None,
            peak_gpu_memory_gb=torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
        )
