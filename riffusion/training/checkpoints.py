"""Training checkpoints on disk: written completely or not at all, verified, limited in number, found again."""

import shutil
import sys
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from riffusion.util import files
from riffusion.util.distributed import this_share
from riffusion.util.errors import UserError

PREFIX = "checkpoint-"
FILES = "files.json"  # in each checkpoint, written last: the size of every other file


def save(accelerator: Accelerator, folder: Path, step: int, limit: int | None) -> None:
    """Write checkpoint-STEP under another name and rename it; then remove the oldest complete ones beyond `limit`.

    Raises UserError if it can't be written, as on a full disk; earlier checkpoints stay.
    """
    finished = folder / f"{PREFIX}{step}"
    part = this_share().agree(files.part_of(finished))  # all processes write into the main one's
    try:
        accelerator.save_state(str(part))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            files.save_json(part / FILES, file_sizes(part))
            shutil.rmtree(finished, ignore_errors=True)
            part.rename(finished)
            for old in all_whole(folder)[:-limit] if limit else []:
                shutil.rmtree(old)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
        shutil.rmtree(part, ignore_errors=True)
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{finished}: can't be written ({reason}); earlier checkpoints are kept") from error
    accelerator.wait_for_everyone()


def file_sizes(checkpoint: Path) -> dict[str, int]:
    """Bytes of each file by its name inside the checkpoint, without the list itself."""
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != FILES]
    return {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}


def is_whole(checkpoint: Path) -> bool:
    """Whether every file is there as long as it was written."""
    try:
        return files.load_json(checkpoint / FILES) == file_sizes(checkpoint)
    except UserError:  # no list, or a damaged one
        return False


def remove_unfinished(folder: Path) -> None:
    """Remove what killed runs were writing when they ended. No other run may be at work in this folder."""
    for part in folder.glob(f"{PREFIX}*.part"):
        shutil.rmtree(part, ignore_errors=True)


def all_whole(folder: Path) -> list[Path]:
    """Complete checkpoints, the oldest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(filter(is_whole, found), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The number of optimizer steps before a checkpoint."""
    return int(checkpoint.name.removeprefix(PREFIX))


def find(folder: Path, name: str | None) -> Path | None:
    """The checkpoint to resume from: `name` is a folder's name, "latest" or None. None to start from scratch.

    Incomplete checkpoints are skipped. Raises UserError if a named one is missing or incomplete, if there is a newer
    one, or if none is named and the folder has some.
    """
    found = all_whole(folder)
    if name is None:
        if found:
            raise UserError(
                f"{folder} holds {found[-1].name}; resume from it with --resume_from_checkpoint latest, or choose "
                "another --output_dir"
            )
        return None
    broken = sorted({path.name for path in folder.glob(f"{PREFIX}*")} - {path.name for path in found})
    if broken:
        print(f"skipping incomplete checkpoints: {', '.join(broken)}", file=sys.stderr)
    if name == "latest":
        if not found:
            print(f"{folder} has no checkpoint yet: starting from scratch")
        return found[-1] if found else None
    checkpoint = folder / Path(name).name
    if checkpoint not in found:
        there = ", ".join(path.name for path in found) or "none"
        raise UserError(f"{checkpoint}: no such checkpoint, or an incomplete one; complete ones: {there}")
    if checkpoint != found[-1]:
        raise UserError(f"{found[-1]} is newer than {name}; move it away to resume from the older one")
    return checkpoint


def kept(folder: Path) -> str:
    """What a run that is interrupted leaves to go on with, in words."""
    found = all_whole(folder)
    if not found:
        return "there is no checkpoint yet, so nothing is kept"
    return f"{found[-1]} is kept; --resume_from_checkpoint latest goes on from there"


def load(accelerator: Accelerator, checkpoint: Path) -> None:
    """Load weights and states. Raises UserError if they are of another kind of run."""
    try:
        accelerator.load_state(str(checkpoint))
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{checkpoint} was made with other flags or another model ({reason})") from error
    accelerator.step = 0  # checkpoints lie between two accumulations, whatever their length


def share_between_layouts(accelerator: Accelerator) -> None:
    """Let checkpoints hold plain weights, so that one of several processes loads in a single one and back."""

    def save(models: list, weights: list[dict], _: str) -> None:
        weights[:] = [{name.removeprefix("module."): value for name, value in state.items()} for state in weights]

    def load(models: list, _: str) -> None:
        models[:] = [accelerator.unwrap_model(part) for part in models]

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)
