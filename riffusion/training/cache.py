"""What a frozen part of the model makes of each item, computed once: shards of arrays on disk."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from riffusion.diffusion.batch import Batch
from riffusion.util import files
from riffusion.util.disk_space import refusal
from riffusion.util.distributed import ignore_sigterm
from riffusion.util.errors import UserError
from riffusion.util.threads import core_count, side_by_side

SHARD_ROWS = 128  # the most that a killed run loses; a multiple of every batch size

Encode = Callable[[Any], Mapping[str, Any]]  # a batch of items to named tensors (B, ...)


class CachedRows(Dataset):
    """The cached row of each item, as float32 tensors.

    A row is read from its place in the shard's files, which are closed again: however many shards there are, fetching
    one takes the same time and leaves neither files open nor pages mapped.
    """

    def __init__(self, folder: Path, row_of_item: np.ndarray):
        self.folder = folder
        self.row_of_item = row_of_item
        self.rows = int(row_of_item.max()) + 1
        arrays = shard_folder(folder, 0).glob("*.npy")
        self.shapes = {path.stem: np.load(path, mmap_mode="r").shape[1:] for path in arrays}

    def __len__(self) -> int:
        return len(self.row_of_item)

    def __getitem__(self, item: int) -> Batch:
        shard, row = divmod(int(self.row_of_item[item]), SHARD_ROWS)
        folder = shard_folder(self.folder, shard)
        from_end = min(SHARD_ROWS, self.rows - shard * SHARD_ROWS) - row
        arrays = {name: read_row(folder / f"{name}.npy", shape, from_end) for name, shape in self.shapes.items()}
        return cast(Batch, {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()})


def read_row(path: Path, shape: tuple[int, ...], from_end: int) -> np.ndarray:
    """One row of `shape` from a file of float16 rows, the last if `from_end` is 1."""
    size = math.prod(shape) * np.dtype(np.float16).itemsize
    with path.open("rb", buffering=0) as file:
        file.seek(-size * from_end, os.SEEK_END)
        return np.frombuffer(file.read(size), np.float16).reshape(shape)


@dataclass
class Cache:
    """A folder that all processes, on all machines, fill together; each has `workers` processes that read items."""

    folder: Path
    accelerator: Accelerator
    workers: int = 0

    def rows(
        self,
        name: str,
        items: Any,  # indexed by number: a torch Dataset, a list or a tensor
        keys: list[str],
        encode: Encode,
        module: nn.Module | None,
        batch_size: int,
    ) -> CachedRows:
        """The result of `encode` for each item, kept in float16. Items with the same key are encoded once.

        The rows are in a folder named by a fingerprint: other keys or weights of `module` make another one. The
        processes share out the shards that are missing; after a killed run only those it hadn't finished are. On a CPU
        each core encodes a batch of its own.

        Raises UserError if a shard can't be written, or if the processes don't see each other's shards.
        """
        unique, firsts, row_of_item = np.unique(keys, return_index=True, return_inverse=True)
        folder = self.folder / f"{name}-{fingerprint(unique, module)}"
        shards = [firsts[start : start + SHARD_ROWS] for start in range(0, len(firsts), SHARD_ROWS)]
        missing = [shard for shard in range(len(shards)) if not shard_folder(folder, shard).is_dir()]
        self.accelerator.wait_for_everyone()  # all know what is missing before one writes
        missing = missing[self.accelerator.process_index :: self.accelerator.num_processes]
        needed = np.concatenate([shards[shard] for shard in missing]).tolist() if missing else []
        loader = DataLoader(Subset(items, needed), batch_size, num_workers=self.workers, worker_init_fn=ignore_sigterm)
        cores = core_count(self.accelerator.device)
        batches = side_by_side(partial(without_gradients, encode), loader, cores, cores)
        quiet = not (needed and self.accelerator.is_local_main_process)
        with tqdm(total=len(needed), desc=f"caching {name}", unit="row", disable=quiet) as progress:
            for shard in missing:
                write_shard(shard_folder(folder, shard), batches, len(shards[shard]), progress)
        self.accelerator.wait_for_everyone()
        if not all(shard_folder(folder, shard).is_dir() for shard in range(len(shards))):
            raise UserError(f"{folder}: shards are missing; all machines must see the same folder, data included")
        return CachedRows(folder, row_of_item)


def without_gradients(encode: Encode, batch: Any) -> Mapping[str, Any]:
    """The result of `encode`, in the thread that this is called in."""
    with torch.no_grad():
        return encode(batch)


def write_shard(folder: Path, batches: Iterator[Mapping[str, Tensor]], rows: int, progress: tqdm) -> None:
    """Write the next `rows` rows, complete or not at all. Raises UserError if they can't be written."""
    parts: list[dict[str, np.ndarray]] = []
    while rows > 0:
        batch = next(batches)
        parts.append({name: values.half().cpu().numpy() for name, values in batch.items()})
        done = len(next(iter(batch.values())))
        rows -= done
        progress.update(done)
    joined = {name: np.concatenate([arrays[name] for arrays in parts]) for name in parts[0]}
    try:
        with files.whole_folder(folder) as part:
            for name, values in joined.items():
                np.save(part / f"{name}.npy", values)
    except OSError as error:
        if not folder.is_dir():  # it is there if another run with the same pairs was faster
            needed = sum(values.nbytes for values in joined.values())
            raise UserError(f"{refusal(folder, error, needed)}; what is cached so far is kept") from error


def shard_folder(folder: Path, shard: int) -> Path:
    """Where a shard's arrays are."""
    return folder / f"shard-{shard:05d}"


def fingerprint(keys: np.ndarray, module: nn.Module | None) -> str:
    """Sixteen hexadecimal digits that follow from the keys and the module's weights."""
    digest = hashlib.sha256("\n".join(keys).encode())
    for name, weight in sorted(module.state_dict().items()) if module is not None else ():
        digest.update(name.encode() + weight.cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]
