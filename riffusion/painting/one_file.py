"""A painted song or picture as one file where somebody wants it, instead of a folder of results."""

import shutil
from pathlib import Path

from riffusion.painting.options import PaintOptions
from riffusion.util.disk_space import writing
from riffusion.util.errors import UserError
from riffusion.util.files import make_folder, whole_file


def targets(options: PaintOptions) -> dict[str, Path]:
    """The files that are to be written, by the name of the signal."""
    wanted = {"painted": options.output, "stem": options.output_stem}
    return {name: path for name, path in wanted.items() if path is not None}


def check_targets(options: PaintOptions) -> None:
    """Raise UserError if a file that is to be written is there already, or its folder can't be."""
    for path in targets(options).values():
        if path.is_dir() or (path.exists() and not options.overwrite):
            raise UserError(f"{path}: already exists; pass --overwrite to replace it, or another --output")
        make_folder(path.parent)


def write_targets(folder: Path, options: PaintOptions) -> None:
    """Copy a result's files to where they are wanted, whole or not at all. Raises UserError if there is no room."""
    for name, path in targets(options).items():
        file = folder / f"{name}{path.suffix.lower()}"
        with writing(path, file.stat().st_size), whole_file(path) as part:
            shutil.copyfile(file, part)
