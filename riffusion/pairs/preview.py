"""Some pairs at a glance."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from PIL import Image

from riffusion.pairs.pair import METADATA, Pair, read_records
from riffusion.util.figures import contact_sheet


def draw_preview(folders: Sequence[Path], count: int, seed: int) -> Image.Image:
    """So many pairs with their instructions, as one picture."""
    pairs: list[tuple[Image.Image, Image.Image]] = []
    captions = []
    for folder, pair in choose_pairs(folders, count, seed):
        before, after = (Image.open(folder / name) for name in astuple(pair.images))
        pairs.append((before, after))
        captions.append(f'"{pair.text.edit_prompt}" ({pair.edit}; the input has {pair.source.backing_stems})')
    return contact_sheet(pairs, captions)


def choose_pairs(folders: Sequence[Path], count: int, seed: int) -> list[tuple[Path, Pair]]:
    """So many pairs and their folders, of different songs where there are enough.

    What was shown least goes first: an edit, then a task. Pairs that paint nothing look alike, so one is enough.
    """
    rng = random.Random(seed)
    shown = Counter[str]()
    chosen = []
    for index in range(count):
        folder = folders[index * len(folders) // count]
        records = read_records(folder / METADATA)
        rng.shuffle(records)
        pair = min(records, key=lambda pair: (shown[str(pair.edit)], shown[pair.edit.task.name]))
        for name in {str(pair.edit), pair.edit.task.name}:
            shown[name] += 1 if pair.edit.stem else count
        chosen.append((folder, pair))
    return chosen
