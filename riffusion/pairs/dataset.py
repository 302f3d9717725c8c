"""Datasets of pairs: a preprocessed folder, Parquet files or a name on the Hub."""

import atexit
import csv
import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from riffusion.pairs.instructions import MUSDB_LABELS
from riffusion.pairs.pair import METADATA
from riffusion.pairs.pair_folder import SPLIT_WORDS, Listing, Reader, is_plain, list_metadata, make_link, read_tables
from riffusion.pairs.picture_file import read_picture
from riffusion.util import files, hub, names
from riffusion.util.errors import UserError

LOAD_ERRORS = (*hub.HUB_ERRORS, datasets.exceptions.DatasetsError)
LINKS = "links"  # folder of the cache
ROWS_AT_ONCE = 1000  # in a batch of an Arrow file
DATA_ENDINGS = (".parquet", ".arrow", ".csv", ".zip", ".tar")  # of files that may hold records
PATTERN = frozenset("*?[]!{}\n\r")  # letters that make a path a pattern, or aren't found by one
SPLIT_OF_SUBSET = {"train": "train", "valid": "validation", "test": "test"}  # as `datasets` names MUSDB18's subsets


def load_splits(
    name: str, cache_dir: Path | None = None, pictures: Sequence[str] = (), texts: Sequence[str] = ()
) -> datasets.DatasetDict:
    """Pairs by split, from a preprocessed folder (by MUSDB18's own lists), a folder of Parquet files or the Hub.

    A folder may also be what the original project's preprocessing wrote. Where it has records in metadata.jsonl, each
    must have these columns. Raises UserError if the pairs can't be had.
    """
    folder = Path(name)
    if folder.is_dir():
        folder = folder.absolute()
        cache = writable_cache(cache_dir)
        listing = list_metadata(folder)
        if listing.files:
            return read_pairs(folder, listing, Reader(pictures, texts, cache / LINKS), cache)
        return load_files(folder, cache)
    if folder.is_absolute() or folder.exists():
        raise UserError(f"{folder}: {'is a file; pass its folder' if folder.exists() else 'no such folder'}")
    hub.go_offline_without_network()
    try:
        return datasets.load_dataset(name, cache_dir=str(writable_cache(cache_dir)))
    except LOAD_ERRORS as error:
        raise UserError(
            f"dataset {name!r} is not a folder here and the Hub can't be reached or doesn't have it; "
            "pass a folder that preprocess_musdb.py wrote"
        ) from error


def read_pairs(folder: Path, listing: Listing, reader: Reader, cache: Path) -> datasets.DatasetDict:
    """The records of a folder's metadata.jsonl files; what was read once is mapped from the cache until they change.

    Raises UserError if there are none, or one is wrong.
    """
    asked = repr((2, os.fspath(folder), reader.required_pictures, reader.required_texts))  # 2 is this code's version
    listing.digest.update(os.fsencode(asked))
    read = cache / "pairs" / listing.digest.hexdigest()[:32]
    if not read.is_dir():
        tables = read_tables(folder, listing.files, reader, musdb18_splits())
        if not tables:
            raise UserError(f"{folder}: contains no pairs, its {METADATA} is empty; make them with preprocess_musdb.py")
        write_tables(tables, read)
    files = {split: read / f"{split}.arrow" for split in SPLIT_WORDS}
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_file(str(file)) for split, file in files.items() if file.is_file()}
    )


def write_tables(tables: dict[str, pa.Table], folder: Path) -> None:
    """Write a folder of Arrow files, whole or not at all. Raises UserError if it can't be."""
    try:
        with files.whole_folder(folder) as part:
            for split, table in tables.items():
                file = str(part / f"{split}.arrow")
                with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                    writer.write_table(table, max_chunksize=ROWS_AT_ONCE)
    except OSError as error:
        if not folder.is_dir():  # no other process was faster
            raise UserError(f"{folder}: can't be written ({error.strerror or error})") from error


def load_files(folder: Path, cache: Path) -> datasets.DatasetDict:
    """What `datasets` finds in a folder without records of ours, as Parquet files. Raises UserError."""
    try:
        return datasets.load_dataset(str(literal_folder(folder, cache)), cache_dir=str(cache))
    except LOAD_ERRORS as error:
        data = sorted(path for path in folder.rglob("*") if path.suffix in DATA_ENDINGS)
        if not data:
            raise UserError(f"{folder}: contains no pairs; make them with preprocess_musdb.py") from error
        damaged = next((path for path in data if path.suffix == ".parquet" and not is_parquet(path)), None)
        if damaged is not None:
            raise UserError(f"{damaged}: cut short or damaged, or not a Parquet file") from error
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"{folder}: its files, such as {data[0].name}, can't be read as pairs ({reason})") from error


def is_parquet(path: Path) -> bool:
    """Whether a file's end, which says where everything is in it, can be read as that of a Parquet file."""
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def literal_folder(folder: Path, cache: Path) -> Path:
    """The folder, or one of links to its files where `datasets` would take a name for a pattern or can't hold it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if all(is_plain(str(path)) and not PATTERN.intersection(str(path)) for path in (folder, *files)):
        return folder
    identity = [(os.fsencode(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    links = cache / LINKS / hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    for path in files:
        make_link(links.joinpath(*(quote(os.fsencode(part)) for part in path.relative_to(folder).parts)), path)
    return links


@functools.cache
def writable_cache(cache_dir: Path | None) -> Path:
    """Where `datasets` keeps what it has read, or a temporary folder where that can't be written.

    Raises UserError if `cache_dir` is given and can't be written.
    """
    wanted = Path(cache_dir or datasets.config.HF_DATASETS_CACHE)
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=wanted).close()
        return wanted
    except OSError as error:
        if cache_dir is not None:
            raise UserError(f"{cache_dir}: can't be written as --cache_dir ({error.strerror})") from error
    folder = tempfile.TemporaryDirectory(prefix="riff-pix2pix-")
    atexit.register(folder.cleanup)
    advice = "set HF_DATASETS_CACHE to a folder that can be"
    print(f"{wanted} can't be written: datasets are not cached; {advice}", file=sys.stderr)
    return Path(folder.name)


@functools.cache
def musdb18_splits() -> dict[str, str]:
    """MUSDB18's 150 songs, by `names.key`, and the split of each: 86 train, 14 validation, 50 test."""
    with MUSDB_LABELS.open(encoding="utf-8", newline="") as file:
        return {names.key(row["track"]): SPLIT_OF_SUBSET[row["subset"]] for row in csv.DictReader(file, delimiter="\t")}


def held_out_split(splits: datasets.DatasetDict) -> datasets.Dataset | None:
    """The validation split, or else the test split, or None."""
    return next((splits[name] for name in ("validation", "test") if name in splits), None)


def dataset_target(dataset: datasets.Dataset) -> str:
    """What the edited pictures show: "mix" or "stem"; datasets in the original's form say nothing and hold mixes."""
    return dataset.select_columns("target")[0]["target"] or "mix" if "target" in dataset.column_names else "mix"


def undecoded(pairs: datasets.Dataset, column: str) -> datasets.Dataset:
    """A column of pictures alone, as undecoded `datasets.Image`s."""
    return pairs.select_columns(column).cast_column(column, datasets.Image(decode=False))


def read_pair_picture(pairs: datasets.Dataset, row: int, column: str) -> Image.Image:
    """A picture of a pair. Raises UserError, with its file, if it can't be read."""
    return read_picture(undecoded(pairs, column)[row][column], f"row {row}: {column}")


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
