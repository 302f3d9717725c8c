import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, TINY_CLIP, tone, write_song
from datasets import load_dataset

import preprocess_musdb
from riffusion import audio
from riffusion.dataset import load_splits
from riffusion.errors import UserError


def run(root, output, *flags: str) -> int:
    common = ["--root_data_dir", str(root), "--output_dir", str(output), "--num_proc", "1", "--silence", *TINY_CLIP]
    return preprocess_musdb.main(preprocess_musdb.parse_args([*common, *flags]))


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_pairs_read_as_an_imagefolder(songs, tmp_path):
    assert run(songs, tmp_path / "pairs") == 0
    pairs = load_dataset("imagefolder", data_dir=str(tmp_path / "pairs"))["train"]
    first = pairs[0]
    assert len(pairs) == 2 * 4
    assert first["original_image"].size == first["edited_image"].size == (64, 512)
    assert {"original_prompt", "edit_prompt", "edited_prompt"} < set(pairs.column_names)
    assert (first["song"], first["painted_stem"], first["target"], first["task"]) == (
        "Band - First",
        "vocals",
        "stem",
        "add",
    )
    assert first["backing_stems"] == "bass, drums, other"
    report = json.loads((tmp_path / "pairs" / "report.json").read_text())
    assert (report["songs"], report["pairs"]) == (2, 8)
    assert report["songs without labels"] == ["Band - First", "Band - Second"]


def test_a_pair_shares_one_scale(songs, tmp_path):
    run(songs, tmp_path / "pairs", "--target", "mix")
    pairs = load_dataset("imagefolder", data_dir=str(tmp_path / "pairs"))["train"]
    for pair in pairs:
        tops = [pair[column].getexif()[11080] for column in ("original_image", "edited_image")]
        assert tops == pytest.approx([pair["max_value"]] * 2, rel=1e-6)


def test_a_silent_painted_stem_leaves_the_mix_as_it_is(tmp_path):
    args = preprocess_musdb.parse_args(["--root_data_dir", ".", "--output_dir", str(tmp_path), "--target", "mix"])
    converter = preprocess_musdb.SpectrogramConverter(preprocess_musdb.spectrogram_params(args))
    backing = tone(220, 5.11)[:, : converter.params.clip_samples]
    preprocess_musdb.draw_pair(backing, 0 * backing, tmp_path / "silent", converter, args)
    pictures = [(tmp_path / f"silent_{name}.png").read_bytes() for name in ("original", "edited")]
    assert pictures[0] == pictures[1]


def test_no_power_filter_keeps_silent_clips_whose_pictures_are_equal(tmp_path):
    half = tone(330, 1.5)
    write_song(tmp_path / "songs" / "song", vocals=np.concatenate([half, 0 * half], axis=1))
    run(tmp_path / "songs", tmp_path / "pairs", "--target", "mix", "--frame_min_power_prop", "0")
    pairs = load_splits(str(tmp_path / "pairs"))["train"]
    equal = [np.array_equal(pair["original_image"], pair["edited_image"]) for pair in pairs]
    assert equal == [False, False, False, True]


def test_wav_files_of_a_pair_add_up(songs, tmp_path):
    run(songs, tmp_path / "pairs", "--save_wav", "--max_examples", "1")
    original, edited = (audio.load_audio(next(tmp_path.rglob(f"*_{name}.wav")))[0] for name in ("original", "edited"))
    loaded = {name: audio.load_audio(songs / "Band - First" / f"{name}.wav")[0] for name in ("vocals", "bass")}
    gain = json.loads((tmp_path / "pairs" / "metadata.jsonl").read_text())["gain"]
    assert edited == pytest.approx(gain * loaded["vocals"][:, : edited.shape[1]], abs=1e-4)
    assert np.abs(original).max() <= 1


def test_a_songs_name_never_becomes_a_split(tmp_path):
    write_song(tmp_path / "songs" / "my test, dev and valid song")
    run(tmp_path / "songs", tmp_path / "pairs")
    assert {name: len(split) for name, split in load_splits(str(tmp_path / "pairs")).items()} == {"train": 4}


def test_stems_of_different_channels_go_together(tmp_path):
    write_song(tmp_path / "songs" / "song", bass=np.vstack([tone(82.4, 3.0)] * 2), drums=np.zeros((6, 3 * RATE)))
    assert run(tmp_path / "songs", tmp_path / "pairs") == 0


def test_pitch_augmentation_is_seven_fold(songs, tmp_path):
    run(songs, tmp_path / "plain")
    run(songs, tmp_path / "augmented", "--pitch_augment")
    count = [len((tmp_path / name / "metadata.jsonl").read_text().splitlines()) for name in ("plain", "augmented")]
    assert 6 < count[1] / count[0] < 8  # higher is shorter: a clip more or less fits


def test_a_second_run_finishes_or_does_nothing(songs, tmp_path):
    run(songs, tmp_path / "pairs")
    before = files(tmp_path / "pairs")
    next((tmp_path / "pairs").glob("*Second*/song.json")).unlink()
    (tmp_path / "pairs" / "metadata.jsonl").unlink()
    run(songs, tmp_path / "pairs")
    assert files(tmp_path / "pairs") == before
    with pytest.raises(UserError, match="--target"):
        run(songs, tmp_path / "pairs", "--target", "mix")
    with pytest.raises(UserError, match="something else"):
        run(songs, tmp_path)
    assert files(tmp_path / "pairs") == before


def test_processes_change_nothing(songs, tmp_path):
    run(songs, tmp_path / "one")
    run(songs, tmp_path / "two", "--num_proc", "2")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_subsets_become_splits(tmp_path):
    for subset in ("train", "test"):
        write_song(tmp_path / "root" / subset / f"{subset} song")
    run(tmp_path / "root", tmp_path / "pairs")
    splits = load_dataset("imagefolder", data_dir=str(tmp_path / "pairs"))
    assert {name: set(split["song"]) for name, split in splits.items()} == {
        "train": {"train song"},
        "test": {"test song"},
    }


def test_max_examples_stops(songs, tmp_path):
    run(songs, tmp_path / "pairs", "--max_examples", "5")
    assert len((tmp_path / "pairs" / "metadata.jsonl").read_text().splitlines()) == 5


def test_one_songs_failure_is_its_own(songs, tmp_path, capsys):
    (songs / "empty").mkdir()
    write_song(songs / "no bass")
    (songs / "no bass" / "bass.wav").unlink()
    write_song(songs / "short", seconds=0.3)
    write_song(songs / "silent", vocals=np.zeros((1, 3 * RATE)))
    broken = write_song(songs / "nan")
    soundfile.write(broken / "vocals.wav", np.full((3 * RATE, 1), np.nan, np.float32), RATE, subtype="FLOAT")
    (songs / "broken.stem.mp4").write_bytes(b"not a film")
    assert run(songs, tmp_path / "pairs") == 2
    failed = json.loads((tmp_path / "pairs" / "report.json").read_text())["songs failed"]
    reasons = {
        "empty": "holds no stem",
        "no bass": "stem missing: bass",
        "short": "shorter than a clip",
        "silent": "silent throughout",
        "nan": "NaN",
        "broken": "can't be read",
    }
    assert set(failed) == set(reasons)
    for song, reason in reasons.items():
        assert reason in failed[song]
    assert len(capsys.readouterr().err.splitlines()) == len(reasons)
    assert len(load_dataset("imagefolder", data_dir=str(tmp_path / "pairs"))["train"]) == 8


def test_bad_flags_write_nothing(songs, tmp_path):
    output = tmp_path / "pairs"
    for flags, reason in {
        ("--gen_stem", "trumpet"): "no song has a stem named 'trumpet'; there are bass, drums, other, vocals",
        ("--prompt_filepath", str(tmp_path / "none.json")): "no such prompt file",
    }.items():
        with pytest.raises(UserError, match=reason):
            run(songs, output, *flags)
    wrong = {"--frame_overlap": "1", "--frame_len_seconds": "nan", "--fs": "16000", "--device": "nope"}
    for flag, value in wrong.items():
        with pytest.raises(SystemExit) as exit_code:
            run(songs, output, flag, value)
        assert exit_code.value.code == 2
    assert not output.exists()


def test_a_root_of_bad_songs_leaves_nothing_behind(tmp_path, capsys):
    write_song(tmp_path / "songs" / "short", seconds=0.3)
    with pytest.raises(UserError, match="nothing was written"):
        run(tmp_path / "songs", tmp_path / "pairs")
    assert "short: 0.30 s is shorter" in capsys.readouterr().err
    assert not (tmp_path / "pairs").exists()


def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "preprocess_musdb.py", "--root_data_dir", str(tmp_path), "--output_dir", "nowhere"]
    run = subprocess.run(command, cwd=Path(preprocess_musdb.__file__).parent, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {tmp_path}: holds no song")
    assert run.stderr.count("\n") == 1


def test_musdb18s_own_format(tmp_path):
    from riffusion.stems import example_song

    (tmp_path / "root" / "test").mkdir(parents=True)
    (tmp_path / "root" / "test" / "song.stem.mp4").symlink_to(example_song().path)
    assert run(tmp_path / "root", tmp_path / "pairs") == 0
    assert (tmp_path / "pairs" / "test" / "metadata.jsonl").is_file()
