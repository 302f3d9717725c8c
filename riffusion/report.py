"""What a run leaves to read: JSON files and tables."""

import json
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from riffusion.errors import UserError

CAPTION_SIZE = 20  # pixels


def write_atomically(path: Path, text: str) -> None:
    """Write a text file aside and rename it: it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


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


def picture_grid(rows: list[list[Image.Image]], captions: list[str] | None = None, gap: int = 8) -> Image.Image:
    """Pictures of one size in rows and columns, on white, with a caption over each row if there are any."""
    width, height = rows[0][0].size
    columns = len(rows[0])
    font = ImageFont.load_default(CAPTION_SIZE)
    above = 2 * CAPTION_SIZE if captions else 0
    grid = Image.new("L", (columns * (width + gap) - gap, len(rows) * (above + height + gap) - gap), 255)
    for number, row in enumerate(rows):
        top = number * (above + height + gap)
        if captions:
            ImageDraw.Draw(grid).text((gap, top + above // 4), captions[number], fill=0, font=font)
        for column, picture in enumerate(row):
            grid.paste(picture.convert("L"), (column * (width + gap), top + above))
    return grid


def table(rows: list[dict[str, object]]) -> str:
    """Rows of one shape as aligned text under a heading; floats get two decimals."""
    if not rows:
        return "(nothing)"
    cells = [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    lines = [list(rows[0]), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)
