import json
import os
import re
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from conftest import cut, write_original_folder, write_pair_folder, write_picture
from datasets.table import embed_table_storage
from PIL import Image

from riffusion.pairs.dataset import load_splits
from riffusion.pairs.dataset_check import open_pairs
from riffusion.pairs.pair import METADATA
from riffusion.spectrogram import SpectrogramParams
from riffusion.util.errors import UserError


def refusal(folder: Path, cache: Path, **columns) -> str:
    with pytest.raises(UserError) as error:
        open_pairs(str(folder), cache, **columns)
    assert "\n" not in str(error.value)
    return str(error.value)


def tagged(**changed: object) -> dict:
    """Riffusion's tags, some of them changed."""
    return SpectrogramParams(**changed).to_exif(100.0)


DAMAGE = {
    "cut": (lambda path: cut(path), "cut short or damaged"),
    "cut near its end": (lambda path: cut(path, 0.99), "cut short or damaged"),
    "header alone": (lambda path: path.write_bytes(path.read_bytes()[:300]), "cut short or damaged"),
    "empty": (lambda path: path.write_bytes(b""), "cut short or damaged"),
    "no picture": (lambda path: path.write_text("<html>not found</html>"), "or none at all"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "or none at all"),
    "wider": (lambda path: write_picture(path, width=128), "is 128 x 512 pixels, as 1 pictures are, and .*64 x 512"),
    "mode": (lambda path: Image.new("F", (64, 512)).save(path, "TIFF"), "a picture of mode F can't be read"),
    "printer's": (lambda path: Image.new("CMYK", (64, 512)).save(path, "JPEG"), "a picture of mode CMYK"),
    "drawn": (
        lambda path: write_picture(path, tags=tagged(sample_rate=22050)),
        "drawn with sample_rate 22050, .*alike",
    ),
    "stereo": (lambda path: write_picture(path, tags=tagged(stereo=True)), "is grey, its tags say stereo"),
    "tags": (lambda path: write_picture(path, tags={11000: "fast"}), "aren't those of a spectrogram: 11000 is 'fast'"),
    "maximum": (lambda path: write_picture(path, tags={11080: float("nan")}), "11080 is nan"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "can't read this picture|there is no"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("place", ["set/Song B/2_out.png", "set/Song A/0_in.png"])
def test_every_picture_is_looked_at(tmp_path, kind, place):
    for song in ("Song A", "Song B", "Song C"):
        write_pair_folder(tmp_path / "set" / song)
    spoil, message = DAMAGE[kind]
    open_pairs(str(tmp_path / "set"), tmp_path / "cache")
    spoil(tmp_path / place)
    told = refusal(tmp_path / "set", tmp_path / "cache")
    assert str(tmp_path / place) in told and re.search(message, told)
    assert "contains no pairs" not in told and refusal(tmp_path / "set", tmp_path / "cache") == told


def test_several_bad_pictures_are_counted(tmp_path):
    folder = write_pair_folder(tmp_path / "set" / "Song", 4)
    for number in range(1, 4):
        cut(folder / f"{number}_in.png")
    assert refusal(tmp_path / "set", tmp_path / "cache").startswith(f"{folder}/1_in.png: ")
    assert refusal(tmp_path / "set", tmp_path / "cache").endswith("(and so are 2 more)")


def test_a_picture_that_is_gone_is_named(tmp_path):
    folder = write_pair_folder(tmp_path / "set" / "Song")
    open_pairs(str(tmp_path / "set"), tmp_path / "cache")
    (folder / "1_out.png").unlink()
    assert (
        refusal(tmp_path / "set", tmp_path / "cache") == f"{folder / METADATA}, line 2: there is no {folder}/1_out.png"
    )


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"target": "mix"}, "different targets, 3 of 'stem' .*, 2 of 'mix'"),
        ({"target": None}, "different targets, 3 of 'stem' .*, 2 of 'mix'"),
        ({"target": "voice"}, "has target 'voice', which is not one of mix, stem"),
    ],
)
def test_pairs_of_two_targets_are_refused(tmp_path, second, message):
    write_pair_folder(tmp_path / "set" / "A")
    write_pair_folder(tmp_path / "set" / "B", 2, **second)
    with pytest.raises(UserError, match=message):
        open_pairs(str(tmp_path / "set"), tmp_path / "cache")


def test_ours_among_the_originals_are_of_two_targets(tmp_path):
    write_original_folder(tmp_path / "set", 2)
    write_pair_folder(tmp_path / "set" / "Song", 1)
    told = "different targets, 1 of 'stem' (first row 0 of split train), 2 of 'mix' (first row 1 of split train)"
    assert told in refusal(tmp_path / "set", tmp_path / "cache")


def test_a_target_that_is_no_text_is_named(tmp_path):
    folder = write_original_folder(tmp_path / "set", 3)
    lines = [json.loads(line) for line in (folder / METADATA).read_text().splitlines()]
    lines[1]["target"] = 7
    (folder / METADATA).write_text("\n".join(map(json.dumps, lines)))
    assert refusal(tmp_path / "set", tmp_path / "cache").endswith("split train, row 1: target 7 is not text")


def test_a_parquet_file_that_is_damaged_is_named(tmp_path):
    write_pair_folder(tmp_path / "set" / "Song")
    pairs = open_pairs(str(tmp_path / "set"), tmp_path / "cache")["train"]
    for split in ("train", "validation"):
        pairs.to_parquet(tmp_path / "files" / f"{split}.parquet")
    cut(tmp_path / "files" / "validation.parquet", 0.9)
    told = refusal(tmp_path / "files", tmp_path / "cache")
    assert told.startswith(f"{tmp_path / 'files' / 'validation.parquet'}: cut short or damaged")


def test_splits_must_agree(tmp_path):
    write_pair_folder(tmp_path / "set" / "train" / "A")
    write_pair_folder(tmp_path / "set" / "test" / "B", width=72)
    assert "is 72 x 512 pixels, as 6 pictures are" in refusal(tmp_path / "set", tmp_path / "cache")


def test_the_original_is_read_and_what_is_assumed_is_told(tmp_path):
    told: list[str] = []
    folder = write_original_folder(tmp_path / "train")
    for _ in range(2):
        told.clear()
        splits = open_pairs(str(folder), tmp_path / "cache", tell=told.append)
        assert told == [f"{folder}: levels are on Riffusion's scale of 16-bit integers, and are divided by it"]
    assert len(splits["train"]) == 3
    folder = write_original_folder(tmp_path / "gifs", ending="gif")
    told.clear()
    open_pairs(str(folder), tmp_path / "cache", tell=told.append)
    assert told == [f"{folder}: 6 of 6 pictures have no tags of Riffusion's: V1's parameters are assumed"]


def test_ours_have_nothing_to_tell(tmp_path, capsys):
    write_pair_folder(tmp_path / "set")
    open_pairs(str(tmp_path / "set"), tmp_path / "cache")
    assert capsys.readouterr().out == ""


def as_parquet(folder: Path, cache: Path, without_prompt: int | None = None) -> Path:
    """The pairs of a folder as Parquet with pictures inside, instead; one without its instruction."""
    split = load_splits(str(folder), cache)["train"]
    prompts = [None if row == without_prompt else text for row, text in enumerate(split["edit_prompt"])]
    split = split.remove_columns("edit_prompt").add_column("edit_prompt", prompts)
    split = split.with_format("arrow").map(embed_table_storage, batched=True).with_format(None)
    split.to_parquet(folder.with_suffix(".parquet"))
    shutil.rmtree(folder)
    folder.mkdir()
    return folder.with_suffix(".parquet").rename(folder / "train.parquet")


def test_pictures_inside_parquet_are_looked_at(tmp_path):
    folder = tmp_path / "set"
    cut(write_pair_folder(folder / "Song") / "1_out.png")
    as_parquet(folder, tmp_path / "cache")
    told = refusal(folder, tmp_path / "cache")
    assert told.startswith(f"{folder}, split train, row 1: edited_image: can't read this picture")


def test_good_parquet_is_remembered_by_its_files(tmp_path):
    folder = tmp_path / "set"
    write_pair_folder(folder / "Song")
    as_parquet(folder, tmp_path / "cache")
    for _ in range(2):
        assert len(open_pairs(str(folder), tmp_path / "cache")["train"]) == 3
    assert len(list((tmp_path / "cache" / "checked").iterdir())) == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"text": ["a"]}, "contains no pairs, its columns are text; make them with preprocess_musdb.py"),
        ({"original_image": ["a"], "edit_prompt": ["b"]}, "has no column edited_image|not pictures"),
    ],
)
def test_other_tables_are_told_apart(tmp_path, table, message):
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(table).to_parquet(tmp_path / "set" / "train.parquet")
    assert re.search(message, refusal(tmp_path / "set", tmp_path / "cache"))


def test_a_missing_instruction_in_parquet_is_named(tmp_path):
    folder = tmp_path / "set"
    write_pair_folder(folder / "Song")
    as_parquet(folder, tmp_path / "cache", without_prompt=2)
    assert refusal(folder, tmp_path / "cache") == f"{folder}, split train, row 2: has no edit_prompt"


def test_what_was_found_good_is_not_looked_at_again_unless_it_changes(tmp_path):
    folder = write_pair_folder(tmp_path / "set" / "Song")
    picture = folder / "1_in.png"
    open_pairs(str(tmp_path / "set"), tmp_path / "cache")
    status = picture.stat()
    picture.write_bytes(bytes(status.st_size))  # of the same size, and
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))  # of the same time: nobody can see it
    open_pairs(str(tmp_path / "set"), tmp_path / "cache")
    os.utime(picture)
    assert str(picture) in refusal(tmp_path / "set", tmp_path / "cache")


def test_text_files_are_no_pairs(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "notes.txt").write_text("x\n")
    assert "contains no pairs" in refusal(tmp_path / "set", tmp_path / "cache")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "notes.txt").unlink()
    assert "contains no pairs" in refusal(tmp_path / "set", tmp_path / "cache")


def test_other_columns_may_be_the_pairs(tmp_path):
    folder = write_pair_folder(tmp_path / "set")
    text = (folder / METADATA).read_text()
    for old, new in (("original_image", "before"), ("edited_image", "after"), ("edit_prompt", "order")):
        text = text.replace(f'"{old}', f'"{new}')
    (folder / METADATA).write_text(text)
    columns = {"pictures": ("before", "after"), "texts": ("order",)}
    assert len(open_pairs(str(folder), tmp_path / "cache", **columns)["train"]) == 3
    told = "line 1: has no column original_image: 'original_image_file_name' is missing or empty, it has 'before_"
    assert told in refusal(folder, tmp_path / "cache")
    cut(folder / "2_out.png")
    assert "2_out.png" in refusal(folder, tmp_path / "cache", **columns)
    assert json.loads(text.splitlines()[0])["order"] == "add a vocal 0"
