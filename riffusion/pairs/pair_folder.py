"""A folder of pairs: its metadata.jsonl files, ours or the original project's, as Arrow tables by split."""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import datasets
import pyarrow as pa

from riffusion.pairs.pair import METADATA
from riffusion.util import names
from riffusion.util.errors import UserError

FILE_NAME = "_file_name"  # a key that ends so names a picture, as in `datasets`
ORIGINAL_KEYS = {"input_file_path": "original_image", "edited_file_path": "edited_image"}  # the original project's
ORIGINAL_TEXTS = ("original_prompt", "edited_prompt")  # columns that it filled with the instruction
RECORDS_AT_ONCE = 2000  # in memory as Python's objects, ten times as large
SPLIT_WORDS = {  # those of `datasets`
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words}
SPLIT_WORD = re.compile(rf"(?:^|[-._ 0-9])({'|'.join(SPLIT_OF_WORD)})(?=[-._ 0-9]|$)")


@dataclass
class Listing:
    """The metadata.jsonl files below a folder in order, and a digest that changes with them and with any folder."""

    files: list[Path] = field(default_factory=list)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)


def list_metadata(folder: Path) -> Listing:
    """Look through a folder and where its links lead, into each real folder once.

    Names that begin with a dot or two underscores are passed over. Raises UserError on what can't be looked into.
    """
    listing = Listing()
    _look(folder, listing, set())
    return listing


def _look(folder: Path, listing: Listing, seen: set[tuple[int, int]]) -> None:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        listing.digest.update(os.fsencode(folder) + f" {status.st_mtime_ns}\n".encode())
        for entry in entries:
            if entry.name.startswith((".", "__")):
                continue
            if entry.is_dir():
                _look(Path(entry.path), listing, seen)
            elif entry.name == METADATA or entry.is_symlink():
                status = entry.stat()  # of what a link leads to, which must be there
                if entry.name == METADATA:
                    listing.files.append(Path(entry.path))
                    listing.digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    except OSError as error:
        place = Path(error.filename)
        link = f", a link to {place.readlink()}," if place.is_symlink() else ""
        raise UserError(f"{place}{link} can't be opened ({error.strerror})") from error


@dataclass(frozen=True)
class Record:
    """A line of a metadata.jsonl file, as it stands there."""

    file: Path
    line: int
    values: dict

    def refused(self, reason: str) -> UserError:
        """An error that says where it is."""
        return UserError(f"{self.file}, line {self.line}: {reason}")


@dataclass
class Reader:
    """Turns records into rows of a dataset; all must have what the first one has of pictures, and what is required.

    `links` is a folder for links to files whose names Arrow can't hold.
    """

    required_pictures: Sequence[str]
    required_texts: Sequence[str]
    links: Path
    pictures: list[str] = field(default_factory=list)  # image columns
    _names: dict[tuple[Path, str], dict[str, str]] = field(default_factory=dict)  # see `_listed`
    _tails: dict[Path, dict[tuple[str, ...], list[Path]]] = field(default_factory=dict)  # see `_below`

    def row(self, record: Record) -> dict:
        """A record by columns; those of pictures hold paths. Raises UserError if it lacks something."""
        row: dict = {}
        for key, value in record.values.items():
            column = picture_column(key)
            if column is not None and value is not None:
                value = self._picture(record, key)
            row[key if column is None else column] = value
        if not ORIGINAL_KEYS.keys().isdisjoint(record.values):
            self._complete_original(record, row)
        self._require(record, row)
        return row

    def _complete_original(self, record: Record, row: dict) -> None:
        """Fill the columns that the original project published beside those of its records."""
        for text in ORIGINAL_TEXTS:
            row.setdefault(text, row.get("edit_prompt"))
        written = [record.values.get(key) for key in ORIGINAL_KEYS]
        found = [row.get(column) for column in ORIGINAL_KEYS.values()]
        if None not in found and found[0] == found[1] and written[0] != written[1]:
            raise record.refused(f"for {written[0]!r} and for {written[1]!r} only {found[0]} is there")

    def _require(self, record: Record, row: dict) -> None:
        if not self.pictures:
            named = [column for column in map(picture_column, record.values) if column is not None]
            self.pictures = list(dict.fromkeys((*named, *self.required_pictures)))
        has = f"it has {', '.join(map(repr, record.values)) or 'nothing'}"
        if not self.pictures:
            raise record.refused(f"names no pictures, {has}")
        original = not ORIGINAL_KEYS.keys().isdisjoint(record.values)
        keys = {column: key for key, column in ORIGINAL_KEYS.items() if original}
        for column in self.pictures:
            if row.get(column) is None:
                key = keys.get(column, column + FILE_NAME)
                raise record.refused(f"has no column {column}: {key!r} is missing or empty, {has}")
        for column in self.required_texts:
            if not isinstance(row.get(column), str):
                held = f"{column!r} is {row.get(column)!r:.40} and not a text"
                raise record.refused(f"{held if column in row else f'has no column {column}'}, {has}")

    def _picture(self, record: Record, key: str) -> str:
        """The path of a picture that a record names. Raises UserError if it isn't there."""
        written = record.values[key]
        if not isinstance(written, str):
            raise record.refused(f"{key!r} is {written!r:.40} and not a file's name")
        below, _, name = written.rpartition("/")
        paths = self._listed(record.file, below)
        if name not in paths:
            find = self._find_original if key in ORIGINAL_KEYS else self._find
            paths[name] = holdable(find(record, written), self.links)
        return paths[name]

    def _listed(self, file: Path, below: str) -> dict[str, str]:
        """Paths by name of what lies in a folder beside a file: to ask for each picture takes three times as long."""
        known = file, below
        if known not in self._names:
            self._names[known] = {}
            folder = file.parent / below
            if os.pardir not in below and not below.startswith(os.sep) and folder.is_dir():
                self._names[known] = {path.name: holdable(path, self.links) for path in folder.iterdir()}
        return self._names[known]

    def _find(self, record: Record, written: str) -> Path:
        relative = Path(os.path.normpath(written))
        if relative.is_absolute() or relative.parts[:1] == (os.pardir,):
            raise record.refused(f"{written!r} is outside of its folder")
        path = record.file.parent / relative
        if not path.is_file():
            raise record.refused(f"there is no {path}")
        return path

    def _find_original(self, record: Record, written: str) -> Path:
        """A picture of the original project: beside the records, as written, or moved with them."""
        folder, parts = record.file.parent, re.split(r"[/\\]+", written)
        moved = (folder.joinpath(*parts[-kept:]) for kept in range(len(parts) - 1, 0, -1))
        for path in (folder / written, Path(written), *moved):
            if path.is_file():
                return path.absolute()
        for kept in (2, 1):
            found = self._below(folder).get(tuple(parts[-kept:]), [])
            if len(found) == 1:
                return found[0]
        raise record.refused(f"there is no {written!r}, neither as written nor by its name below {folder}")

    def _below(self, folder: Path) -> dict[tuple[str, ...], list[Path]]:
        """Files below a folder by their name, and by it and their folder's; several may have the same."""
        if folder not in self._tails:
            tails: dict[tuple[str, ...], list[Path]] = defaultdict(list)
            for path in folder.rglob("*"):
                tails[(path.name,)].append(path)
                tails[path.parts[-2:]].append(path)
            self._tails[folder] = tails
        return self._tails[folder]


@functools.cache
def picture_column(key: str) -> str | None:
    """The image column that a key of a record stands for, None if it names no picture."""
    if key in ORIGINAL_KEYS:
        return ORIGINAL_KEYS[key]
    if key == FILE_NAME[1:]:
        return "image"
    return key.removesuffix(FILE_NAME) if key.endswith(FILE_NAME) else None


def read_tables(folder: Path, files: Sequence[Path], reader: Reader, home: dict[str, str]) -> dict[str, pa.Table]:
    """The records of these metadata.jsonl files by split, in order; image columns name files and hold no bytes.

    A record is in the split that `home` says of its song, by `names.key`, else in that of its folders' names, else in
    "train". Raises UserError with file and line.
    """
    tables: dict[str, list[pa.Table]] = defaultdict(list)
    schema = pa.schema([])
    for file in files:
        split = split_of_folders(file.parent.relative_to(folder))
        for records in _several(read_records(file), RECORDS_AT_ONCE):
            rows: dict[str, list[dict]] = defaultdict(list)
            for record in records:
                row = reader.row(record)
                song = row.get("song")
                rows[home.get(names.key(song), split) if isinstance(song, str) else split].append(row)
            for name, part in rows.items():
                table = make_table(part, reader.pictures, file)
                schema = _agreeing(schema, table.schema, file)
                tables[name].append(table)
    return {name: _joined(tables[name], schema, reader.pictures) for name in SPLIT_WORDS if name in tables}


def _several(records: Iterator[Record], count: int) -> Iterator[list[Record]]:
    while some := list(itertools.islice(records, count)):
        yield some


def split_of_folders(relative: Path) -> str:
    """The split that a path's outermost folder with such a name says: "test", "valid-2", "my train"; else "train"."""
    words = (SPLIT_WORD.search(part) for part in relative.parts)
    return next((SPLIT_OF_WORD[word[1]] for word in words if word), "train")


def read_records(file: Path) -> Iterator[Record]:
    """The lines of a file, but for empty ones. Raises UserError on one that isn't a JSON object."""
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                record = Record(file, number, {})
                try:
                    values = json.loads(line.decode("utf-8-sig"))
                except ValueError as error:
                    raise record.refused(f"isn't JSON, or only a part of it ({error})") from error
                if not isinstance(values, dict):
                    raise record.refused(f"{values!r:.40} isn't a JSON object")
                yield Record(file, number, values)
    except OSError as error:
        raise UserError(f"{file}: can't be read ({error.strerror})") from error


def make_table(rows: list[dict], pictures: Sequence[str], file: Path) -> pa.Table:
    """Rows as a table. Raises UserError if they don't agree on what a column holds."""
    columns = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        try:
            if name in pictures:
                parts = [pa.nulls(len(rows), pa.binary()), pa.array(values, pa.string())]
                columns[name] = pa.StructArray.from_arrays(parts, ["bytes", "path"])
            else:
                columns[name] = pa.array([_as_utf8(value) if isinstance(value, str) else value for value in values])
        except pa.ArrowException as error:
            raise UserError(f"{file}: {name!r} isn't the same kind of value in all lines ({error})") from error
    return pa.table(columns)


def _as_utf8(text: str) -> str:
    """A text that Arrow can hold: of a file's name that isn't UTF-8 the other bytes become question marks."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _agreeing(schema: pa.Schema, other: pa.Schema, file: Path) -> pa.Schema:
    """The schema that holds both. Raises UserError if there is none."""
    try:
        return pa.unify_schemas([schema, other], promote_options="permissive")
    except pa.ArrowException as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{file}: its records differ in kind from those of the files before ({reason})") from error


def _joined(tables: list[pa.Table], schema: pa.Schema, pictures: Sequence[str]) -> pa.Table:
    """Tables one after the other, with the features of `datasets` in their schema."""
    kinds = datasets.Features.from_arrow_schema(schema)
    features = datasets.Features({name: datasets.Image() if name in pictures else kinds[name] for name in kinds})
    tables = [schema.empty_table(), *tables]  # all columns, in order, whatever the first table has
    return pa.concat_tables(tables, promote_options="permissive").cast(features.arrow_schema)


def holdable(path: Path, links: Path) -> str:
    """A path that Arrow can hold and `datasets` opens: UTF-8 without "::"; where it isn't so, a link's."""
    if is_plain(str(path)):
        return str(path)
    place = links / hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:16]
    shown = _plain_name(path.parent.name)
    if is_plain(path.name):
        return str(make_link(place / "folder" / shown, path.parent) / path.name)
    return str(make_link(place / "files" / shown / _plain_name(path.name), path))


def is_plain(text: str) -> bool:
    """Whether a path is UTF-8 and no chain of URLs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "::" not in text


def _plain_name(name: str) -> str:
    return name if is_plain(name) else quote(os.fsencode(name))


def make_link(place: Path, target: Path) -> Path:
    """A link, unless it is there. Raises UserError if it can't be made."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            place.symlink_to(target)
    except OSError as error:
        raise UserError(f"{place}: can't make this link ({error.strerror})") from error
    return place
