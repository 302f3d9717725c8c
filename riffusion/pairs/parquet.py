"""Pairs as Parquet files with a card, in a folder that the Hugging Face Hub can show and `datasets` can read."""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.arrow_writer import get_parquet_column_options
from datasets.info import DatasetInfosDict
from datasets.table import embed_table_storage
from huggingface_hub import DatasetCardData
from tqdm import tqdm

from riffusion.pairs.dataset import identify_picture
from riffusion.pairs.picture_file import verify_checksums
from riffusion.util import files, tables
from riffusion.util.disk_space import writing
from riffusion.util.errors import UserError

TEXTS = ("original_prompt", "edit_prompt", "edited_prompt")
COUNTED_COLUMNS = ("painted_stem", "task", "song")
SHARD_BYTES = 300_000_000  # of pictures in a Parquet file, about
BATCH_PAIRS = 100  # in memory at a time, and in a row group: 20 MB of pictures
SOURCE_FILE = "source.json"  # what the folder was made from
README_FILE = "README.md"  # written last: a folder that has it is finished
TAGS = ["audio", "music", "spectrogram", "instruct-pix2pix"]
SIZE_CATEGORIES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
CARD = """---
{head}
---

# Pairs of spectrogram pictures for InstructPix2Pix

`original_image` shows a clip of a song, and `edit_prompt` asks to change one of its stems, as `task` says.
`edited_image` shows what is heard then where `target` is "mix", and that stem alone where it is "stem". Both pictures
are on one scale and lossless, and their EXIF tags hold the parameters of the spectrogram. Made with riff-pix2pix.

## Pairs

{counts}

## Parameters

{parameters}

## Licence

The pictures can be turned back into sound, so the licences of the songs apply to them. None is claimed here: whoever
publishes this adds `license:` to the head of this file.
"""


@dataclass(frozen=True)
class Survey:
    """What a split holds, found without reading its pictures."""

    picture_bytes: int
    fingerprint: str  # changes with any row, and with any picture file's size or time

    @property
    def shards(self) -> int:
        """Parquet files to write."""
        return -(-self.picture_bytes // SHARD_BYTES) or 1


class DamagedPictureError(UserError):
    """A picture that has to be mended, whereupon all is written anew."""


def first_pairs(splits: datasets.DatasetDict, count: int | None) -> datasets.DatasetDict:
    """The first `count` pairs, split after split; a split without pairs is left out."""
    remaining = sum(map(len, splits.values())) if count is None else count
    chosen = datasets.DatasetDict()
    for name, split in splits.items():
        if taken := min(remaining, len(split)):
            chosen[name] = split.select(range(taken))
            remaining -= taken
    return chosen


def write_dataset(splits: datasets.DatasetDict, folder: Path, data_root: Path) -> None:
    """Write data/SPLIT-0000I-of-0000N.parquet and the card, except for what is there already."""
    surveys = {name: survey_split(split) for name, split in splits.items()}
    claim_folder(folder, {name: survey.fingerprint for name, survey in surveys.items()})
    with tqdm(total=sum(map(len, splits.values())), unit="pair") as progress:
        for name, split in splits.items():
            shards = surveys[name].shards
            for index in range(shards):
                rows = split.shard(shards, index, contiguous=True)
                path = folder / "data" / f"{name}-{index:05d}-of-{shards:05d}.parquet"
                try:
                    if not path.is_file():
                        write_shard(rows, path)
                except DamagedPictureError:
                    empty_folder(folder)
                    raise
                progress.update(len(rows))
    if not (folder / README_FILE).is_file():
        files.write_atomically(folder / README_FILE, dataset_card(splits, folder, data_root))
    print(f"{folder} is complete")


def empty_folder(folder: Path) -> None:
    """Remove what was written into a folder, and the folder if nothing else is in it."""
    (folder / SOURCE_FILE).unlink()
    shutil.rmtree(folder / "data")
    if not any(folder.iterdir()):
        folder.rmdir()


def survey_split(split: datasets.Dataset) -> Survey:
    """Go once through the rows and their picture files' sizes and times. Raises UserError if a picture is missing."""
    pictures = [name for name, feature in split.features.items() if isinstance(feature, datasets.Image)]
    digest = hashlib.sha256(repr((split.features, SHARD_BYTES)).encode())
    picture_bytes = 0
    for batch in batches(split):
        digest.update(json.dumps(batch.drop_columns(pictures).to_pylist(), default=str).encode())
        for picture in (picture for name in pictures for picture in batch[name].to_pylist()):
            size, identity = identify_picture(picture)
            digest.update(identity)
            picture_bytes += size
    return Survey(picture_bytes, digest.hexdigest())


def batches(split: datasets.Dataset) -> Iterator[pa.Table]:
    """The rows as Arrow tables of BATCH_PAIRS; pictures stay encoded."""
    return split.with_format("arrow").iter(BATCH_PAIRS)


def claim_folder(folder: Path, fingerprints: dict[str, str]) -> None:
    """Make the folder ready for these pairs: empty, or with what an earlier run wrote from the very same ones.

    Raises UserError if it holds something else.
    """
    source = folder / SOURCE_FILE
    if source.is_file():
        if files.load_json(source) == fingerprints:
            for part in (folder / "data").glob("*.part"):  # what a killed run has left: it would be uploaded, too
                part.unlink(missing_ok=True)
            return
        print(f"{folder} was made from other pairs: writing it anew, {README_FILE} too")
        (folder / README_FILE).unlink(missing_ok=True)
        shutil.rmtree(folder / "data")
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} contains other files; pass an empty folder as --output_dir")
    files.make_folder(folder / "data")
    files.save_json(source, fingerprints)  # after the old files are gone: what is there is always of this source


def write_shard(rows: datasets.Dataset, path: Path) -> None:
    """Write one Parquet file, pictures inside, whole or not at all. Raises UserError if there is no room for it.

    The options are those of `datasets`: pictures aren't compressed again, and pages end where the content says, so
    that the Hub's storage finds what it already has in a file that grew.
    """
    schema = rows.features.arrow_schema
    options = get_parquet_column_options(rows.features, schema)
    options.update(use_content_defined_chunking=datasets.config.DEFAULT_CDC_OPTIONS, write_page_index=True)
    with (
        writing(path, SHARD_BYTES),
        files.whole_file(path) as part,
        pq.ParquetWriter(part, schema, **options) as writer,
    ):
        for batch in batches(rows):
            writer.write_table(embed_pictures(batch, rows.features))


def embed_pictures(batch: pa.Table, features: datasets.Features) -> pa.Table:
    """Rows with the pictures' bytes in them. Raises DamagedPictureError if one is."""
    whole = embed_table_storage(batch)
    for name in (name for name, feature in features.items() if isinstance(feature, datasets.Image)):
        for known, picture in zip(batch[name].to_pylist(), whole[name].to_pylist(), strict=True):
            try:
                verify_checksums(picture["bytes"], known["path"])
            except UserError as error:
                raise DamagedPictureError(str(error)) from error
    return whole


def dataset_card(splits: datasets.DatasetDict, folder: Path, data_root: Path) -> str:
    """README.md for Parquet files that are written: a head that the Hub reads, counts, and preprocessing's flags."""
    pairs = sum(map(len, splits.values()))
    data_files = [{"split": name, "path": f"data/{name}-*"} for name in splits]
    head = DatasetCardData(
        task_categories=["image-to-image"],
        tags=TAGS,
        size_categories=[next((label for limit, label in SIZE_CATEGORIES.items() if pairs < limit), "n>10M")],
        configs=[{"config_name": "default", "data_files": data_files}],
    )
    DatasetInfosDict({"default": dataset_info(splits, folder)}).to_dataset_card_data(head)
    return CARD.format(
        head=head,
        counts=tables.markdown_table(count_pairs(splits)),
        parameters=tables.markdown_table(read_parameters(data_root)),
    )


def dataset_info(splits: datasets.DatasetDict, folder: Path) -> datasets.DatasetInfo:
    """Columns and sizes, which `datasets` checks what it loads against."""
    sizes = {name: sum(path.stat().st_size for path in (folder / "data").glob(f"{name}-*")) for name in splits}
    info = datasets.SplitDict()
    for name, split in splits.items():
        info.add(datasets.SplitInfo(name, num_bytes=sizes[name], num_examples=len(split)))
    total = sum(sizes.values())
    features = next(iter(splits.values())).features
    return datasets.DatasetInfo(features=features, splits=info, download_size=total, dataset_size=total)


def count_pairs(splits: datasets.DatasetDict) -> list[dict[str, object]]:
    """Pairs and songs of each split by painted stem and task, if the records say them."""
    rows: list[dict[str, object]] = []
    for name, split in splits.items():
        if not set(COUNTED_COLUMNS) <= set(split.column_names):
            rows.append({"split": name, "pairs": len(split)})
            continue
        songs = defaultdict(list)
        for stem, task, song in zip(*(split[column] for column in COUNTED_COLUMNS), strict=True):
            songs[stem, task].append(song)
        for (stem, task), pairs in sorted(songs.items()):
            rows.append(
                {"split": name, "stem": stem or "none", "task": task, "pairs": len(pairs), "songs": len(set(pairs))}
            )
    return rows


def read_parameters(data_root: Path) -> list[dict[str, object]]:
    """The flags of preprocess_musdb.py; of a path on the machine that ran it only the last part."""
    for folder in (data_root, data_root.parent):
        if (folder / "preprocess.json").is_file():
            flags = files.load_json(folder / "preprocess.json")
            shown = {name: None if value == "None" else files.without_folders(value) for name, value in flags.items()}
            return [{"flag": name, "value": value} for name, value in shown.items()]
    return []
