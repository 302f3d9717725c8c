"""Training checkpoints on disk: written whole, counted, found again."""

import shutil
from pathlib import Path

from accelerate import Accelerator

from riffusion.errors import UserError

PREFIX = "checkpoint-"


def save(accelerator: Accelerator, folder: Path, step: int, limit: int | None) -> None:
    """Write checkpoint-STEP aside and rename it; then let the oldest beyond `limit` go."""
    finished = folder / f"{PREFIX}{step}"
    part = finished.with_name(finished.name + ".part")
    accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(finished, ignore_errors=True)
        part.rename(finished)
        for old in all_in(folder)[:-limit] if limit else []:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def all_in(folder: Path) -> list[Path]:
    """Finished checkpoints, the oldest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Optimizer steps behind a checkpoint."""
    return int(checkpoint.name.removeprefix(PREFIX))


def find(folder: Path, name: str) -> Path | None:
    """The checkpoint that `name` means, a folder's name or "latest"; None if that is asked for and there is none."""
    found = all_in(folder)
    if name == "latest":
        return found[-1] if found else None
    checkpoint = folder / Path(name).name
    if checkpoint not in found:
        there = ", ".join(path.name for path in found) or "none"
        raise UserError(f"{checkpoint}: no such checkpoint; there are: {there}")
    return checkpoint
