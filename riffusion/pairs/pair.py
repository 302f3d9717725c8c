"""The record of one pair: two pictures, three texts and the facts they were made from, as files."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

from riffusion.pairs.features import Features
from riffusion.pairs.instructions import Instruction
from riffusion.pairs.tasks import Edit, task_named
from riffusion.util.files import write_atomically

TARGETS = ("mix", "stem")  # the edited picture is backing + stem, or the painted stem alone
METADATA = "metadata.jsonl"
PAIR_PICTURES = ("original_image", "edited_image")  # columns
PAIR_TEXTS = ("edit_prompt",)


@dataclass(frozen=True)
class ImageFiles:
    """The two pictures by file name, relative to the folder of `metadata.jsonl`; several pairs may share one.

    `datasets` turns the names into the image columns `original_image` and `edited_image`.
    """

    original_image_file_name: str
    edited_image_file_name: str


@dataclass(frozen=True)
class Source:
    """The clip that a pair was made from, and what is heard in its original picture."""

    song: str
    clip: int
    start_seconds: float  # in the song as it was
    semitones: int
    backing_stems: str  # names in order, with ", " between them


@dataclass(frozen=True)
class Scale:
    """What the edited picture shows, and on what scale both are drawn.

    `gain` was applied to all signals, and `max_value` is black in both pictures. `changed_share` is that of the pixels
    which the painted stem changes.
    """

    target: str
    gain: float
    max_value: float
    changed_share: float


Part = TypeVar("Part", ImageFiles, Instruction, Source, Scale)


@dataclass(frozen=True)
class Pair:
    """One training example. Files and datasets hold the fields of all its parts side by side, as columns."""

    images: ImageFiles
    text: Instruction
    source: Source
    edit: Edit
    scale: Scale
    features: Features  # of the painted stem

    def columns(self) -> dict[str, object]:
        """The record as files have it: columns are named like the fields, except for those of the edit."""
        edit = {"painted_stem": self.edit.stem, "task": self.edit.task.name}
        before = asdict(self.images) | asdict(self.text) | asdict(self.source)
        return before | edit | asdict(self.scale) | asdict(self.features)

    @classmethod
    def from_columns(cls, columns: dict) -> "Pair":
        """The inverse of `columns`; a feature that wasn't measured when the record was written has its default.

        Raises KeyError if another column is missing.
        """
        measured = {each.name: columns[each.name] for each in fields(Features) if each.name in columns}
        return cls(
            _part(ImageFiles, columns),
            _part(Instruction, columns),
            _part(Source, columns),
            Edit(task_named(columns["task"]), columns["painted_stem"]),
            _part(Scale, columns),
            Features(**measured),
        )


def _part(kind: type[Part], columns: dict) -> Part:
    """A part of a pair from the columns that are named like its fields."""
    return kind(**{each.name: columns[each.name] for each in fields(kind)})


def write_records(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs as JSON lines."""
    write_atomically(path, "".join(json.dumps(pair.columns()) + "\n" for pair in pairs))


def read_records(path: Path) -> list[Pair]:
    """The pairs that `write_records` wrote."""
    return [Pair.from_columns(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
