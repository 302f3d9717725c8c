"""What a process and its children take: seconds, CPU seconds and peak memory, sampled while they run."""

import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from riffusion.util.errors import UserError

EVERY_SECONDS = 0.5  # without memory: to look more often would take time from what is watched
MEMORY_EVERY_SECONDS = 0.1


@dataclass
class Taken:
    """What was taken so far; memory is proportional set size, in which shared pages count once."""

    seconds: float = 0.0
    peak_mb: float = 0.0
    by_process: dict[int, float] = field(default_factory=dict)  # CPU seconds

    @property
    def cpu_seconds(self) -> float:
        """Of all processes together, but for what ends between two samples."""
        return sum(self.by_process.values())

    def row(self) -> dict[str, object]:
        """As columns of a table."""
        return {"seconds": self.seconds, "CPU s": self.cpu_seconds, "peak MB": self.peak_mb}

    def sample(self, process: int, with_memory: bool) -> None:
        """Look at a process and its children."""
        memory = 0
        for member in [parent := psutil.Process(process), *parent.children(recursive=True)]:
            try:
                times = member.cpu_times()
                self.by_process[member.pid] = times.user + times.system
                memory += member.memory_full_info().pss if with_memory else 0
            except psutil.Error:
                continue  # it has just ended
        self.peak_mb = max(self.peak_mb, memory / 1e6)


def watch(command: list[str], with_memory: bool = False) -> Taken:
    """Run a command to its end. Looking at memory slows it down. Raises UserError if it fails."""
    taken, started = Taken(), time.perf_counter()
    process = subprocess.Popen(command)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(MEMORY_EVERY_SECONDS if with_memory else EVERY_SECONDS):
            try:
                taken.sample(process.pid, with_memory)
            except psutil.Error:
                continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        code = process.wait()
    finally:
        process.kill()  # where this benchmark is interrupted
        ended.set()
    taken.seconds = time.perf_counter() - started
    thread.join()
    if code != 0:
        raise UserError(f"{Path(command[1]).name} ended with {code}")
    return taken
