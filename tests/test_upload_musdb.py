import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_CLIP, write_original_folder, write_pair_folder, write_song
from datasets import Dataset, Image, load_dataset
from huggingface_hub import DatasetCard
from loopback_hub import HANG_UP, USER, LoopbackHub, client_environment, loopback_hub

import preprocess_musdb
import upload_musdb
from riffusion.pairs import parquet as parquet_files
from riffusion.pairs.dataset import load_splits
from riffusion.pairs.parquet import survey_split
from riffusion.util.errors import UserError

ROOT = Path(upload_musdb.__file__).parent
UPLOAD = """
import json, sys
from pathlib import Path
from riffusion.util import errors, hub
try:
    print(hub.upload_folder(Path(sys.argv[1]), **json.loads(sys.argv[2])))
except errors.UserError as error:
    print("error:", error)
"""
LOAD = "import sys, datasets; datasets.load_dataset(sys.argv[1]).save_to_disk(sys.argv[2])"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of a training song and a test song."""
    root = tmp_path_factory.mktemp("upload")
    for name in ("train/Band - First", "test/Band - Second"):
        write_song(root / "songs" / name)
    flags = ["--root_data_dir", str(root / "songs"), "--output_dir", str(root / "pairs"), "--num_proc", "1"]
    preprocess_musdb.main(preprocess_musdb.parse_args([*flags, "--silence", *TINY_CLIP]))
    return root / "pairs"


@pytest.fixture(scope="module")
def parquet(pairs, tmp_path_factory):
    """The pairs as `upload_musdb.py --output_dir` writes them."""
    folder = tmp_path_factory.mktemp("parquet")
    write(pairs, folder)
    return folder


@pytest.fixture
def hub():
    with loopback_hub() as server:
        yield server


def write(pairs: Path, folder: Path, *flags: str) -> None:
    args = upload_musdb.parse_args(["--data_root", str(pairs), "--output_dir", str(folder), *flags])
    assert upload_musdb.main(args) == 0


def run(hub_url: str, home: Path, *command: object, **environment) -> subprocess.CompletedProcess:
    """Run Python in a process whose Hub is at `hub_url`."""
    variables = client_environment(hub_url, home, **environment)
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
    )


def upload(hub: LoopbackHub, home: Path, folder: Path, *, xet: bool = False, **settings) -> str:
    """Upload a folder as "somebody/things" in a process of its own; returns its URL, or "error: " and the line."""
    settings = {"repo_id": "things", "repo_type": "dataset", **settings}
    result = run(hub.url, home, "-c", UPLOAD, folder, json.dumps(settings), xet=xet)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def two_files(folder: Path) -> tuple[str, str]:
    """Write data/a.bin and data/b.bin that no one can compress; returns their SHA-256."""
    (folder / "data").mkdir(parents=True)
    for seed, name in enumerate(("a.bin", "b.bin")):
        (folder / "data" / name).write_bytes(np.random.default_rng(seed).bytes(100_000))
    return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "data").iterdir()))


def rows(split: Dataset) -> list[dict]:
    """Rows with pictures as bytes: those inside the dataset, or else of the file that it names."""
    pictures = [name for name, feature in split.features.items() if isinstance(feature, Image)]
    for name in pictures:
        split = split.cast_column(name, Image(decode=False))
    found = [dict(row) for row in split]
    for row in found:
        for name in pictures:
            row[name] = row[name]["bytes"] or Path(row[name]["path"]).read_bytes()
    return found


def assert_same_rows(source: Dataset, uploaded: Dataset) -> None:
    assert uploaded.features == source.features
    assert None not in uploaded.data["original_image"].combine_chunks().field("bytes").to_pylist()
    for row, expected in zip(rows(uploaded), rows(source), strict=True):
        np.testing.assert_equal(row, expected)  # NaN equals NaN


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_parquet_holds_the_same_rows(pairs, parquet):
    splits, again = load_splits(str(pairs)), load_dataset(str(parquet))
    assert list(again) == list(splits) and len(splits) == 2
    for name, split in splits.items():
        assert_same_rows(split, again[name])


def test_a_large_split_becomes_several_files(pairs, tmp_path, monkeypatch):
    splits = load_splits(str(pairs))
    third = survey_split(splits["train"]).picture_bytes // 3 + 1
    monkeypatch.setattr("riffusion.pairs.parquet.SHARD_BYTES", third)
    write(pairs, tmp_path)
    assert sorted(path.name for path in (tmp_path / "data").glob("train*")) == [
        f"train-{index:05d}-of-00003.parquet" for index in range(3)
    ]
    assert_same_rows(splits["train"], load_dataset(str(tmp_path))["train"])


def test_num_samples_to_use_counts_all_splits_together(pairs, tmp_path):
    splits = load_splits(str(pairs))
    write(pairs, tmp_path / "more", "--num_samples_to_use", str(len(splits["train"]) + 1))
    more = load_dataset(str(tmp_path / "more"))
    assert {name: len(split) for name, split in more.items()} == {"train": len(splits["train"]), "test": 1}
    write(pairs, tmp_path / "fewer", "--num_samples_to_use", "2")
    fewer = load_dataset(str(tmp_path / "fewer"))
    assert list(fewer) == ["train"]
    assert_same_rows(splits["train"].select(range(2)), fewer["train"])


def test_a_second_run_writes_only_what_is_missing(pairs, tmp_path):
    write(pairs, tmp_path)
    before = files_below(tmp_path)
    test, train = sorted((tmp_path / "data").iterdir())
    written = train.stat().st_mtime_ns
    test.rename(test.with_name(test.name + ".part"))
    (tmp_path / "README.md").write_text("my own words")
    write(pairs, tmp_path)
    assert files_below(tmp_path) == {**before, "README.md": b"my own words"}
    assert train.stat().st_mtime_ns == written


def test_changed_pairs_are_noticed(pairs, tmp_path, capsys):
    copy = shutil.copytree(pairs, tmp_path / "pairs")
    write(copy, tmp_path / "parquet", "--num_samples_to_use", "2")
    write(copy, tmp_path / "parquet")
    assert "other pairs" in capsys.readouterr().out
    picture = next(copy.rglob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"one byte more, after the picture's end")
    write(copy, tmp_path / "parquet")
    assert "other pairs" in capsys.readouterr().out
    again = load_dataset(str(tmp_path / "parquet"))
    for name, split in load_splits(str(copy)).items():
        assert_same_rows(split, again[name])
    write(copy, tmp_path / "parquet")
    assert "other pairs" not in capsys.readouterr().out


def test_the_card_counts_and_tells_the_flags(pairs, parquet):
    card = DatasetCard.load(parquet / "README.md")
    splits = load_splits(str(pairs))
    assert card.data.license is None and card.data.size_categories == ["n<1K"]
    assert {split["name"]: split["num_examples"] for split in card.data.dataset_info["splits"]} == {
        name: len(split) for name, split in splits.items()
    }
    for name, split in splits.items():
        counts = [line.split("|")[2:6] for line in card.text.splitlines() if line.startswith(f"| {name} |")]
        assert {task.strip() for _, task, _, _ in counts} == set(split["task"])
        assert sum(int(count) for _, _, count, _ in counts) == len(split)
    assert "| frame_len_seconds | 0.63 |" in card.text and str(pairs.parent) not in card.text
    assert "| max_examples | - |" in card.text and "| None |" not in card.text


def test_the_original_projects_pairs_are_uploaded(tmp_path, capsys):
    folder = write_original_folder(tmp_path / "musdb-pix2pix" / "train")
    write(folder, tmp_path / "parquet")
    assert capsys.readouterr().out.count("16-bit integers") == 1
    again = load_dataset(str(tmp_path / "parquet"))["train"]
    for number, row in enumerate(rows(again)):
        for kind, column in (("input", "original_image"), ("edited", "edited_image")):
            assert row[column] == (folder / f"{kind}_image" / f"s{number}_f0_e0.jpg").read_bytes()
        prompt = f"add a male vocal soft rock melody, number {number}."
        assert {row[f"{which}_prompt"] for which in ("original", "edit", "edited")} == {prompt}
    write(tmp_path / "parquet", tmp_path / "once more")
    assert_same_rows(again, load_dataset(str(tmp_path / "once more"))["train"])


def test_a_damaged_picture_is_not_published(tmp_path):
    folder = write_pair_folder(tmp_path / "set" / "Song")
    picture = folder / "1_in.png"
    content = bytearray(picture.read_bytes())
    content[len(content) // 2] ^= 1
    for bad in (content, content[:2000]):
        picture.write_bytes(bad)
        with pytest.raises(UserError, match=f"^{picture}: can't read this picture"):
            write(tmp_path / "set", tmp_path / "parquet")
        assert not (tmp_path / "parquet").exists()


@pytest.mark.parametrize("name", ["set [v2]", "a::b", "donn\udce9es"])
def test_a_folder_of_any_name_is_uploaded(tmp_path, name):
    folder = write_pair_folder(tmp_path / name / "Song").parent
    write(folder, tmp_path / "parquet")
    assert len(load_dataset(str(tmp_path / "parquet"))["train"]) == 3


def test_bad_input_is_refused(pairs, tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="other files"):
        write(pairs, tmp_path)
    for folder, reason in {tmp_path: "contains no pairs", tmp_path / "nowhere": "no such folder"}.items():
        with pytest.raises(UserError, match=reason):
            write(folder, tmp_path / "parquet")
    for flags in (["--private"], ["--revision", "v2"], ["--num_samples_to_use", "0"]):
        with pytest.raises(SystemExit):
            upload_musdb.parse_args(["--data_root", str(pairs), "--output_dir", str(tmp_path), *flags])
        assert flags[0] in capsys.readouterr().err


def test_the_script_uploads_what_it_wrote(hub, pairs, tmp_path):
    result = run(hub.url, tmp_path, "upload_musdb.py", "--data_root", pairs, "--revision", "v2")
    name = f"{USER}/musdb18-spec-pix2pix"
    assert result.stdout.splitlines()[-1].endswith(f"{hub.url}/datasets/{name}/tree/v2"), result.stderr
    local = files_below(pairs.with_name("pairs-parquet"))
    local.pop("source.json")
    assert hub.branches[name]["v2"] == {".gitattributes": b"", **local}
    splits = load_splits(str(pairs))
    for split in splits:
        (tmp_path / f"{split}.parquet").write_bytes(hub.branches[name]["v2"][f"data/{split}-00000-of-00001.parquet"])
        again = load_dataset("parquet", data_files=str(tmp_path / f"{split}.parquet"), split="train")
        assert_same_rows(splits[split], again)


def test_load_dataset_reads_the_hub(hub, parquet, pairs, tmp_path):
    hub.branches[f"{USER}/things"] = {"main": files_below(parquet)}
    hub.private[f"{USER}/things"] = False
    result = run(hub.url, tmp_path / "home", "-c", LOAD, f"{USER}/things", tmp_path / "loaded")
    assert result.returncode == 0, result.stderr
    for name, split in load_splits(str(pairs)).items():
        assert_same_rows(split, Dataset.load_from_disk(tmp_path / "loaded" / name))


def test_without_login_the_local_files_stay(hub, pairs, tmp_path):
    flags = ["--data_root", pairs, "--output_dir", tmp_path / "parquet", "--repo_id", "things"]
    result = run(hub.url, tmp_path / "home", "upload_musdb.py", *flags, token=None)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    error = result.stderr.splitlines()[-1]
    assert error.startswith("error: ") and "hf auth login" in error and str(tmp_path / "parquet") in error
    assert len(load_dataset(str(tmp_path / "parquet"))) == 2 and hub.branches == {}


def test_without_the_hub_the_local_files_stay(pairs, tmp_path, monkeypatch):
    with loopback_hub() as gone:
        pass
    two_files(tmp_path / "folder")
    assert "can't be reached" in upload(gone, tmp_path, tmp_path / "folder")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="can't be reached"):
        write(pairs, tmp_path / "parquet", "--repo_id", "things")
    assert len(load_dataset(str(tmp_path / "parquet"))) == 2


def test_a_stumbling_hub_is_asked_again(hub, tmp_path):
    two_files(tmp_path / "folder")
    hub.refuse("PUT /storage", 1, 503)  # the client itself tries this one again
    hub.refuse("/commit/", 1, HANG_UP)
    assert upload(hub, tmp_path, tmp_path / "folder") == f"{hub.url}/datasets/{USER}/things"
    assert hub.branches[f"{USER}/things"]["main"] == {".gitattributes": b"", **files_below(tmp_path / "folder")}
    assert hub.count("PUT /storage") == 3 and hub.count("/commit/") == 2


def test_an_upload_that_was_cut_short_goes_on(hub, tmp_path):
    first, second = two_files(tmp_path / "folder")
    hub.refuse(f"PUT /storage/{second}", 1, 403)
    assert "403" in upload(hub, tmp_path, tmp_path / "folder")
    assert list(hub.storage) == [first]
    files = hub.branches[f"{USER}/things"]["main"]
    files.update({"data/old.bin": b"of an earlier upload", "notes.md": b"of somebody else"})
    upload(hub, tmp_path, tmp_path / "folder", replace=["data/*"])
    assert hub.count(f"PUT /storage/{first}") == 1
    assert files.keys() == {".gitattributes", "notes.md", "data/a.bin", "data/b.bin"}


def test_what_should_be_private_is_not_added_to_what_is_public(hub, tmp_path):
    two_files(tmp_path / "folder")
    hub.branches[f"{USER}/things"], hub.private[f"{USER}/things"] = {"main": {}}, False
    assert "already exists and is public" in upload(hub, tmp_path, tmp_path / "folder", private=True)
    assert hub.storage == {} and hub.branches[f"{USER}/things"] == {"main": {}}


def test_xet_is_what_the_client_uses_by_default(hub, tmp_path):
    two_files(tmp_path / "folder")
    (tmp_path / "folder/data/b.bin").unlink()
    url = upload(hub, tmp_path, tmp_path / "folder", xet=True, private=True)
    assert url == f"{hub.url}/datasets/{USER}/things" and hub.private == {f"{USER}/things": True}
    assert hub.branches[f"{USER}/things"]["main"] == {".gitattributes": b"", **files_below(tmp_path / "folder")}
    assert hub.count("xorbs") == 1 and hub.count("PUT /storage") == 0


def test_a_name_that_no_dataset_can_have_is_refused_before_anything_is_written(pairs, tmp_path):
    with pytest.raises(UserError, match="Repo id must"):
        write(pairs, tmp_path / "parquet", "--repo_id", "mine [v2]")
    assert not (tmp_path / "parquet").exists()


def test_what_a_failed_upload_says_can_be_done(hub, tmp_path):
    two_files(tmp_path / "folder")
    hub.refuse("/commit/", 9, 403)
    assert "the same command goes on with it" in upload(hub, tmp_path, tmp_path / "folder")
    said = upload(hub, tmp_path, tmp_path / "folder", repo_type="model")
    assert "the same command with --resume_from_checkpoint latest uploads it" in said


def test_an_interruption_says_how_many_files_are_kept(pairs, tmp_path, monkeypatch):
    write_shard, folder = parquet_files.write_shard, tmp_path / "folder"

    def interrupted(rows, path: Path) -> None:
        if path.name.startswith("test"):
            raise KeyboardInterrupt
        write_shard(rows, path)

    monkeypatch.setattr(parquet_files, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt) as ending:
        write(pairs, folder)
    assert ending.value.__notes__ == ["1 file kept; the same command goes on"]
