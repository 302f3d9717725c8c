"""Files written whole or not at all: text, JSON and folders."""

import json
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from riffusion.util.disk_space import writing
from riffusion.util.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The name to write a file under: at the end it becomes `path`, complete, and on an error goes away."""
    part = part_of(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to write into: at the end it becomes `path`, complete, and on an error goes away.

    Raises OSError if `path` is already there by then, and not empty.
    """
    part = make_folder(part_of(path))
    try:
        yield part
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def part_of(path: Path) -> Path:
    """The name of a file or folder while it is written; each run, on each machine, has its own."""
    return path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}.part")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that is there complete or not at all, whoever else writes it.

    Raises UserError if it can't be written, as on a full disk.
    """
    with writing(path, len(text)), whole_file(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def save_json(path: Path, value: object) -> None:
    """Write readable JSON, whole or not at all. A Path becomes a string, NaN and infinity become null."""
    write_atomically(path, json.dumps(_finite(value), indent=2, default=str, allow_nan=False) + "\n")


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_json(path: Path) -> dict:
    """A JSON object from a file. Raises UserError if it isn't one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def make_folder(path: Path) -> Path:
    """Create a folder with its parents. Raises UserError if it can't be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: can't make this folder ({error.strerror})") from error
    return path


def without_folders(value: object) -> str:
    """A setting as published text: of a path on the machine that ran it only the last part."""
    return re.sub(r"^/.*/(?=.)", "", str(value))
