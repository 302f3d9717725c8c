"""Pictures for people: grids, contact sheets and animations."""

import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from riffusion.util.disk_space import writing

CAPTION_SIZE = 15  # pixels
CAPTION_LINES = 3
ANIMATION_WIDTH = 1024  # pixels at most
ANIMATION_MS = 1000  # a picture


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
