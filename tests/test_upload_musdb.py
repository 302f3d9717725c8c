import shutil

import numpy as np
import pytest
from conftest import TINY_CLIP
from datasets import load_dataset

import preprocess_musdb
import upload_musdb
from riffusion.errors import UserError


@pytest.fixture
def pairs(songs, tmp_path):
    flags = ["--root_data_dir", str(songs), "--output_dir", str(tmp_path / "pairs"), "--num_proc", "1", "--silence"]
    preprocess_musdb.main(preprocess_musdb.parse_args([*flags, *TINY_CLIP]))
    return tmp_path / "pairs"


def test_parquet_holds_the_same_rows_without_the_folder(pairs, tmp_path):
    rows = list(load_dataset("imagefolder", data_dir=str(pairs))["train"])
    parquet = tmp_path / "parquet"
    assert upload_musdb.main(upload_musdb.parse_args(["--data_root", str(pairs), "--output_dir", str(parquet)])) == 0
    rows = [{name: np.asarray(value) for name, value in row.items()} for row in rows]
    shutil.rmtree(pairs)
    again = load_dataset(str(parquet))["train"]
    assert len(again) == len(rows)
    for row, other in zip(rows, again, strict=True):
        assert all((value == np.asarray(other[name])).all() for name, value in row.items())


def test_num_samples_to_use_is_what_is_written(pairs, tmp_path):
    flags = ["--data_root", str(pairs), "--output_dir", str(tmp_path / "parquet"), "--num_samples_to_use", "3"]
    upload_musdb.main(upload_musdb.parse_args(flags))
    assert len(load_dataset(str(tmp_path / "parquet"))["train"]) == 3


def test_without_the_hub_the_pairs_stay(pairs, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="--output_dir"):
        upload_musdb.main(upload_musdb.parse_args(["--data_root", str(pairs)]))
    assert (pairs / "metadata.jsonl").is_file()


def test_a_folder_without_pairs_is_refused(tmp_path):
    for folder, reason in {tmp_path: "holds no pairs", tmp_path / "nowhere": "no such folder"}.items():
        with pytest.raises(UserError, match=reason):
            upload_musdb.main(upload_musdb.parse_args(["--data_root", str(folder)]))
