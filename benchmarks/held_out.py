"""Held-out pairs, and what a model paints over them."""

from collections import Counter
from copy import copy
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import torch
from tqdm import tqdm

from riffusion.diffusion import model
from riffusion.diffusion.sampling import Settings, reconstruct_images
from riffusion.painting import run
from riffusion.painting.dataset_items import Item, ItemAudio, PaintedItem, read_items
from riffusion.painting.long_song import Painter, unedited_images
from riffusion.painting.measurements import Verdict
from riffusion.painting.options import PaintOptions
from riffusion.painting.paint_items import ItemRequest, paint_items
from riffusion.painting.retries import plan_rounds
from riffusion.pairs.dataset import held_out_split, load_splits
from riffusion.pairs.instructions import asked_stem
from riffusion.util.errors import UserError
from riffusion.util.runtime import keep_freed_memory

AUTOENCODED, ANOTHER = "oracle through the autoencoder", "true part of another song"  # control rows


def held_out_pairs(dataset_id: str | Path) -> datasets.Dataset:
    """A folder's held-out pairs, or all there are, in a random order that is the same every time."""
    splits = load_splits(str(dataset_id))
    return (held_out_split(splits) or next(iter(splits.values()))).shuffle(seed=0)


def held_out_items(dataset_id: str | Path, most: int, target: str) -> list[Item]:
    """A folder's first held-out items. Raises UserError if they aren't of that target."""
    pairs = held_out_pairs(dataset_id)
    return items_of_target(pairs.select(range(min(most, len(pairs)))), target)


def items_of_target(pairs: datasets.Dataset, target: str) -> list[Item]:
    """Some pairs as items. Raises UserError if they aren't of that target."""
    items = read_items(pairs)
    if items[0].target != target:
        raise UserError(f"the pairs' target is {items[0].target!r}, the model's is {target!r}")
    return items


def spread_over_songs(rows: list[int], songs: list[str]) -> list[int]:
    """Rows of a dataset so ordered that every song has its turn before a second row of any; `songs` are all rows'."""
    seen: Counter[str] = Counter()
    turns = []
    for row in rows:
        seen[songs[row]] += 1
        turns.append(seen[songs[row]])
    return [rows[place] for place in np.argsort(turns, kind="stable")]


def open_audio(items: list[Item], painter: Painter) -> list[ItemAudio]:
    """The inputs of some items as sound."""
    return [
        ItemAudio(item, painter.converter, *unedited_images([item.original], painter))
        for item in tqdm(items, desc="inputs as sound")
    ]


def load_painter(model_id: str, batch_size: int) -> Painter:
    """A model on the CPU, in float32."""
    keep_freed_memory()
    options = PaintOptions(model_id=model_id, batch_size=batch_size, precision="fp32")
    return run.load_painter(options, model.load_facts(model_id), torch.device("cpu"))


def control_rows(audios: list[ItemAudio], target: str) -> dict[str, list[PaintedItem]]:
    """What known pictures paint over every item, by their names."""
    rows: dict[str, list[PaintedItem]] = {}
    for audio in tqdm(audios, desc="control rows"):
        for name, painted in audio.controls(target).items():
            rows.setdefault(name, []).append(painted)
    return rows


def more_controls(audios: list[ItemAudio], painter: Painter) -> dict[str, list[PaintedItem]]:
    """`control_rows`, and beside them the references through the model's autoencoder and, where pictures show stems,
    another song's true part of the same kind (over fewer items, if there is but one song)."""
    rows = control_rows(audios, painter.target)
    for place, audio in enumerate(tqdm(audios, desc="more control rows")):
        item = audio.item
        (through,) = reconstruct_images(painter.pipeline, [item.reference])
        before = audio.unedited if item.target == "mix" else item.original
        rows.setdefault(AUTOENCODED, []).append(audio.measured(before, through, item.target))
        others = [one.item for one in audios[place + 1 :] + audios[:place]]
        stem = asked_stem(item.prompt)
        strange = (one for one in others if one.song != item.song and asked_stem(one.prompt) == stem)
        other = next(strange, None)
        if other is not None and item.target == "stem":
            moved = audio.measured(item.original, other.reference, "stem")
            rows.setdefault(ANOTHER, []).append(of_song(moved, other.song))
    return rows


def of_song(painted: PaintedItem, song: str) -> PaintedItem:
    """The same part, said to come from a song."""
    audio = copy(painted.audio)
    audio.item = replace(audio.item, song=song)
    return replace(painted, audio=audio)


def paint(
    audios: list[ItemAudio],
    painter: Painter,
    settings: Settings,
    prompt: str | None = None,
    noises: list[str] | None = None,
) -> list[PaintedItem]:
    """What the model paints over every item, by its own instruction and noise unless others are given."""
    names = noises or [audio.item.sha256 for audio in audios]
    requests = [
        ItemRequest(audio, prompt or audio.item.prompt, name) for audio, name in zip(audios, names, strict=True)
    ]
    label = f"{settings.num_inference_steps} steps of {settings.scheduler}, seed {settings.seed}"
    with tqdm(total=len(audios) * settings.num_inference_steps, unit="step", desc=label) as bar:
        return paint_items(requests, settings, painter, bar)


def paint_again(painted: list[PaintedItem], painter: Painter, settings: Settings, retries: int) -> list[PaintedItem]:
    """The same, with those that failed painted anew, as `--retries` of the inference script does it."""
    kept = list(painted)
    for (attempt,) in plan_rounds(settings, 1, retries)[1:]:
        failed = [place for place, one in enumerate(kept) if one.measured.verdict is Verdict.FAILED]
        audios = [kept[place].audio for place in failed]
        noises = [attempt.noise_name(audio.item.sha256) for audio in audios]
        for place, one in zip(failed, paint(audios, painter, attempt.settings, noises=noises), strict=True):
            kept[place] = one
    return kept
