"""The record of one pair, and the image folder that holds them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import datasets
from PIL import Image

from riffusion import hub
from riffusion.errors import UserError
from riffusion.report import write_atomically

TARGETS = ("mix", "stem")  # the edited picture is backing + stem, or the painted stem alone
METADATA = "metadata.jsonl"


@dataclass(frozen=True)
class Pair:
    """One training example: two pictures on one scale, three texts, and the facts they were made from.

    File names are relative to the folder of `metadata.jsonl`; `datasets` turns them into the image columns
    `original_image` and `edited_image`. `gain` was applied to both signals, `max_value` is black in both pictures.
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
    painted_stem: str
    task: str
    target: str
    gain: float
    max_value: float


def write_records(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs as JSON lines."""
    write_atomically(path, "".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))


def load_splits(name: str, cache_dir: Path | None = None) -> datasets.DatasetDict:
    """Pairs by split, from a preprocessed folder, a folder of Parquet files or the Hub.

    Raises UserError if they can't be had.
    """
    folder = Path(name)
    if folder.is_absolute() and not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    cache = str(cache_dir) if cache_dir else None
    if not folder.is_dir():
        hub.go_offline_without_network()
    try:
        if folder.is_dir() and any(folder.rglob(METADATA)):
            return datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=cache)
        return datasets.load_dataset(name, cache_dir=cache)
    except hub.HUB_ERRORS as error:
        if folder.is_dir():
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{folder}: holds no pairs; make them with preprocess_musdb.py ({reason})") from error
        raise UserError(
            f"dataset {name!r} is not a folder here and the Hub can't be reached or doesn't have it; "
            "pass a folder that preprocess_musdb.py wrote"
        ) from error


def held_out_split(splits: datasets.DatasetDict) -> datasets.Dataset | None:
    """The validation split, or else the test split, or None."""
    return next((splits[name] for name in ("validation", "test") if name in splits), None)


def require_columns(dataset: datasets.Dataset, columns: Iterable[str]) -> None:
    """Raise UserError if a column is missing."""
    missing = [column for column in columns if column not in dataset.column_names]
    if missing:
        raise UserError(f"the dataset has no column {', '.join(missing)}; it has {', '.join(dataset.column_names)}")


def dataset_target(dataset: datasets.Dataset) -> str:
    """What the edited pictures show: "mix" or "stem"; datasets in the original's form say nothing and hold mixes."""
    return dataset[0]["target"] if "target" in dataset.column_names else "mix"


def save_png(image: Image.Image, path: Path) -> None:
    """Write a lossless picture with its EXIF tags."""
    image.save(path, exif=image.getexif())
