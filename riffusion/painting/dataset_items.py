"""A dataset's samples: pictures without sound of their own, how they sound, and what is measured of them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from riffusion.image import CHANGED_GREY, grey_levels, spectrogram_from_image
from riffusion.painting.metrics import Measured, measure_stem
from riffusion.pairs.dataset import dataset_target, undecoded
from riffusion.pairs.instructions import asked_stem
from riffusion.pairs.pair import PAIR_PICTURES
from riffusion.pairs.picture_file import read_picture
from riffusion.pairs.task_words import read_task
from riffusion.pairs.tasks import Task, task_named
from riffusion.phase import painted_stem, waveform_from_mel_amplitudes
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams, max_value_from_exif
from riffusion.util.errors import UserError

OUTSIDE = "outside, grey levels"  # `Sample.outside` in tables


@dataclass
class Sample:
    """A picture, the picture that it should become, and the instruction; `target` says what the latter shows."""

    name: str
    title: str
    original: Image.Image
    edited: Image.Image
    prompt: str
    task: Task
    target: str
    song: str = ""

    @cached_property
    def sha256(self) -> str:
        """What tells this input from others, wherever it stands in a dataset."""
        return hashlib.sha256(self.original.tobytes()).hexdigest()

    @property
    def target_sha256(self) -> str:
        """The same of the picture that it should become."""
        return hashlib.sha256(self.edited.tobytes()).hexdigest()

    @property
    def params(self) -> SpectrogramParams:
        """How its pictures are drawn."""
        return SpectrogramParams.from_exif(self.original.getexif())

    @property
    def max_value(self) -> float | None:
        """The amplitude of black for sound in [-1, 1], None if the dataset doesn't say: nobody knows how loud it is."""
        return max_value_from_exif(self.original.getexif())

    def mel(self, picture: Image.Image) -> Tensor:
        """Mel amplitudes (1, bands, frames) of one of its pictures, on their common scale."""
        channels = spectrogram_from_image(picture, self.params, float(self.max_value or 1.0))
        return torch.from_numpy(channels.mean(axis=0, keepdims=True))

    def shown(self, before: Image.Image, after: Image.Image, target: str) -> dict[str, np.ndarray]:
        """Mel amplitudes (1, bands, frames) of the input, of a model's answer, of its stem and of the true answer.

        `before` and `after` are what the model makes of the input unedited and edited; `target` says what it shows.
        """
        mels = [self.mel(picture).numpy() for picture in (self.original, before, after, self.edited)]
        original, unedited, answer, true = mels
        stem, result = answer, answer
        if target == "mix":
            stem = np.maximum(self.task.stem_of_change(unedited, answer - unedited), 0)
        else:
            result = np.maximum(self.task.apply(original, stem), 0)
        if self.target == "stem":
            true = np.maximum(self.task.apply(original, true), 0)
        return {"original": original, "painted": result, "stem": stem, "target": true}

    def known_answers(self, target: str) -> dict[str, tuple[Image.Image, str]]:
        """Answers that tell what a measurement is worth, and what they show: its own picture, and the true one.

        A model that answers with its input takes that for what `target` says.
        """
        return {"copy the input": (self.original, target), "oracle": (self.edited, self.target)}

    def outside(self, before: Image.Image, after: Image.Image, target: str) -> float:
        """How far a model's answer is from the input, or of a stem from silence, where nothing was to be painted.

        In grey levels, root mean square. That is where the true pictures differ by less than `CHANGED_GREY`.
        """
        levels = [grey_levels(picture).astype(np.float32) for picture in (self.original, self.edited, before, after)]
        original, edited, unedited, answer = levels
        silence = np.full_like(answer, 255)
        untouched = np.abs(edited - (original if self.target == "mix" else silence)) < CHANGED_GREY
        distance = answer - (unedited if target == "mix" else silence)
        return float(np.sqrt(np.square(distance[untouched]).mean())) if untouched.any() else 0.0


def read_samples(records: datasets.Dataset, task: Task | None = None) -> list[Sample]:
    """The samples of a dataset. Without `task` a record says what becomes of the painted stem, or its instruction.

    Raises UserError if there is none, if one lacks something, or if their pictures aren't all of one size.
    """
    if not len(records):
        raise UserError("the dataset has no samples")
    target = dataset_target(records)
    pictures = {column: undecoded(records, column) for column in PAIR_PICTURES}
    facts = records.remove_columns(
        [name for name, kind in records.features.items() if isinstance(kind, datasets.Image)]
    )
    samples: list[Sample] = []
    for number, record in enumerate(facts):
        title = name = f"sample-{number:03d}"
        if record.get("song"):
            title += f": {record['song']}"
        if record.get("start_seconds") is not None:
            title += f", {record['start_seconds']:.1f} s"
        files = {column: rows[number][column] for column, rows in pictures.items()}
        missing = [column for column, value in {**files, "edit_prompt": record["edit_prompt"]}.items() if value is None]
        if missing:
            raise UserError(f"{name} of the dataset has no {' and no '.join(missing)}")
        own_task = task or own_or_read_task(record, f"{name} of the dataset")
        pair = [read_picture(file, f"{name} of the dataset: {column}") for column, file in files.items()]
        for picture in pair:
            if picture.size != (samples[0].original if samples else pair[0]).size:
                raise UserError(f"{name} of the dataset has a picture of another size: {picture.size}")
        facts = record["edit_prompt"], own_task, target, record.get("song") or ""
        samples.append(Sample(name, title, pair[0], pair[1], *facts))
    return samples


def own_or_read_task(record: dict, place: str) -> Task:
    """The task that a record names, or else the one that its instruction asks for. Raises UserError for unknown ones.

    `place` says in errors where the record stands.
    """
    if not record.get("task"):
        return read_task(record["edit_prompt"])
    try:
        return task_named(record["task"])
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


class Sounding:
    """A sample's input as sound, made by Griffin-Lim, and what is painted over it."""

    def __init__(self, sample: Sample, converter: SpectrogramConverter):
        self.sample, self.converter = sample, converter
        self.backing = waveform_from_mel_amplitudes(converter, sample.mel(sample.original)).cpu()

    def stem(self, before: Image.Image, after: Image.Image, target: str) -> Tensor:
        """The stem (1, samples) that an answer paints; `before` is what a picture of the input is without any edit."""
        mels = self.sample.mel(before), self.sample.mel(after)
        change = painted_stem(
            self.converter, self.backing, *mels, target, masking=self.sample.task.takes_from_input
        ).cpu()
        if target == "stem":
            return change
        return torch.from_numpy(self.sample.task.stem_of_change(self.backing.numpy(), change.numpy()))

    def result(self, stem: Tensor) -> Tensor:
        """What is heard after the edit (1, samples)."""
        return torch.from_numpy(self.sample.task.apply(self.backing.numpy(), stem.numpy()))

    def measured(self, stem: Tensor) -> Measured:
        """What is measured of a stem over this input."""
        both = torch.cat([stem, self.backing])
        mels = self.converter.mel_amplitudes_from_waveform(both).cpu().numpy()
        return measure_stem(stem[0].numpy(), mels, self.converter.params.sample_rate)

    def controls(self, target: str) -> dict[str, dict[str, object]]:
        """What the measurements say of answers that are known, on a model's way from picture to sound."""
        sample, rows = self.sample, {}
        for name, (answer, shown) in sample.known_answers(target).items():
            stem = self.stem(sample.original, answer, shown)
            outside = sample.outside(sample.original, answer, shown)
            rows[name] = self.measured(stem).row(sample.task, asked_stem(sample.prompt)) | {OUTSIDE: outside}
        return rows
