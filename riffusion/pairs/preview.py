"""Some pairs at a glance."""

import random
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from PIL import Image

from riffusion.pairs.pair import METADATA, read_records
from riffusion.util.figures import contact_sheet


def draw_preview(folders: Sequence[Path], count: int, seed: int) -> Image.Image:
    """So many pairs with their instructions, of different songs' folders where there are enough, as one picture."""
    rng = random.Random(seed)
    pairs: list[tuple[Image.Image, Image.Image]] = []
    captions = []
    for index in range(count):
        folder = folders[index * len(folders) // count]
        pair = rng.choice(read_records(folder / METADATA))
        before, after = (Image.open(folder / name) for name in astuple(pair.images))
        pairs.append((before, after))
        captions.append(f'"{pair.text.edit_prompt}" ({pair.edit}; the input has {pair.source.backing_stems})')
    return contact_sheet(pairs, captions)
