"""Every record of a dataset looked at when it is opened, and what was found remembered until a file changes."""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from riffusion.pairs.dataset import load_splits, writable_cache
from riffusion.pairs.pair import PAIR_PICTURES, PAIR_TEXTS, TARGETS
from riffusion.pairs.picture_file import GREY_MODES, READABLE_MODES, Header, read_header
from riffusion.spectrogram_params import FLOAT_LIMIT, ExifTags, SpectrogramParams
from riffusion.util import files
from riffusion.util.errors import UserError

CHECK_VERSION = 1  # of what is remembered
THREADS = 8  # more than cores: most of the time a disk is waited for
PICTURES_AT_ONCE = 500  # that a thread looks at
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Found:
    """What is remembered of a dataset's pictures: how many there are, without tags, and on the scale of integers."""

    pictures: int
    untagged: int
    scaled: int


@dataclass
class Census:
    """What pictures are like, each kind with its number and the first one's name; and what is wrong with some."""

    sizes: dict[Hashable, tuple[int, str]] = field(default_factory=dict)
    params: dict[Hashable, tuple[int, str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    pictures: int = 0
    untagged: int = 0
    scaled: int = 0

    def add(self, other: "Census") -> None:
        """Count another census, of pictures that come after these."""
        for mine, others in ((self.sizes, other.sizes), (self.params, other.params)):
            for kind, (count, name) in others.items():
                known, first = mine.get(kind, (0, name))
                mine[kind] = known + count, first
        self.wrong += other.wrong
        self.pictures += other.pictures
        self.untagged += other.untagged
        self.scaled += other.scaled


def open_pairs(
    name: str,
    cache_dir: Path | None = None,
    pictures: Sequence[str] = PAIR_PICTURES,
    texts: Sequence[str] = PAIR_TEXTS,
    tell: Callable[[str], object] = print,
) -> datasets.DatasetDict:
    """`load_splits` after a look at all records: columns, targets, and each picture's size, mode, tags and end.

    What is assumed of the pictures is told in a line each. Raises UserError that names the first bad record.
    """
    splits = load_splits(name, cache_dir, pictures, texts)
    check_columns(splits, name, pictures, texts)
    check_target(splits, name)
    found = check_pictures(splits, name, pictures, writable_cache(cache_dir))
    if found.untagged:
        of = f"{found.untagged} of {found.pictures} pictures"
        tell(f"{name}: {of} have no tags of Riffusion's: V1's parameters are assumed")
    if found.scaled:
        tell(f"{name}: levels are on Riffusion's scale of 16-bit integers, and are divided by it")
    return splits


def check_columns(splits: datasets.DatasetDict, name: str, pictures: Sequence[str], texts: Sequence[str]) -> None:
    """Raise UserError if a split lacks a column, or it holds something else, or nothing in a row."""
    for split_name, split in splits.items():
        place = f"{name}, split {split_name}"
        has = ", ".join(split.column_names)
        if not set(pictures) & set(split.column_names):
            advice = "make them with preprocess_musdb.py"
            raise UserError(f"{place}: contains no pairs, its columns are {has}; {advice}")
        for column in (*pictures, *texts):
            if column not in split.column_names:
                raise UserError(f"{place}: has no column {column}; it has {has}")
            feature = split.features[column]
            kind = isinstance(feature, datasets.Image) if column in pictures else _is_text(feature)
            if not kind:
                wanted = "pictures" if column in pictures else "texts"
                raise UserError(f"{place}: column {column} contains {feature}, not {wanted}")
        for column in texts:
            values = arrow_column(split, column)
            if values.null_count:
                raise UserError(f"{place}, row {pc.index(values.is_null(), True)}: has no {column}")


def arrow_column(split: datasets.Dataset, column: str) -> pa.ChunkedArray:
    """A column's values; much faster than as Python's, row by row."""
    return split.select_columns(column).with_format("arrow")[:][column]


def _is_text(feature: object) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def check_target(splits: datasets.DatasetDict, name: str) -> None:
    """Raise UserError if the pairs aren't all of one target. Pairs that don't say theirs are of the original's, mix."""
    counts: dict[str, tuple[int, str]] = {}
    for split_name, split in splits.items():
        says = "target" in split.column_names and not pa.types.is_null(split.data.schema.field("target").type)
        if says and not _is_text(split.features["target"]):
            values = arrow_column(split, "target")
            row = pc.index(values.is_valid(), True).as_py()
            raise UserError(f"{name}, split {split_name}, row {row}: target {values[row].as_py()!r} is not text")
        values = arrow_column(split, "target").fill_null("mix") if says else pa.chunked_array([["mix"] * len(split)])
        for value in values.unique().to_pylist():
            count, first = counts.get(value, (0, f"row {pc.index(values, value)} of split {split_name}"))
            counts[value] = count + pc.sum(pc.equal(values, value)).as_py(), first
    odd = next((target for target in counts if target not in TARGETS), None)
    if odd is not None:
        raise UserError(f"{name}: {counts[odd][1]} has target {odd!r}, which is not one of {', '.join(TARGETS)}")
    if len(counts) > 1:
        kinds = ", ".join(f"{count} of {target!r} (first {first})" for target, (count, first) in counts.items())
        raise UserError(f"{name}: contains pairs with different targets, {kinds}; put each kind in its own folder")


def check_pictures(splits: datasets.DatasetDict, name: str, columns: Sequence[str], cache: Path) -> Found:
    """Look at the ends of all picture files, unless the same ones were found good before.

    Raises UserError if one can't be read, or if they aren't all of one size and drawn alike.
    """
    pictures = dict(each_picture(splits, name, columns))
    with ThreadPoolExecutor(THREADS) as pool:
        remembered = cache / "checked" / f"{fingerprint(splits, columns, pictures, pool)}.json"
        if remembered.is_file():
            return Found(**files.load_json(remembered))
        items = list(pictures.items())
        parts = [items[first : first + PICTURES_AT_ONCE] for first in range(0, len(items), PICTURES_AT_ONCE)]
        census = Census()
        for part in pool.map(look, parts):
            census.add(part)
    if census.wrong:
        more = f" (and so are {len(census.wrong) - 1} more)" if len(census.wrong) > 1 else ""
        raise UserError(census.wrong[0] + more)
    require_one(census.sizes, "{0[0]} x {0[1]} pixels".format, "of one size")
    require_one(census.params, _drawn, "drawn alike")
    found = Found(census.pictures, census.untagged, census.scaled)
    files.make_folder(remembered.parent)
    files.save_json(remembered, asdict(found))
    return found


def each_picture(
    splits: datasets.DatasetDict, name: str, columns: Sequence[str]
) -> Iterator[tuple[str, memoryview | None]]:
    """A picture's name and bytes, or a file's path and None."""
    for split_name, split in splits.items():
        for column in columns:
            row = 0
            for batch in split.select_columns(column).with_format("arrow").iter(ROWS_AT_ONCE):
                for chunk in batch[column].chunks:
                    paths, contents = chunk.field("path").to_pylist(), chunk.field("bytes")
                    inside = contents.null_count < len(contents)
                    for place, path in enumerate(paths):
                        data = contents[place].as_buffer() if inside else None
                        if data is None and path is not None:
                            yield path, None
                            continue
                        shown = f"{name}, split {split_name}, row {row + place}: {column}"
                        if data is None:
                            raise UserError(f"{shown} is missing")
                        yield shown, memoryview(data)
                    row += len(paths)


def fingerprint(
    splits: datasets.DatasetDict,
    columns: Sequence[str],
    pictures: dict[str, memoryview | None],
    pool: ThreadPoolExecutor,
) -> str:
    """What changes with any picture: its file's size or time, or those of the Arrow files that hold it."""
    digest = hashlib.sha256(repr((CHECK_VERSION, tuple(columns))).encode())
    files = [name for name, data in pictures.items() if data is None]
    if len(files) < len(pictures):
        held = [(split_name, len(split)) for split_name, split in splits.items()]
        digest.update(repr((held, pictures.keys())).encode())
        files += [file["filename"] for split in splits.values() for file in split.cache_files]
    parts = [files[first : first + PICTURES_AT_ONCE] for first in range(0, len(files), PICTURES_AT_ONCE)]
    for identities in pool.map(_identities, parts):
        digest.update(identities)
    return digest.hexdigest()[:32]


def _identities(files: list[str]) -> bytes:
    lines = []
    for file in files:
        try:
            status = os.stat(file)  # noqa: PTH116  # half of Path's time
        except OSError as error:
            raise UserError(f"{file}: can't read this picture ({error.strerror})") from error
        lines.append(f"{file} {status.st_size} {status.st_mtime_ns}\n")
    return "".join(lines).encode()


def look(pictures: list[tuple[str, memoryview | None]]) -> Census:
    """Look at the ends of some pictures."""
    census = Census(pictures=len(pictures))
    for name, data in pictures:
        try:
            header = read_header({"bytes": data, "path": None if data is not None else name}, name)
            params = params_of(tuple(header.tags.items()))
            require_readable(header, params)
        except UserError as error:
            census.wrong.append(str(error) if str(error).startswith(name) else f"{name}: {error}")
            continue
        for kinds, kind in ((census.sizes, header.size), (census.params, params)):
            count, first = kinds.get(kind, (0, name))
            kinds[kind] = count + 1, first
        census.untagged += not header.tags
        census.scaled += header.tags.get(ExifTags.MAX_VALUE, 0) > FLOAT_LIMIT
    return census


@functools.lru_cache(maxsize=1024)
def params_of(tags: tuple[tuple[int, Any], ...]) -> SpectrogramParams:
    """How a picture with these tags is drawn. Raises UserError if they can't be meant."""
    try:
        params = SpectrogramParams.from_exif(dict(tags))
        top = float(dict(tags).get(ExifTags.MAX_VALUE, 0))
        if math.isfinite(top) and top >= 0:
            return params
    except (TypeError, ValueError, OverflowError):
        pass
    told = ", ".join(f"{tag} is {value!r:.20}" for tag, value in tags)
    raise UserError(f"its EXIF tags aren't those of a spectrogram: {told}")


def require_readable(header: Header, params: SpectrogramParams) -> None:
    """Raise UserError if a picture's colours mean nothing here."""
    if header.mode not in READABLE_MODES:
        raise UserError(f"a picture of mode {header.mode} can't be read: save it as PNG, grey or RGB")
    if params.stereo and header.mode in GREY_MODES:
        raise UserError("picture is grey, its tags say stereo")


def require_one(kinds: dict[Hashable, tuple[int, str]], shown: Callable[[Any], str], asked: str) -> None:
    """Raise UserError if pictures are of more than one kind, with the first of the rarest."""
    if len(kinds) < 2:
        return
    usual, odd = max(kinds, key=lambda kind: kinds[kind][0]), min(reversed(kinds), key=lambda kind: kinds[kind][0])
    (count, example), (odd_count, first) = kinds[usual], kinds[odd]
    raise UserError(
        f"{first}: is {shown(odd)}, as {odd_count} pictures are, and {example} is {shown(usual)}, as {count} are; "
        f"the pictures of a dataset must be {asked}"
    )


def _drawn(params: SpectrogramParams) -> str:
    usual = SpectrogramParams()
    differs = {name: value for name, value in asdict(params).items() if value != getattr(usual, name)}
    return "drawn with " + (
        ", ".join(f"{name} {value}" for name, value in differs.items()) or "Riffusion V1's parameters"
    )
