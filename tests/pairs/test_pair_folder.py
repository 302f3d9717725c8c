import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_original_folder, write_pair_folder, write_picture
from PIL import Image

from riffusion.pairs.dataset import load_splits
from riffusion.pairs.pair import METADATA
from riffusion.pairs.pair_folder import split_of_folders
from riffusion.util.errors import UserError

ROOT = Path(__file__).parents[2]


def prompts(folder: Path | str, cache: Path) -> dict[str, list[str]]:
    return {name: list(split["edit_prompt"]) for name, split in load_splits(str(folder), cache).items()}


def paths(folder: Path, cache: Path, column: str = "original_image") -> list[str]:
    split = load_splits(str(folder), cache)["train"]
    return [picture["path"] for picture in split.data[column].to_pylist()]


def rewrite(folder: Path, **changed: object) -> None:
    """Change keys of the records in a folder by functions of what they hold."""
    lines = (folder / METADATA).read_text().splitlines()
    records = [
        {key: changed[key](value) if key in changed else value for key, value in json.loads(line).items()}
        for line in lines
    ]
    (folder / METADATA).write_text("".join(json.dumps(record) + "\n" for record in records))


def test_the_original_projects_folder_is_read(tmp_path):
    folder = write_original_folder(tmp_path / "musdb-pix2pix" / "train")
    splits = load_splits(str(folder), tmp_path / "cache")
    assert list(splits) == ["train"]
    columns = ["original_image", "edited_image", "edit_prompt", "original_prompt", "edited_prompt"]
    assert splits["train"].column_names == columns
    for number, row in enumerate(splits["train"]):
        for kind, column in (("input", "original"), ("edited", "edited")):
            with Path(folder / f"{kind}_image/s{number}_f0_e0.jpg").open("rb") as file:
                assert row[f"{column}_image"].tobytes() == Image.open(file).tobytes()
        assert {row[f"{which}_prompt"] for which in ("original", "edit", "edited")} == {row["edit_prompt"]}


@pytest.mark.parametrize("where", ["absolute", "moved", "windows", "cwd", "deeper"])
def test_pictures_of_the_original_are_found_where_they_are(tmp_path, monkeypatch, where):
    folder = write_original_folder(tmp_path / "train")
    expected = [str(folder / f"input_image/s{number}_f0_e0.jpg") for number in range(3)]
    change = {
        "absolute": lambda name: str(folder / name),
        "moved": lambda name: f"/old/disk/musdb18-pix2pix/train/{name}",
        "windows": lambda name: "D:\\data\\train\\" + name.replace("/", "\\"),
        "cwd": lambda name: f"elsewhere/{name}",
        "deeper": lambda name: f"/old/{name}",
    }[where]
    rewrite(folder, input_file_path=change, edited_file_path=change)
    if where == "cwd":
        (tmp_path / "run" / "elsewhere").mkdir(parents=True)
        for kind in ("input_image", "edited_image"):
            shutil.move(folder / kind, tmp_path / "run" / "elsewhere" / kind)
        monkeypatch.chdir(tmp_path / "run")
        expected = [str(tmp_path / "run/elsewhere/input_image" / Path(path).name) for path in expected]
    if where == "deeper":
        (folder / "pictures").mkdir()
        for kind in ("input_image", "edited_image"):
            (folder / kind).rename(folder / "pictures" / kind)
        expected = [path.replace("/train/", "/train/pictures/") for path in expected]
    assert paths(folder, tmp_path / "cache") == expected
    edited = [path.replace("input_image", "edited_image") for path in expected]
    assert paths(folder, tmp_path / "cache", "edited_image") == edited


def test_the_other_picture_of_the_same_name_is_not_taken(tmp_path):
    folder = write_original_folder(tmp_path / "train")
    shutil.rmtree(folder / "edited_image")
    with pytest.raises(UserError, match=f"{METADATA}, line 1: .*edited_image/s0_f0_e0.jpg"):
        load_splits(str(folder), tmp_path / "cache")


def test_pictures_that_moved_are_found_again(tmp_path):
    folder = write_original_folder(tmp_path / "train")
    shutil.move(folder / "input_image", tmp_path / "other" / "input_image")
    rewrite(folder, input_file_path=lambda name: str(tmp_path / "other" / name))
    assert paths(folder, tmp_path / "cache")[0] == str(tmp_path / "other/input_image/s0_f0_e0.jpg")
    shutil.move(tmp_path / "other" / "input_image", folder / "input_image")
    assert paths(folder, tmp_path / "cache")[0] == str(folder / "input_image/s0_f0_e0.jpg")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"original_image_file_name": "0_in.p', "line 3: isn't JSON"),
        ('["a", "list"]', "line 3: .*isn't a JSON object"),
        (b"\xff\xfe\x00", "line 3: isn't JSON"),
        (
            '{"original_image_file_name": "0_in.png", "edit_prompt": "x"}',
            "line 3: has no column edited_image: 'edited_image_file_name' is missing",
        ),
        (
            '{"original_image_file_name": "0_in.png", "edited_image_file_name": null, "edit_prompt": "x"}',
            "line 3: has no",
        ),
        (
            '{"original_image_file_name": "0_in.png", "edited_image_file_name": "gone.png"}',
            "line 3: there is no .*gone.png",
        ),
        ('{"original_image_file_name": 5, "edited_image_file_name": "0_in.png"}', "line 3: .*5 and not a file's name"),
        ('{"original_image_file_name": "../0_in.png", "edited_image_file_name": "0_in.png"}', "line 3: .*outside"),
        ('{"original_image_file_name": "/etc/passwd", "edited_image_file_name": "0_in.png"}', "line 3: .*outside"),
        (
            '{"original_image_file_name": "0_in.png", "edited_image_file_name": "0_in.png"}',
            "line 3: has no column edit_prompt",
        ),
        (
            '{"original_image_file_name": "0_in.png", "edited_image_file_name": "0_in.png", "edit_prompt": 7}',
            "line 3: 'edit_prompt' is 7 and not a text",
        ),
        ('{"edit_prompt": "x"}', "line 3: has no column original_image"),
        (
            '{"original_image_file_name": "0_in.png", "edited_image_file_name": "0_in.png",'
            ' "edit_prompt": "", "task": 3}',
            "'task' isn't the same kind",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    folder = write_pair_folder(tmp_path / "set" / "Song", 2)
    with (folder / METADATA).open("ab") as file:
        file.write(line if isinstance(line, bytes) else line.encode())
    with pytest.raises(UserError, match=message) as error:
        load_splits(str(tmp_path / "set"), tmp_path / "cache", ["original_image", "edited_image"], ["edit_prompt"])
    assert str(error.value).startswith(str(folder / METADATA)) and "\n" not in str(error.value)


def test_songs_may_know_more_or_less(tmp_path):
    write_pair_folder(tmp_path / "set" / "A", 1, level=1)
    write_pair_folder(tmp_path / "set" / "B", 1, level=0.5, more="x")
    write_pair_folder(tmp_path / "set" / "C", 1, level=None)
    rows = load_splits(str(tmp_path / "set"), tmp_path / "cache")["train"].remove_columns(
        ["original_image", "edited_image"]
    )
    assert list(rows["level"]) == [1.0, 0.5, None] and list(rows["more"]) == [None, "x", None]
    write_pair_folder(tmp_path / "set" / "D", 1, level="loud")
    with pytest.raises(UserError, match=f"set/D/{METADATA}: its records differ in kind"):
        load_splits(str(tmp_path / "set"), tmp_path / "cache")


NAMES = ["set [v2]", "a*b", "what?", "a::b", "{a,b}", "!not", "hf:", b"donn\xe9es", "line\nbreak", "~", "100%41"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["ours", "parquet"])
def test_a_folders_name_is_no_pattern(tmp_path, name, kind):
    folder = tmp_path / os.fsdecode(name)
    write_pair_folder(tmp_path / "a1b", 1)
    write_pair_folder(folder / "Song", 2)
    expected = {"train": ["add a vocal 0", "add a vocal 1"]}
    if kind == "parquet":
        records = load_splits(str(folder), tmp_path / "cache")["train"]
        shutil.rmtree(folder)
        folder.mkdir()
        records.select_columns(["edit_prompt"]).to_parquet(tmp_path / "x.parquet")
        (tmp_path / "x.parquet").rename(folder / "train.parquet")
    assert prompts(folder, tmp_path / "cache") == expected


def test_names_that_are_not_utf8_are_read(tmp_path):
    root = tmp_path / "set"
    write_pair_folder(root / os.fsdecode(b"Bj\xf6rk"), 2)
    write_pair_folder(root / "Plain", 1)
    (root / os.fsdecode(b"stray \xff.txt")).touch()
    (root / "Plain" / "0_in.png").rename(root / "Plain" / "\udce9.png")
    rewrite(root / "Plain", original_image_file_name=lambda _: "\udce9.png")
    for _ in range(2):
        rows = load_splits(str(root), tmp_path / "cache")["train"]
        assert [row["original_image"].size for row in rows] == [(64, 512)] * 3
    names = [Path(path).parent.name for path in paths(root, tmp_path / "cache", "edited_image")]
    assert names == ["Bj%F6rk", "Bj%F6rk", "Plain"]


def test_linked_songs_are_followed_and_loops_end(tmp_path):
    write_pair_folder(tmp_path / "disk" / "One", 2)
    write_pair_folder(tmp_path / "disk" / "Two", 1)
    root = tmp_path / "set"
    root.mkdir()
    (root / "One").symlink_to(tmp_path / "disk" / "One")
    (root / "Two").symlink_to("../disk/Two")
    (tmp_path / "disk" / "One" / "loop").symlink_to(root)
    (root / "again").symlink_to(root)
    assert prompts(root, tmp_path / "cache") == {"train": ["add a vocal 0", "add a vocal 1", "add a vocal 0"]}
    assert len(prompts(tmp_path / "disk" / "One", tmp_path / "cache")["train"]) == 3


@pytest.mark.parametrize("target", ["/not/mounted/Song", "Song"])
def test_a_link_that_leads_nowhere_is_no_lost_song(tmp_path, target):
    write_pair_folder(tmp_path / "set" / "Other", 1)
    (tmp_path / "set" / "Song").symlink_to(target)
    with pytest.raises(UserError, match=f"set/Song, a link to {target}, can't be opened"):
        load_splits(str(tmp_path / "set"), tmp_path / "cache")


def test_hidden_folders_are_passed_over(tmp_path):
    for name in ("Song", ".trash", "__MACOSX"):
        write_pair_folder(tmp_path / ".hidden" / name, 1)
    assert prompts(tmp_path / ".hidden", tmp_path / "cache") == {"train": ["add a vocal 0"]}


@pytest.mark.parametrize(
    ("relative", "split"),
    [
        ("train/A", "train"),
        ("valid/A", "validation"),
        ("my-test_2/A", "test"),
        ("dev", "validation"),
        ("A", "train"),
        ("Contested", "train"),
        ("sets/eval/A", "test"),
        (".", "train"),
    ],
)
def test_splits_are_those_of_datasets(relative, split):
    assert split_of_folders(Path(relative)) == split


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_no_empty_folder(tmp_path):
    write_pair_folder(tmp_path / "set", 2)
    code = "import sys; from riffusion.pairs.dataset import load_splits; print(len(load_splits(sys.argv[1])['train']))"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "set"],
        cwd=ROOT,
        env=variables | {"HOME": "/dev/null", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout == "2\n" and "can't be written" in result.stderr
    assert not list(tmp_path.glob("riff-pix2pix-*"))


def test_what_was_read_is_mapped_until_it_changes(tmp_path):
    folder = write_pair_folder(tmp_path / "set" / "Song", 2)
    first, again = (load_splits(str(tmp_path / "set"), tmp_path / "cache")["train"] for _ in range(2))
    assert first.cache_files == again.cache_files and first._fingerprint == again._fingerprint
    write_picture(folder / "new.png", 9)
    rewrite(folder, original_image_file_name=lambda _: "new.png")
    assert {Path(path).name for path in paths(tmp_path / "set", tmp_path / "cache")} == {"new.png"}


@pytest.mark.parametrize("kind", ["empty", "no records", "file", "broken parquet", "other columns"])
def test_a_folder_without_pairs_is_told_apart(tmp_path, kind):
    folder = tmp_path / "set"
    folder.mkdir()
    message = f"^{folder}: contains no pairs"
    if kind == "no records":
        (folder / METADATA).touch()
        message += ", its metadata.jsonl is empty"
    if kind == "broken parquet":
        (folder / "train.parquet").write_bytes(b"PAR1 and no more")
        message = f"^{folder / 'train.parquet'}: cut short or damaged"
    if kind == "file":
        folder = write_pair_folder(tmp_path / "pairs") / METADATA
        message = f"^{folder}: is a file"
    if kind == "other columns":
        (folder / METADATA).write_text('{"caption": "x"}\n')
        message = f"^{folder / METADATA}, line 1: names no pictures, it has 'caption'"
    with pytest.raises(UserError, match=message):
        load_splits(str(folder), tmp_path / "cache")
