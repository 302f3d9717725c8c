"""Datasets of pairs: a preprocessed folder, Parquet files or a name on the Hub."""

import csv
import functools
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import datasets

from riffusion import hub
from riffusion.errors import UserError
from riffusion.instructions import MUSDB_LABELS
from riffusion.pair import METADATA

SPLIT_OF_SUBSET = {"train": "train", "valid": "validation", "test": "test"}  # as `datasets` names MUSDB18's subsets


def load_splits(name: str, cache_dir: Path | None = None) -> datasets.DatasetDict:
    """Pairs by split, from a preprocessed folder (by MUSDB18's own lists), a folder of Parquet files or the Hub.

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
            return split_by_song(datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=cache))
        return datasets.load_dataset(name, cache_dir=cache)
    except hub.HUB_ERRORS as error:
        if folder.is_dir():
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{folder}: holds no pairs; make them with preprocess_musdb.py ({reason})") from error
        raise UserError(
            f"dataset {name!r} is not a folder here and the Hub can't be reached or doesn't have it; "
            "pass a folder that preprocess_musdb.py wrote"
        ) from error


def split_by_song(splits: datasets.DatasetDict) -> datasets.DatasetDict:
    """The same pairs with every MUSDB18 song in the split that MUSDB18 has it in; other songs stay where they are."""
    columns = {column for split in splits.values() for column in split.column_names}
    homes = musdb18_splits()
    parts: dict[str, list[datasets.Dataset]] = {name: [] for name in (*homes.values(), *splits)}
    for name, split in splits.items():
        songs = split["song"] if "song" in columns else [None] * len(split)
        rows: dict[str, list[int]] = defaultdict(list)
        for row, song in enumerate(songs):
            rows[homes.get(song, name)].append(row)
        for home, chosen in rows.items():
            parts[home].append(split if len(chosen) == len(split) else split.select(chosen))
    order = sorted(parts, key=lambda name: (*SPLIT_OF_SUBSET.values(), name).index(name))
    return datasets.DatasetDict({name: datasets.concatenate_datasets(parts[name]) for name in order if parts[name]})


@functools.cache
def musdb18_splits() -> dict[str, str]:
    """MUSDB18's 150 songs and the split of each: 86 train, 14 validation, 50 test."""
    with MUSDB_LABELS.open(encoding="utf-8", newline="") as file:
        return {row["track"]: SPLIT_OF_SUBSET[row["subset"]] for row in csv.DictReader(file, delimiter="\t")}


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


def identify_picture(picture: dict) -> tuple[int, bytes]:
    """Size in bytes, and what changes with the picture: its bytes if it has them, else its file's size and time.

    `picture` is an undecoded `datasets.Image`. A folder may be moved: of a path its last two names count. Raises
    UserError if the file is missing.
    """
    if picture["bytes"] is not None:
        return len(picture["bytes"]), picture["bytes"]
    file = Path(picture["path"])
    try:
        status = file.stat()
    except OSError as error:
        raise UserError(f"{file}: can't read this picture ({error.strerror})") from error
    return status.st_size, f"{file.parent.name}/{file.name} {status.st_size} {status.st_mtime_ns}".encode()
