"""Dataset items: pictures without sound of their own, their sound, and what is measured of what is painted there."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from riffusion.image import CHANGED_GREY, grey_levels, spectrogram_from_image
from riffusion.painting.measurements import Measurements
from riffusion.painting.metrics import StemAnalysis, analyse_stem
from riffusion.pairs.dataset import dataset_target, undecoded
from riffusion.pairs.instructions import asked_stem
from riffusion.pairs.pair import PAIR_PICTURES
from riffusion.pairs.picture_file import read_picture
from riffusion.pairs.task_words import read_task
from riffusion.pairs.tasks import Task, task_named
from riffusion.phase import (
    change_from_mix_images,
    stem_by_mask,
    stem_from_image,
    waveform_from_mel_amplitudes,
)
from riffusion.spectrogram import SpectrogramConverter
from riffusion.spectrogram_params import SpectrogramParams, max_value_from_exif
from riffusion.util.errors import UserError


@dataclass
class Item:
    """A dataset's record: a picture, its reference (the picture that it should become), and the instruction.

    `target` says what the reference shows: "mix" or "stem".
    """

    name: str
    title: str
    original: Image.Image
    reference: Image.Image
    prompt: str
    task: Task
    target: str
    song: str = ""

    @cached_property
    def sha256(self) -> str:
        """Digest of the original's pixels, which identifies the input wherever it stands in a dataset."""
        return hashlib.sha256(self.original.tobytes()).hexdigest()

    @property
    def reference_sha256(self) -> str:
        """Digest of the reference's pixels."""
        return hashlib.sha256(self.reference.tobytes()).hexdigest()

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
        """Mel amplitudes (1, bands, frames) of the original, of what is painted, of its stem and of the reference.

        `before` and `after` are what the model makes of the input unedited and edited; `target` says what it shows.
        """
        pictures = (self.original, before, after, self.reference)
        original, unedited, edited, reference = (self.mel(picture).numpy() for picture in pictures)
        stem, painted = edited, edited
        if target == "mix":
            stem = np.maximum(self.task.stem_of_change(unedited, edited - unedited), 0)
        else:
            painted = np.maximum(self.task.apply(original, stem), 0)
        if self.target == "stem":
            reference = np.maximum(self.task.apply(original, reference), 0)
        return {"original": original, "painted": painted, "stem": stem, "target": reference}

    def control_pictures(self, target: str) -> dict[str, tuple[Image.Image, str]]:
        """Pictures that show what measurements are worth, and what they show: the input itself, and the reference.

        A model that answers with its input takes that for what `target` says.
        """
        return {"copy the input": (self.original, target), "oracle": (self.reference, self.target)}

    def outside(self, before: Image.Image, after: Image.Image, target: str) -> float:
        """How far a painted picture is from the input, or that of a stem from silence, where nothing was to change.

        In grey levels, root mean square, over the pixels in which the true pictures differ by less than
        `CHANGED_GREY`.
        """
        pictures = (self.original, self.reference, before, after)
        original, reference, unedited, edited = (grey_levels(picture).astype(np.float32) for picture in pictures)
        silence = np.full_like(edited, 255)
        untouched = np.abs(reference - (original if self.target == "mix" else silence)) < CHANGED_GREY
        distance = edited - (unedited if target == "mix" else silence)
        return float(np.sqrt(np.square(distance[untouched]).mean())) if untouched.any() else 0.0


def read_items(records: datasets.Dataset, task: Task | None = None) -> list[Item]:
    """The items of a dataset. Without `task` a record says what is done with the painted stem, or its instruction.

    Raises UserError if there is none, if one lacks something, or if their pictures aren't all of one size.
    """
    if not len(records):
        raise UserError("the dataset has no samples")
    target = dataset_target(records)
    pictures = {column: undecoded(records, column) for column in PAIR_PICTURES}
    facts = records.remove_columns(
        [name for name, kind in records.features.items() if isinstance(kind, datasets.Image)]
    )
    items: list[Item] = []
    for number, record in enumerate(facts):
        name = f"sample-{number:03d}"
        original, reference = read_pair(
            name, record, {column: rows[number][column] for column, rows in pictures.items()}
        )
        for picture in (original, reference):
            if picture.size != (items[0].original if items else original).size:
                raise UserError(f"{name} of the dataset has a picture of another size: {picture.size}")
        prompt, own_task = record["edit_prompt"], task or own_or_read_task(record, f"{name} of the dataset")
        song = record.get("song") or ""
        items.append(Item(name, title_of(name, record), original, reference, prompt, own_task, target, song))
    return items


def read_pair(name: str, record: dict, pictures: dict[str, dict]) -> list[Image.Image]:
    """A record's two pictures, given undecoded. Raises UserError if it lacks one, or its instruction."""
    needed = {**pictures, "edit_prompt": record["edit_prompt"]}
    missing = [column for column, value in needed.items() if value is None]
    if missing:
        raise UserError(f"{name} of the dataset has no {' and no '.join(missing)}")
    return [read_picture(file, f"{name} of the dataset: {column}") for column, file in pictures.items()]


def title_of(name: str, record: dict) -> str:
    """An item's heading: its name, its song, and where in the song it begins."""
    song = f": {record['song']}" if record.get("song") else ""
    start = f", {record['start_seconds']:.1f} s" if record.get("start_seconds") is not None else ""
    return f"{name}{song}{start}"


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


@dataclass(frozen=True)
class PaintedItem:
    """What was painted over an item: the picture, its stem as sound (1, samples), and what was measured of it."""

    audio: "ItemAudio"
    picture: Image.Image
    stem: Tensor
    analysis: StemAnalysis
    outside_grey: float  # `Item.outside`

    @property
    def measured(self) -> Measurements:
        """The record of what was measured, for the item's task and the stem that it asks for."""
        item = self.audio.item
        measured = self.analysis.measurements(item.task, asked_stem(item.prompt))
        return replace(measured, outside_grey=self.outside_grey)


class ItemAudio:
    """An item's input as sound, made by Griffin-Lim, and what is painted over it.

    `backing` is float32 (1, samples). `unedited` is what the model makes of the input when it changes nothing.
    """

    def __init__(self, item: Item, converter: SpectrogramConverter, unedited: Image.Image | None = None):
        self.item, self.converter, self.unedited = item, converter, unedited or item.original
        self.backing = waveform_from_mel_amplitudes(converter, item.mel(item.original)).cpu()

    def stem(self, before: Image.Image, after: Image.Image, target: str) -> Tensor:
        """The stem (1, samples) that a picture paints; `before` is what a picture of the input is without any edit."""
        backing, edited, task = self.backing, self.item.mel(after), self.item.task
        if target == "mix":
            change = change_from_mix_images(self.converter, backing, self.item.mel(before), edited).cpu()
            return torch.from_numpy(task.stem_of_change(backing.numpy(), change.numpy()))
        stem_of = stem_by_mask if task.takes_from_input else stem_from_image
        return stem_of(self.converter, backing, edited).cpu()

    def painted(self, picture: Image.Image, target: str) -> PaintedItem:
        """What a model's picture of this `target` paints."""
        return self.measured(self.unedited, picture, target)

    def measured(self, before: Image.Image, after: Image.Image, target: str) -> PaintedItem:
        """What a picture paints; `before` is what a picture of the input is without any edit."""
        stem = self.stem(before, after, target)
        mels = self.converter.mel_amplitudes_from_waveform(torch.cat([stem, self.backing])).cpu().numpy()
        analysis = analyse_stem(stem[0].numpy(), mels, self.converter.params.sample_rate)
        return PaintedItem(self, after, stem, analysis, self.item.outside(before, after, target))

    def controls(self, target: str) -> dict[str, PaintedItem]:
        """What known pictures paint, on a model's way from picture to sound."""
        pictures = self.item.control_pictures(target)
        return {name: self.measured(self.item.original, *shown) for name, shown in pictures.items()}

    def signals(self, stem: Tensor) -> dict[str, Tensor]:
        """The sound (1, samples) of the original, of what is painted with a stem, of that stem and of the reference."""
        true = self.stem(self.item.original, self.item.reference, self.item.target)
        return {"original": self.backing, "painted": self.edited(stem), "stem": stem, "target": self.edited(true)}

    def edited(self, stem: Tensor) -> Tensor:
        """What is heard after the edit (1, samples)."""
        return torch.from_numpy(self.item.task.apply(self.backing.numpy(), stem.numpy()))
