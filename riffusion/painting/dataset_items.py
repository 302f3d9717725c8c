"""Dataset items: pictures without sound of their own, their sound, and what is measured of what is painted there."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from riffusion.image import CHANGED_GREY, grey_levels, spectrogram_from_image
from riffusion.painting.measurements import Measurements
from riffusion.painting.metrics import StemAnalysis, analyse_stem
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

if TYPE_CHECKING:
    import datasets


@dataclass
class Item:
    """A dataset's record: a picture, its reference (the picture that it should become), and the instruction.

    `target` says what the reference shows: "mix" or "stem". A picture by itself has no reference.
    """

    name: str
    title: str
    original: Image.Image
    reference: Image.Image | None
    prompt: str
    task: Task
    target: str
    song: str = ""

    @cached_property
    def sha256(self) -> str:
        """Digest of the original's pixels, which identifies the input wherever it stands in a dataset."""
        return hashlib.sha256(self.original.tobytes()).hexdigest()

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the pixels of its pictures, as result.json has them."""
        digests = {"input_sha256": self.sha256}
        if self.reference is not None:
            digests["target_sha256"] = hashlib.sha256(self.reference.tobytes()).hexdigest()
        return digests

    @property
    def truth(self) -> Image.Image:
        """The reference, where there has to be one. Raises UserError if there is none."""
        if self.reference is None:
            raise UserError(f"{self.name} has no edited_image to compare with")
        return self.reference

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
        """Mel amplitudes (1, bands, frames) of the original, of what is painted, of its stem and of any reference.

        `before` and `after` are what the model makes of the input unedited and edited; `target` says what it shows.
        """
        original, unedited, edited = (self.mel(picture).numpy() for picture in (self.original, before, after))
        stem, painted = edited, edited
        if target == "mix":
            stem = np.maximum(self.task.stem_of_change(unedited, edited - unedited), 0)
        else:
            painted = np.maximum(self.task.apply(original, stem), 0)
        shown = {"original": original, "painted": painted, "stem": stem}
        if self.reference is not None:
            reference = self.mel(self.reference).numpy()
            is_stem = self.target == "stem"
            shown["target"] = np.maximum(self.task.apply(original, reference), 0) if is_stem else reference
        return shown

    def control_pictures(self, target: str) -> dict[str, tuple[Image.Image, str]]:
        """Pictures that show what measurements are worth, and what they show: the input itself, and the reference.

        A model that answers with its input takes that for what `target` says.
        """
        known = {"copy the input": (self.original, target)}
        return known if self.reference is None else known | {"oracle": (self.reference, self.target)}

    def outside(self, before: Image.Image, after: Image.Image, target: str) -> float | None:
        """How far a painted picture is from the input, or that of a stem from silence, where nothing was to change.

        In grey levels, root mean square, over the pixels in which the true pictures differ by less than
        `CHANGED_GREY`; None without a reference.
        """
        if self.reference is None:
            return None
        pictures = (self.original, self.reference, before, after)
        original, reference, unedited, edited = (grey_levels(picture).astype(np.float32) for picture in pictures)
        silence = np.full_like(edited, 255)
        untouched = np.abs(reference - (original if self.target == "mix" else silence)) < CHANGED_GREY
        distance = edited - (unedited if target == "mix" else silence)
        return float(np.sqrt(np.square(distance[untouched]).mean())) if untouched.any() else 0.0


def read_items(
    records: "datasets.Dataset",
    task: Task | None = None,
    numbers: Sequence[int] | None = None,
    prompts: Sequence[str] = (),
) -> list[Item]:
    """The items of a dataset; `numbers` are those of its records, else they are counted from 0.

    With `prompts` each record makes an item for each of them, instead of one with its own instruction. Without `task` a
    record says what is done with the painted stem, or its instruction. Raises UserError if there is none, if one lacks
    something, or if their pictures aren't all of one size.
    """
    from datasets import Image as Picture

    from riffusion.pairs.dataset import dataset_target, undecoded

    if not len(records):
        raise UserError("the dataset has no samples")
    target = dataset_target(records)
    columns = [column for column in PAIR_PICTURES if column in records.column_names]
    pictures = {column: undecoded(records, column) for column in columns}
    facts = records.remove_columns([name for name, kind in records.features.items() if isinstance(kind, Picture)])
    items: list[Item] = []
    for row, number in enumerate(range(len(records)) if numbers is None else numbers):
        name, record = f"sample-{number:03d}", facts[row] if facts.column_names else {}
        original, *references = read_pictures(name, {column: rows[row][column] for column, rows in pictures.items()})
        for picture in (original, *references):
            if picture.size != (items[0].original if items else original).size:
                raise UserError(f"{name} of the dataset has a picture of another size: {picture.size}")
        for prompt in prompts or [own_prompt(name, record)]:
            asked = task or (read_task(prompt) if prompts else own_or_read_task(record, f"{name} of the dataset"))
            title, song = title_of(name, record), record.get("song") or ""
            items.append(Item(name, title, original, next(iter(references), None), prompt, asked, target, song))
    return items


def picture_items(paths: Sequence[Path], prompts: Sequence[str], task: Task | None = None) -> list[Item]:
    """Pictures of spectrograms by themselves as items, one for each prompt.

    Raises UserError if one can't be read, or if they aren't all of one size, as high as a spectrogram is.
    """
    items: list[Item] = []
    for path in paths:
        picture = read_picture({"path": str(path), "bytes": None}).convert("RGB")
        bands = SpectrogramParams.from_exif(picture.getexif()).num_frequencies
        if picture.height != bands:
            raise UserError(f"{path}: is {picture.height} pixels high, where a spectrogram has {bands}")
        if items and picture.size != items[0].original.size:
            raise UserError(f"{path}: is of another size than {paths[0]}: {picture.size}; paint it by itself")
        for prompt in prompts:
            items.append(Item(path.stem, path.stem, picture, None, prompt, task or read_task(prompt), "stem"))
    return items


def read_pictures(name: str, pictures: dict[str, dict]) -> list[Image.Image]:
    """A record's pictures, given undecoded. Raises UserError if it lacks one."""
    missing = [column for column, value in pictures.items() if value is None]
    if missing:
        raise UserError(f"{name} of the dataset has no {' and no '.join(missing)}")
    return [read_picture(file, f"{name} of the dataset: {column}") for column, file in pictures.items()]


def own_prompt(name: str, record: dict) -> str:
    """A record's instruction. Raises UserError if it has none."""
    if record.get("edit_prompt") is None:
        raise UserError(f"{name} of the dataset has no edit_prompt; pass --prompt")
    return record["edit_prompt"]


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
    outside_grey: float | None  # `Item.outside`

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
        """The sound (1, samples) of the original, of what is painted with a stem, of that stem and of any reference."""
        signals = {"original": self.backing, "painted": self.edited(stem), "stem": stem}
        if self.item.reference is not None:
            true = self.stem(self.item.original, self.item.reference, self.item.target)
            signals["target"] = self.edited(true)
        return signals

    def edited(self, stem: Tensor) -> Tensor:
        """What is heard after the edit (1, samples)."""
        return torch.from_numpy(self.item.task.apply(self.backing.numpy(), stem.numpy()))
