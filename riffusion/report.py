"""What a run leaves to read: JSON files and tables."""

import json
import math
import os
import platform
import re
import shutil
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from riffusion.errors import UserError
from riffusion.room import writing

CAPTION_SIZE = 15  # pixels
CAPTION_LINES = 3
ANIMATION_WIDTH = 1024  # pixels at most
ANIMATION_MS = 1000  # a picture
ABSENT = "-"  # in a table's cell
GAP = "  "  # between a table's columns
HARD_SPACE = "\N{NO-BREAK SPACE}"  # where a line must not end


def write_atomically(path: Path, text: str) -> None:
    """Write a text file aside and rename it: it is there whole or not at all, whoever else writes it.

    Raises UserError if it can't be written, as on a full disk.
    """
    part = part_of(path)
    with writing(path, len(text)):
        try:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """The name of a file while it is written; another run, on another machine, has another."""
    return path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}.part")


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


def picture_grid(rows: list[list[Image.Image]], gap: int = 8) -> Image.Image:
    """Pictures of one size in rows and columns, on white."""
    width, height = rows[0][0].size
    columns = len(rows[0])
    grid = Image.new("L", (columns * (width + gap) - gap, len(rows) * (height + gap) - gap), 255)
    for top, row in enumerate(rows):
        for left, picture in enumerate(row):
            grid.paste(picture.convert("L"), (left * (width + gap), top * (height + gap)))
    return grid


def contact_sheet(pairs: list[tuple[Image.Image, Image.Image]], captions: list[str], columns: int = 3) -> Image.Image:
    """Pairs of pictures of one size side by side at half size, each under its caption, in columns."""
    width, height = (size // 2 for size in pairs[0][0].size)
    font = ImageFont.load_default(CAPTION_SIZE)
    room = CAPTION_LINES * (CAPTION_SIZE + 4)
    cells = []
    for pair, caption in zip(pairs, captions, strict=True):
        cell = Image.new("L", (2 * width + 4, room + height), 255)
        letters = int(cell.width / (0.55 * CAPTION_SIZE))
        text = "\n".join(textwrap.wrap(caption, max(letters, 10), max_lines=CAPTION_LINES))
        ImageDraw.Draw(cell).text((2, 0), text, fill=0, font=font)
        for column, picture in enumerate(pair):
            small = picture.convert("L").resize((width - 2, height - 2))
            cell.paste(ImageOps.expand(small, border=1, fill=160), (column * (width + 4), room))
        cells.append(cell)
    return picture_grid([cells[first : first + columns] for first in range(0, len(cells), columns)], gap=16)


def save_animation(path: Path, pictures: dict[str, Image.Image]) -> None:
    """Pictures of one size one after another, each under its name, as an animated WebP."""
    frames = []
    for name, picture in pictures.items():
        width = min(picture.width, ANIMATION_WIDTH)
        frame = Image.new("L", (width, picture.height + CAPTION_SIZE + 8), 255)
        frame.paste(picture.convert("L").resize((width, picture.height)), (0, CAPTION_SIZE + 8))
        ImageDraw.Draw(frame).text((4, 2), name, fill=0, font=ImageFont.load_default(CAPTION_SIZE))
        frames.append(frame)
    with writing(path):
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=ANIMATION_MS, loop=0, quality=80)


def table(rows: list[dict[str, object]], width: int | None = None) -> str:
    """Rows as aligned text under a heading, no wider than `width` characters (default: the terminal's).

    Columns that don't fit follow in further tables, each with the first column again; where not even one fits beside
    it, every row is a paragraph instead. Nothing is cut.
    """
    if not rows:
        return "(nothing)"
    width = width or shutil.get_terminal_size().columns
    columns = [[name, *(cell_text(row.get(name)) for row in rows)] for name in column_names(rows)]
    groups = _column_groups(columns, width)
    if any(_width(group) > width for group in groups):
        return "\n\n".join(_paragraph(columns, row, width) for row in range(1, len(rows) + 1))
    return "\n\n".join(map(_aligned, groups))


def markdown_table(rows: list[dict[str, object]]) -> str:
    """Rows as a table of Markdown."""
    if not rows:
        return "(not recorded)"
    names = column_names(rows)
    cells = [[cell_text(row.get(name)) for name in names] for row in rows]
    lines = [names, ["---"] * len(names), *([text.replace("|", "\\|") for text in line] for line in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def column_names(rows: list[dict[str, object]]) -> list[str]:
    """The names of all columns that any row has, in order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def cell_text(value: object) -> str:
    """A value as every table shows it, on the console, in Markdown and on a page.

    What is absent, not a number or infinite is `ABSENT`. Other floats get two decimals, or two digits where that would
    leave none of them.
    """
    if is_absent(value):
        return ABSENT
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        value = float(value)
        return f"{value:.2g}" if 0 < abs(value) < 0.1 else f"{value:.2f}"
    return str(value).replace("\n", " ")


def is_absent(value: object) -> bool:
    """Whether there is nothing to show: None, NaN or infinity."""
    return value is None or (isinstance(value, float | np.floating) and not math.isfinite(value))


def _column_groups(columns: list[list[str]], width: int) -> list[list[list[str]]]:
    """Columns in groups that each fit a width if that can be, every group with the first column."""
    groups = [columns[:1]]
    for column in columns[1:]:
        if len(groups[-1]) > 1 and _width([*groups[-1], column]) > width:
            groups.append(columns[:1])
        groups[-1] = [*groups[-1], column]
    return groups


def _width(columns: list[list[str]]) -> int:
    """Characters in a line of an aligned table."""
    return sum(max(map(len, column)) for column in columns) + len(GAP) * (len(columns) - 1)


def _aligned(columns: list[list[str]]) -> str:
    """A table of columns, each with its heading first."""
    padded = [[text.ljust(max(map(len, column))) for text in column] for column in columns]
    return "\n".join(GAP.join(line).rstrip() for line in zip(*padded, strict=True))


def _paragraph(columns: list[list[str]], row: int, width: int) -> str:
    """One row of a table that is too wide: the first column's text, and below it the others' names and texts."""
    texts = [f"{column[0]}: {column[row]}".replace(" ", HARD_SPACE) for column in columns[1:]]
    lines = textwrap.wrap(columns[0][row], width) + textwrap.wrap(
        "; ".join(texts), width, initial_indent=GAP, subsequent_indent=GAP, break_on_hyphens=False
    )
    return "\n".join(lines).replace(HARD_SPACE, " ")


def without_folders(value: object) -> str:
    """A setting as published text: of a path on the machine that ran it only the last part."""
    return re.sub(r"^/.*/(?=.)", "", str(value))
