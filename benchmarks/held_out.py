"""Held-out pairs, and what a model paints over them."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from riffusion.diffusion import model
from riffusion.diffusion.sampling import Settings, edit_images, reconstruct_images
from riffusion.painting.dataset_items import OUTSIDE, Sample, Sounding, read_samples
from riffusion.painting.long_song import Painter, unedited_images
from riffusion.painting.metrics import Measured
from riffusion.painting.retries import plan_rounds
from riffusion.pairs.dataset import held_out_split, load_splits
from riffusion.pairs.instructions import asked_stem
from riffusion.pairs.tasks import Task
from riffusion.spectrogram import SpectrogramConverter
from riffusion.util.errors import UserError
from riffusion.util.runtime import keep_freed_memory

AUTOENCODED, ANOTHER = "oracle through the autoencoder", "true part of another song"  # control rows


def held_out_pairs(dataset_id: str | Path) -> datasets.Dataset:
    """A folder's held-out pairs, or all there are, in a random order that is the same every time."""
    splits = load_splits(str(dataset_id))
    return (held_out_split(splits) or next(iter(splits.values()))).shuffle(seed=0)


def held_out_samples(dataset_id: str | Path, most: int, target: str) -> list[Sample]:
    """A folder's first held-out samples. Raises UserError if they aren't of that target."""
    pairs = held_out_pairs(dataset_id)
    return read_target(pairs.select(range(min(most, len(pairs)))), target)


def read_target(pairs: datasets.Dataset, target: str) -> list[Sample]:
    """Some pairs as samples. Raises UserError if they aren't of that target."""
    samples = read_samples(pairs, None)
    if samples[0].target != target:
        raise UserError(f"the pairs' target is {samples[0].target!r}, the model's is {target!r}")
    return samples


def spread_over_songs(rows: list[int], songs: list[str]) -> list[int]:
    """Rows of a dataset so ordered that every song has its turn before a second row of any; `songs` are all rows'."""
    seen: Counter[str] = Counter()
    turns = []
    for row in rows:
        seen[songs[row]] += 1
        turns.append(seen[songs[row]])
    return [rows[place] for place in np.argsort(turns, kind="stable")]


def sound_inputs(samples: list[Sample], painter: Painter) -> list[Sounding]:
    """The inputs of some samples as sound."""
    return [Sounding(sample, painter.converter) for sample in tqdm(samples, desc="sounding the inputs")]


def load_painter(model_id: str, batch_size: int) -> Painter:
    """A model on the CPU, in float32."""
    keep_freed_memory()
    facts = model.load_facts(model_id)
    pipeline = model.load_pipeline(model_id, "cpu", torch.float32)
    return Painter(pipeline, SpectrogramConverter(facts.params), facts.target, batch_size)


@dataclass
class Answer:
    """What was painted over a sample: the model's picture, its stem as sound (samples,), and what was measured."""

    sounding: Sounding
    picture: Image.Image
    stem: np.ndarray
    measured: Measured
    outside: float
    song: str = ""  # that the part comes from, if it is another one's

    @property
    def task(self) -> Task:
        """What the sample's instruction asks for."""
        return self.sounding.sample.task

    @property
    def performed(self) -> bool | None:
        """Whether the edit was performed, None if that can't be told."""
        return self.measured.performed(self.task, asked_stem(self.sounding.sample.prompt))

    def row(self) -> dict[str, object]:
        """As `riffusion.painting.results.summarise` reads it."""
        return self.measured.row(self.task, asked_stem(self.sounding.sample.prompt)) | {OUTSIDE: self.outside}


def answer(sounding: Sounding, before: Image.Image, picture: Image.Image, target: str) -> Answer:
    """Sound and measurements of a picture that answers a sample; `before` is what the input is without any edit."""
    stem = sounding.stem(before, picture, target)
    outside = sounding.sample.outside(before, picture, target)
    return Answer(sounding, picture, stem[0].numpy(), sounding.measured(stem), outside)


def control_answers(soundings: list[Sounding], target: str) -> dict[str, list[Answer]]:
    """The answers that are known to every sample, by what answers so."""
    answers: dict[str, list[Answer]] = {}
    for sounding in tqdm(soundings, desc="control rows"):
        for name, (picture, shown) in sounding.sample.known_answers(target).items():
            answers.setdefault(name, []).append(answer(sounding, sounding.sample.original, picture, shown))
    return answers


def more_controls(soundings: list[Sounding], painter: Painter) -> dict[str, list[Answer]]:
    """`control_answers`, and beside them the true answers through the model's autoencoder and, where pictures show
    stems, another song's true part of the same kind (answers to fewer samples, if there is but one song)."""
    answers = control_answers(soundings, painter.target)
    for place, sounding in enumerate(tqdm(soundings, desc="more control rows")):
        sample = sounding.sample
        (through,) = reconstruct_images(painter.pipeline, [sample.edited])
        before = unedited_images([sample.original], painter)[0] if sample.target == "mix" else sample.original
        answers.setdefault(AUTOENCODED, []).append(answer(sounding, before, through, sample.target))
        others = [one.sample for one in soundings[place + 1 :] + soundings[:place]]
        stem = asked_stem(sample.prompt)
        strange = (one for one in others if one.song != sample.song and asked_stem(one.prompt) == stem)
        other = next(strange, None)
        if other is not None and sample.target == "stem":
            moved = answer(sounding, sample.original, other.edited, "stem")
            answers.setdefault(ANOTHER, []).append(replace(moved, song=other.song))
    return answers


def paint(
    soundings: list[Sounding],
    painter: Painter,
    settings: Settings,
    prompt: str | None = None,
    noises: list[str] | None = None,
) -> list[Answer]:
    """The model's answer to every sample, by its own instruction and noise unless others are given."""
    names = noises or [sounding.sample.sha256 for sounding in soundings]
    answers = []
    label = f"{settings.num_inference_steps} steps of {settings.scheduler}, seed {settings.seed}"
    with tqdm(total=len(soundings) * settings.num_inference_steps, unit="step", desc=label) as bar:
        for first in range(0, len(soundings), painter.batch_size):
            batch = soundings[first : first + painter.batch_size]
            originals = [sounding.sample.original for sounding in batch]
            prompts = [prompt or sounding.sample.prompt for sounding in batch]
            own_names = names[first : first + len(batch)]
            unedited = unedited_images(originals, painter)
            painted = edit_images(painter.pipeline, originals, prompts, own_names, settings, bar)
            parts = zip(batch, unedited, painted, strict=True)
            answers += [answer(sounding, before, picture, painter.target) for sounding, before, picture in parts]
    return answers


def paint_again(answers: list[Answer], painter: Painter, settings: Settings, retries: int) -> list[Answer]:
    """The answers with those that failed painted anew, as `--retries` of the inference script does it."""
    kept = list(answers)
    for (attempt,) in plan_rounds(settings, 1, retries)[1:]:
        failed = [place for place, one in enumerate(kept) if one.performed is False]
        soundings = [kept[place].sounding for place in failed]
        noises = [attempt.noise_name(sounding.sample.sha256) for sounding in soundings]
        for place, one in zip(failed, paint(soundings, painter, attempt.settings, noises=noises), strict=True):
            kept[place] = one
    return kept
