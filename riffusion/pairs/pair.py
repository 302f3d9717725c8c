"""The record of one pair: two pictures, three texts and the facts they were made from, as files."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from riffusion.util.files import write_atomically

TARGETS = ("mix", "stem")  # the edited picture is backing + stem, or the painted stem alone
METADATA = "metadata.jsonl"
PAIR_PICTURES = ("original_image", "edited_image")  # columns
PAIR_TEXTS = ("edit_prompt",)


@dataclass(frozen=True)
class Pair:
    """One training example: two pictures on one scale, three texts, and the facts they were made from.

    File names are relative to the folder of `metadata.jsonl`; `datasets` turns them into the image columns
    `original_image` and `edited_image`, and several pairs may share a picture. `gain` was applied to all signals,
    `max_value` is black in both pictures. `level_db` is the painted stem's over what else is heard, `changed_share`
    that of the pixels which it changes; both, and what follows, are the stem's own as `riffusion.pairs.features` says.
    """

    original_image_file_name: str
    edited_image_file_name: str
    original_prompt: str
    edit_prompt: str
    edited_prompt: str
    song: str
    clip: int
    start_seconds: float
    semitones: int
    backing_stems: str
    painted_stem: str  # "" where nothing is painted
    task: str
    target: str
    gain: float
    max_value: float
    changed_share: float
    level_db: float
    median_f0_hz: float
    note_seconds: float
    events_per_second: float


def write_records(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs as JSON lines."""
    write_atomically(path, "".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))
