"""What a frozen part of the model makes of each item, computed once: shards of arrays on disk."""

import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from riffusion.util import files
from riffusion.util.errors import UserError

SHARD_ROWS = 128  # the most that a killed run loses; a multiple of every batch size
OPEN_SHARDS = 100  # at a time: each holds a few of the 1024 files that a process may open by default


class CachedRows(Dataset):
    """The cached row of each item, as float32 tensors. Shards are memory-mapped when they are first needed."""

    def __init__(self, folder: Path, row_of_item: np.ndarray):
        self.folder = folder
        self.row_of_item = row_of_item
        self.shards: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.row_of_item)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        shard, place = divmod(int(self.row_of_item[item]), SHARD_ROWS)
        if shard not in self.shards:
            if len(self.shards) >= OPEN_SHARDS:
                self.shards.clear()
            files = shard_folder(self.folder, shard).glob("*.npy")
            self.shards[shard] = {path.stem: np.load(path, mmap_mode="r") for path in files}
        return {name: torch.from_numpy(rows[place].astype(np.float32)) for name, rows in self.shards[shard].items()}


@dataclass
class Cache:
    """A folder that all processes, on all machines, fill together; `workers` processes of each read the items."""

    folder: Path
    accelerator: Accelerator
    workers: int = 0

    @torch.no_grad()
    def rows(
        self,
        name: str,
        items: Any,  # by place: a torch Dataset or a list
        keys: list[str],
        encode: Callable[[Any], dict[str, Tensor]],
        module: nn.Module | None,
        batch_size: int,
    ) -> CachedRows:
        """What `encode` makes of batches of items, kept in float16. Items of one key are encoded once.

        The rows lie in a folder named by a fingerprint: other keys or weights of `module` make another one. The
        processes share the shards that are missing; a run that was killed goes on from the last whole one.

        Raises UserError where shards can't be written, or where the processes don't see each other's.
        """
        different, firsts, row_of_item = np.unique(keys, return_index=True, return_inverse=True)
        folder = self.folder / f"{name}-{fingerprint(different, module)}"
        shards = [firsts[start : start + SHARD_ROWS] for start in range(0, len(firsts), SHARD_ROWS)]
        missing = [shard for shard in range(len(shards)) if not shard_folder(folder, shard).is_dir()]
        self.accelerator.wait_for_everyone()  # all have looked before one writes
        missing = missing[self.accelerator.process_index :: self.accelerator.num_processes]
        wanted = np.concatenate([shards[shard] for shard in missing]).tolist() if missing else []
        batches = map(encode, DataLoader(Subset(items, wanted), batch_size, num_workers=self.workers))
        quiet = not (wanted and self.accelerator.is_local_main_process)
        with tqdm(total=len(wanted), desc=f"caching {name}", unit="row", disable=quiet) as progress:
            for shard in missing:
                write_shard(shard_folder(folder, shard), batches, len(shards[shard]), progress)
        self.accelerator.wait_for_everyone()
        if not all(shard_folder(folder, shard).is_dir() for shard in range(len(shards))):
            raise UserError(f"{folder}: shards are missing; all machines must see the same folder, data included")
        return CachedRows(folder, row_of_item)


def write_shard(folder: Path, batches: Iterator[dict[str, Tensor]], rows: int, progress: tqdm) -> None:
    """Write the next `rows` rows, whole or not at all. Raises UserError where they can't be written."""
    parts: list[dict[str, np.ndarray]] = []
    while rows > 0:
        batch = next(batches)
        parts.append({name: values.half().cpu().numpy() for name, values in batch.items()})
        done = len(next(iter(batch.values())))
        rows -= done
        progress.update(done)
    aside = folder.with_name(f"{folder.name}.{platform.node()}.{os.getpid()}.part")  # another run may write it too
    files.make_folder(aside)
    try:
        for name in parts[0]:
            np.save(aside / f"{name}.npy", np.concatenate([part[name] for part in parts]))
        aside.rename(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        if folder.is_dir():
            return  # the other run was faster
        raise UserError(f"{folder}: can't be written ({error}); what is cached so far stays") from error


def shard_folder(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}"


def fingerprint(keys: np.ndarray, module: nn.Module | None) -> str:
    """Sixteen hexadecimal digits that follow from the keys and the module's weights."""
    digest = hashlib.sha256("\n".join(keys).encode())
    for name, weight in sorted(module.state_dict().items()) if module is not None else ():
        digest.update(name.encode() + weight.cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]
