import contextlib
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, TINY_CLIP, tone, write_song
from datasets import load_dataset
from filelock import FileLock
from PIL import Image
from whole_songs import load_stems

import preprocess_musdb
from riffusion import audio
from riffusion.image import mel_from_pixels
from riffusion.pairs import song_job, stems
from riffusion.pairs.dataset import load_splits
from riffusion.pairs.pair import METADATA, Pair, read_records
from riffusion.pairs.preview import choose_pairs
from riffusion.pairs.stems import Song, example_song
from riffusion.pairs.tasks import Edit, task_named
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams
from riffusion.util.errors import UserError


def run(root, output, *flags: str) -> int:
    common = ["--root_data_dir", str(root), "--output_dir", str(output), "--num_proc", "1", "--silence", *TINY_CLIP]
    return preprocess_musdb.main(preprocess_musdb.parse_args([*common, *flags]))


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def records(folder: Path) -> list[dict]:
    lines = [line for path in sorted(folder.rglob("metadata.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def read_pairs(folder: Path) -> list[Pair]:
    return [pair for path in sorted(folder.rglob(METADATA)) for pair in read_records(path)]


def test_pairs_read_as_an_imagefolder(songs, tmp_path):
    assert run(songs, tmp_path / "pairs") == 0
    pairs = load_dataset("imagefolder", data_dir=str(tmp_path / "pairs"))["train"]
    assert len(pairs) == 2 * 4 * 6
    assert {name for name in pairs.column_names if name.endswith("image")} == {"original_image", "edited_image"}
    files = {"original_image_file_name", "edited_image_file_name"}
    assert set(next(iter(read_pairs(tmp_path / "pairs"))).columns()) - set(pairs.column_names) == files
    assert (
        {pair["original_image"].size for pair in pairs} == {pair["edited_image"].size for pair in pairs} == {(64, 512)}
    )
    assert set(pairs["task"]) == {"add", "remove", "extract", "keep"}
    assert set(pairs["painted_stem"]) == {"vocals", "bass", "drums", "other", ""}
    report = json.loads((tmp_path / "pairs" / "report.json").read_text())
    assert (report["songs"], report["pairs"]) == (2, 48)
    assert sum(report["pairs by edit"].values()) == 48
    assert report["songs without labels"] == ["Band - First", "Band - Second"]


def test_a_pair_shares_one_scale(songs, tmp_path):
    run(songs, tmp_path / "pairs", "--target", "mix")
    pairs = load_dataset("imagefolder", data_dir=str(tmp_path / "pairs"))["train"]
    for pair in pairs:
        tops = [pair[column].getexif()[11080] for column in ("original_image", "edited_image")]
        assert tops == pytest.approx([pair["max_value"]] * 2, rel=1e-6)
        assert pair["original_image"].getexif()[11000] == RATE


def decoded(folder: Path, record: dict, column: str) -> np.ndarray:
    path = next(folder.rglob(record[f"{column}_image_file_name"]))
    return mel_from_pixels(np.asarray(Image.open(path)), record["max_value"])


@pytest.mark.parametrize("target", ["stem", "mix"])
def test_pictures_show_what_the_record_says(songs, tmp_path, target):
    (songs / "Band - Second").rename(tmp_path / "aside")
    run(songs, tmp_path / "pairs", "--target", target, "--pairs_per_clip", "8")
    loaded = {name: stem[0] for name, stem in load_stems(Song("song", songs / "Band - First")).items()}
    converter = SpectrogramConverter(SpectrogramParams(num_frames=64))
    made = records(tmp_path / "pairs")
    assert len({record["task"] for record in made}) == 4
    for record in made:
        start = round(record["start_seconds"] * RATE)
        backing = set(record["backing_stems"].split(", "))
        edit = Edit(task_named(record["task"]), record["painted_stem"])
        answer = edit.painted() if target == "stem" else edit.result(frozenset(backing))
        for column, names in {"original": backing, "edited": answer}.items():
            shown = decoded(tmp_path / "pairs", record, column)
            if not names:
                assert not shown.any()
                continue
            heard = sum(loaded[name][start : start + converter.params.clip_samples] for name in names)
            signal = torch.from_numpy(record["gain"] * heard)[None]
            expected = converter.mel_amplitudes_from_waveform(signal)[0].numpy()
            levels = [(mel / record["max_value"]).clip(0, 1) ** 0.25 for mel in (shown, expected)]
            assert np.abs(levels[0] - levels[1]).max() < 1.1 / 255


def test_nothing_but_keep_can_be_asked_for(songs, tmp_path):
    assert run(songs, tmp_path / "pairs", "--tasks", "keep", "--pairs_per_clip", "1") == 0
    assert {record["task"] for record in records(tmp_path / "pairs")} == {"keep"}
    assert len(records(tmp_path / "pairs")) == 2 * 4


def test_keep_leaves_the_mix_as_it_is(songs, tmp_path):
    run(songs, tmp_path / "pairs", "--target", "mix", "--pairs_per_clip", "8")
    kept = [record for record in records(tmp_path / "pairs") if record["task"] == "keep"]
    assert kept
    assert all(record["original_image_file_name"] == record["edited_image_file_name"] for record in kept)


def test_only_what_is_asked_for(songs, tmp_path):
    run(songs, tmp_path / "pairs", "--gen_stem", "vocals", "--tasks", "add", "--subset_prob", "0")
    made = records(tmp_path / "pairs")
    assert len(made) == 2 * 4  # without subsets there is one backing to add vocals to
    asked = {(record["task"], record["painted_stem"], record["backing_stems"]) for record in made}
    assert asked == {("add", "vocals", "bass, drums, other")}


def test_one_backing_is_asked_for_several_stems(songs, tmp_path):
    run(songs, tmp_path / "pairs")
    asked = defaultdict(set)
    for record in records(tmp_path / "pairs"):
        asked[record["song"], record["clip"], record["backing_stems"]].add(record["painted_stem"])
    assert len(asked) == 2 * 4 * 2
    assert all(len(stems) >= 2 for stems in asked.values())


def write_parts(folder: Path, names: list[str], seconds: float = 1.3) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        audio.save_wav(folder / f"{name}.wav", tone(80 * 1.12**number, seconds, level=0.03), RATE)


def test_a_stem_with_quotes_and_braces_in_its_name_makes_pairs(tmp_path):
    write_parts(tmp_path / "songs" / "Song", ['12" guitar', "{lead}", "back\\slash"])
    assert run(tmp_path / "songs", tmp_path / "pairs") == 0
    for record in records(tmp_path / "pairs"):
        assert record["painted_stem"] in record["edit_prompt"]
    assert {record["painted_stem"] for record in records(tmp_path / "pairs")} > {'12" guitar'}


def test_a_song_of_many_stems(tmp_path):
    names = [f"a stem whose name is long, {number}" for number in range(24)]
    write_parts(tmp_path / "songs" / "Song", names)
    assert run(tmp_path / "songs", tmp_path / "pairs", "--target", "mix", "--min_level_db", "-40") == 0
    made = records(tmp_path / "pairs")
    assert len(made) == 2 * 6
    assert len({record["backing_stems"] for record in made}) == 4
    pictures = {(record["clip"], record["edited_image_file_name"]) for record in made}
    mixes = {(record["clip"], record["backing_stems"], record["task"], record["painted_stem"]) for record in made}
    assert len(pictures) == len(mixes)


def test_a_clip_of_many_stems_is_asked_for_as_many_as_one_of_four(tmp_path):
    write_parts(tmp_path / "songs" / "Song", [f"part {number}" for number in range(24)])
    assert run(tmp_path / "songs", tmp_path / "pairs", "--min_level_db", "-40") == 0
    painted, pictures = defaultdict(set), defaultdict(set)
    for record in records(tmp_path / "pairs"):
        painted[record["clip"]] |= {record["painted_stem"]} - {""}
        pictures[record["clip"]] |= {record["original_image_file_name"], record["edited_image_file_name"]}
    assert {len(stems) for stems in painted.values()} <= {2, 3, 4}
    assert len(set.union(*painted.values())) > 4  # others in every clip
    assert max(len(drawn) for drawn in pictures.values()) <= 2 + 6


def test_a_clip_that_no_backing_suits_is_given_up(tmp_path):
    names = [f"part {number}" for number in range(16)]
    write_parts(tmp_path / "songs" / "Song", names, seconds=0.64)
    audio.save_wav(tmp_path / "songs" / "Song" / "part 0.wav", tone(80, 0.64), RATE)
    flags = ("--tasks", "add", "--gen_stem", "part 0", "--min_level_db", "39", "--max_level_db", "40")
    started = time.monotonic()
    with pytest.raises(UserError, match="no pair was made"):
        run(tmp_path / "songs", tmp_path / "pairs", *flags)
    assert time.monotonic() - started < 10  # 32 767 backings would take minutes


def test_quiet_parts_are_counted_not_kept(tmp_path):
    half = tone(330, 1.5)
    write_song(
        tmp_path / "songs" / "song",
        vocals=np.concatenate([half, 0.001 * half], axis=1),  # sings in the first half
        bass=0.02 * tone(82.4, 3.0),  # 34 dB under the others
        drums=tone(2000.0, 3.0, level=0.01),
    )
    run(tmp_path / "songs", tmp_path / "pairs", "--min_changed", "0.2")
    not_kept = json.loads((tmp_path / "pairs" / "report.json").read_text())["not kept"]
    assert set(not_kept) == {
        "stems too quiet in a clip",
        "edits with a level out of range",
        "edits that change too little of the picture",
    }
    made = records(tmp_path / "pairs")
    assert {record["clip"] for record in made if record["painted_stem"] == "vocals"} <= {0, 1, 2}
    for record in made:
        assert record["task"] == "keep" or (record["changed_share"] >= 0.2 and -20 <= record["level_db"] <= 15)


def test_the_seed_decides(songs, tmp_path):
    texts = []
    for name, seed in (("a", "0"), ("b", "1")):
        run(songs, tmp_path / name, "--seed", seed)
        texts.append([record["edit_prompt"] for record in records(tmp_path / name)])
    assert texts[0] != texts[1]


def test_a_songs_own_sentence_is_for_the_stem_it_names(songs, tmp_path):
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"file": "Band - First.stem.mp4", "edit_prompt": "add a soft female vocal"}) + "\n")
    run(songs, tmp_path / "pairs", "--prompt_filepath", str(prompts))
    for record in records(tmp_path / "pairs"):
        own = record["song"] == "Band - First" and (record["task"], record["painted_stem"]) == ("add", "vocals")
        assert (record["edit_prompt"] == "add a soft female vocal") == own


def test_the_originals_recipe_is_a_set_of_flags(songs, tmp_path):
    spelled = ["--target", "mix", "--stems", "vocals", "--tasks", "add", "--pairs_per_clip", "1", "--subset_prob", "0"]
    run(songs, tmp_path / "short", "--recipe", "original")
    run(songs, tmp_path / "long", *spelled, "--sentence_per_song")
    assert files(tmp_path / "short") == files(tmp_path / "long")
    found = records(tmp_path / "short")
    assert {(record["task"], record["painted_stem"], record["target"]) for record in found} == {
        ("add", "vocals", "mix")
    }
    for record in found:
        assert set(record["backing_stems"].split(", ")) == {"bass", "drums", "other"}
    spoken = {(record["song"], record["edit_prompt"]) for record in found}
    assert len(spoken) == len({song for song, _ in spoken}) == 2  # one sentence each
    run(songs, tmp_path / "stem", "--recipe", "original", "--target", "stem")
    assert {record["target"] for record in records(tmp_path / "stem")} == {"stem"}


def test_wav_files_of_a_pair_add_up(songs, tmp_path):
    run(songs, tmp_path / "pairs", "--save_wav", "--max_examples", "1", "--gen_stem", "vocals", "--tasks", "add")
    original, edited = (audio.load_audio(next(tmp_path.rglob(f"*_{name}.wav")))[0] for name in ("original", "vocals"))
    loaded = {name: audio.load_audio(songs / "Band - First" / f"{name}.wav")[0] for name in ("vocals", "bass")}
    gain = records(tmp_path / "pairs")[0]["gain"]
    assert edited == pytest.approx(gain * loaded["vocals"][:, : edited.shape[1]], abs=1e-4)
    assert np.abs(original).max() <= 1


def test_a_songs_name_never_becomes_a_split(tmp_path):
    write_song(tmp_path / "songs" / "my test, dev and valid song")
    run(tmp_path / "songs", tmp_path / "pairs")
    assert {name: len(split) for name, split in load_splits(str(tmp_path / "pairs")).items()} == {"train": 24}


def test_stems_of_different_channels_go_together(tmp_path):
    write_song(tmp_path / "songs" / "song", bass=np.vstack([tone(82.4, 3.0)] * 2), drums=np.zeros((6, 3 * RATE)))
    assert run(tmp_path / "songs", tmp_path / "pairs") == 0


def test_pitch_augmentation_is_seven_fold(songs, tmp_path):
    run(songs, tmp_path / "plain")
    run(songs, tmp_path / "augmented", "--pitch_augment")
    count = [len(records(tmp_path / name)) for name in ("plain", "augmented")]
    assert 6 < count[1] / count[0] < 8  # higher is shorter: a clip more or less fits


def test_a_second_run_finishes_or_does_nothing(songs, tmp_path):
    run(songs, tmp_path / "pairs")
    before = files(tmp_path / "pairs")
    second = next((tmp_path / "pairs").glob("*Second*"))
    (second / "song.json").unlink()
    (second / "metadata.jsonl").write_text('{"half a rec')
    next(second.glob("*.png")).write_bytes(b"half a picture")
    (second / "tmp").mkdir()
    run(songs, tmp_path / "pairs")
    assert files(tmp_path / "pairs") == before
    with pytest.raises(UserError, match="--target"):
        run(songs, tmp_path / "pairs", "--target", "mix")
    with pytest.raises(UserError, match="other files"):
        run(songs, tmp_path)
    assert files(tmp_path / "pairs") == before


@pytest.mark.slow
def test_killed_at_any_moment_a_second_run_ends_with_the_same_bytes(songs, tmp_path):
    for number in range(4):
        write_song(songs / f"more {number}", seconds=6.0)
    run(songs, tmp_path / "straight")
    command = [sys.executable, "preprocess_musdb.py", "--root_data_dir", str(songs), "--num_proc", "2", "--silence"]
    command += [*TINY_CLIP, "--output_dir", str(tmp_path / "killed")]
    process = subprocess.Popen(command, cwd=Path(preprocess_musdb.__file__).parent)
    while process.poll() is None and len(list((tmp_path / "killed").rglob("song.json"))) < 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 2 <= len(list((tmp_path / "killed").rglob("song.json"))) < 6
    time.sleep(0.5)  # its workers notice
    run(songs, tmp_path / "killed")
    assert files(tmp_path / "killed") == files(tmp_path / "straight")


def next_reader(pipe: Path, process: subprocess.Popen) -> tuple[int, BinaryIO] | None:
    """The child of a process that opens a named pipe next, and the end to write to; none if the process ends first."""
    until = time.monotonic() + 300
    while process.poll() is None:
        assert time.monotonic() < until, "nobody reads the song"
        with contextlib.suppress(OSError):  # nobody has it open for reading
            end = os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb")
            os.set_blocking(end.fileno(), True)
            while not (readers := [child for child in children(process) if reads(child, pipe)]):
                time.sleep(0.01)
            return readers[0], end
        time.sleep(0.01)
    return None


def children(process: subprocess.Popen) -> list[int]:
    return descendants(process.pid)


def descendants(process: int) -> list[int]:
    """All processes that one has started, directly or not."""
    try:
        files = [file.read_text() for file in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:  # it has just ended
        return []
    return [found for text in files for child in text.split() for found in (int(child), *descendants(int(child)))]


def reads(process: int, file: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return any(os.path.realpath(one) == str(file) for one in Path(f"/proc/{process}/fd").iterdir())
    except OSError:  # it has just ended
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are found by Linux's /proc")
@pytest.mark.parametrize("always", [False, True])
def test_a_worker_that_is_killed_costs_at_most_its_own_song(songs, tmp_path, always):
    write_song(songs / "Zither")
    film = songs / "Doomed.stem.mp4"
    film.symlink_to(example_song().path)
    run(songs, tmp_path / "straight")
    film.unlink()
    os.mkfifo(film)  # a worker that opens it waits for us
    command = [sys.executable, "preprocess_musdb.py", "--root_data_dir", str(songs), "--num_proc", "2", "--silence"]
    command += [*TINY_CLIP, "--output_dir", str(tmp_path / "killed")]
    process = subprocess.Popen(command, cwd=Path(preprocess_musdb.__file__).parent, stderr=subprocess.PIPE)
    try:
        kills = 0
        while reader := next_reader(film, process):
            worker, pipe = reader
            with pipe:
                if kills and not always:
                    pipe.write(example_song().path.read_bytes())
                    break
                os.kill(worker, signal.SIGKILL)
            kills += 1
            while worker in children(process):  # while it ends, it could be taken for the next one
                time.sleep(0.01)
        errors = process.communicate(timeout=300)[1].decode()
    finally:
        process.kill()  # where an assertion fails, while it waits for the pipe
    made, expected = files(tmp_path / "killed"), files(tmp_path / "straight")
    if always:
        assert made.pop("report.json") != expected.pop("report.json")
        expected = {name: data for name, data in expected.items() if not name.startswith("Doomed")}
    assert made == expected
    assert process.returncode == (2 if always else 0)
    assert ("Doomed.stem.mp4: its process was killed" in errors) == always


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


def test_shards_share_an_output_folder(songs, tmp_path):
    write_song(songs / "third")
    run(songs, tmp_path / "alone")
    for shard in ("0", "1"):
        run(songs, tmp_path / "shared", "--num_shards", "2", "--shard_index", shard)
    alone, shared = (
        {name: data for name, data in files(tmp_path / folder).items() if not name.startswith("report")}
        for folder in ("alone", "shared")
    )
    assert alone == shared
    assert {path.name for path in (tmp_path / "shared").glob("report*")} == {"report-0-of-2.json", "report-1-of-2.json"}


def test_max_examples_stops(songs, tmp_path):
    run(songs, tmp_path / "pairs", "--max_examples", "5")
    assert len(records(tmp_path / "pairs")) == 5


def test_a_preview_shows_a_dozen_pairs(songs, tmp_path):
    run(songs, tmp_path / "pairs", "--preview")
    preview = Image.open(tmp_path / "pairs" / "preview.png")
    assert np.asarray(preview).std() > 10
    assert len(load_dataset("imagefolder", data_dir=str(tmp_path / "pairs"))["train"]) == 48
    chosen = choose_pairs(sorted(path.parent for path in (tmp_path / "pairs").rglob(METADATA)), 12, seed=0)
    assert [len(list(songs)) for _, songs in itertools.groupby(folder for folder, _ in chosen)] == [6, 6]
    edits = [pair.edit for _, pair in chosen]
    assert {edit.task.name for edit in edits[:4]} == {"add", "remove", "extract", "keep"}
    assert edits.count(Edit(task_named("keep"))) == 1  # they look alike


def test_what_there_is_one_of_is_told_in_the_singular(songs, tmp_path, capsys):
    shutil.rmtree(songs / "Band - Second")
    preprocess_musdb.main(
        preprocess_musdb.parse_args(
            ["--root_data_dir", str(songs), "--output_dir", str(tmp_path / "pairs"), "--num_proc", "1", *TINY_CLIP]
            + ["--max_examples", "1"]
        )
    )
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == [
        f"{tmp_path / 'pairs'}: 1 pair of 1 song; see report.json",
        "0 songs failed, 1 without labels, 0 files skipped",
    ]


def test_an_interrupted_run_says_how_many_songs_are_done(songs, tmp_path, monkeypatch):
    write = song_job.write_song

    def interrupted(result, *rest):
        if result.job.song.name == "Band - Second":
            raise KeyboardInterrupt
        write(result, *rest)

    monkeypatch.setattr(song_job, "write_song", interrupted)
    with pytest.raises(KeyboardInterrupt) as ending:
        run(songs, tmp_path / "pairs")
    assert ending.value.__notes__ == ["1 of 2 songs done; the same command goes on"]


def test_the_sampler_needs_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(UserError, match="can't download MUSDB18's sampler"):
        preprocess_musdb.main(preprocess_musdb.parse_args(["--download_sample", str(tmp_path / "sample")]))


def test_one_songs_failure_is_its_own(songs, tmp_path, capsys):
    (songs / "empty").mkdir()
    write_song(songs / "no bass")
    (songs / "no bass" / "bass.wav").unlink()
    write_song(songs / "short", seconds=0.3)
    write_song(songs / "silent", **dict.fromkeys(("vocals", "bass", "drums", "other"), np.zeros((1, 3 * RATE))))
    broken = write_song(songs / "nan")
    soundfile.write(broken / "vocals.wav", np.full((3 * RATE, 1), np.nan, np.float32), RATE, subtype="FLOAT")
    (songs / "broken.stem.mp4").write_bytes(b"not a film")
    assert run(songs, tmp_path / "pairs") == 2
    failed = json.loads((tmp_path / "pairs" / "report.json").read_text())["songs failed"]
    reasons = {
        "empty": "contains no stem",
        "no bass": "stem missing: bass",
        "short": "shorter than a clip",
        "silent": "silent throughout",
        "nan": "NaN",
        "broken": "not an audio file",
    }
    assert set(failed) == set(reasons)
    for song, reason in reasons.items():
        assert reason in failed[song]
    assert len(capsys.readouterr().err.splitlines()) == len(reasons)
    assert len(load_dataset("imagefolder", data_dir=str(tmp_path / "pairs"))["train"]) == 48


def test_any_failure_of_a_song_is_its_own(songs, tmp_path, capsys, monkeypatch):
    write_song(songs / "two", seconds=0.7)
    shutil.copy(songs / "two" / "vocals.wav", songs / "two" / "Vocals.wav")
    for name, error in {
        "memory": MemoryError(),
        "disk": OSError(28, "No space left on device"),
        "bug": KeyError("x"),
    }.items():
        (write_song(songs / name) / "bass.wav").unlink()
        (songs / name / "bass.wav").symlink_to(songs / name / "drums.wav")
        monkeypatch.setitem(FAILING, str(songs / name), error)
    monkeypatch.setattr(stems, "mix_down", failing(stems.mix_down))
    assert run(songs, tmp_path / "pairs") == 2
    monkeypatch.undo()
    report = json.loads((tmp_path / "pairs" / "report.json").read_text())
    assert report["pairs"] == 48
    reasons = {"two": "both 'vocals'", "memory": "MemoryError", "disk": "No space left", "bug": "KeyError: 'x'"}
    assert set(report["songs failed"]) == set(reasons)
    told = capsys.readouterr().err
    assert told.count("\n") == len(reasons)
    for song, reason in reasons.items():
        assert reason in report["songs failed"][song]
        assert str(songs / song) in report["songs failed"][song]
        assert report["songs failed"][song] in told
    shutil.rmtree(songs / "two")
    assert run(songs, tmp_path / "pairs") == 0  # what was in the way is gone
    assert len(load_dataset("imagefolder", data_dir=str(tmp_path / "pairs"))["train"]) == 5 * 24


FAILING: dict[str, Exception] = {}  # by song, what the machine does to it


def failing(work: Callable) -> Callable:
    """The same work on a machine that fails a few songs."""

    def try_work(song: Song, *rest: object) -> object:
        if str(song.path) in FAILING:
            raise FAILING[str(song.path)]
        return work(song, *rest)

    return try_work


def test_songs_have_any_name_and_other_files_are_told(tmp_path):
    names = ["...And Justice for All", os.fsdecode(b"Bj\xf6rk"), "[live] a*b", "Band - Good"]
    (tmp_path / "songs").mkdir()
    for name in names:
        write_song(tmp_path / "good", seconds=1.4).rename(tmp_path / "songs" / name)
    good = tmp_path / "songs" / "Band - Good"
    (good / "vocals.wav").rename(good / "Vocals.WAV")
    (good / "._Vocals.WAV").write_bytes(bytes.fromhex("00051607000200004d6163204f532058"))
    mix = sum(audio.load_audio(path)[0] for path in good.iterdir() if not path.name.startswith("."))
    audio.save_wav(good / "Full.wav", mix, RATE)
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"file": "BAND - good.stem.mp4", "edit_prompt": "add a soft female vocal"}) + "\n")
    assert (
        run(tmp_path / "songs", tmp_path / "pairs", "--prompt_filepath", str(prompts), "--stems", "VOCALS", "bass") == 0
    )
    made = records(tmp_path / "pairs")
    assert {record["song"] for record in made} == {"...And Justice for All", "Bj%F6rk", "[live] a*b", "Band - Good"}
    assert {record["painted_stem"] for record in made} == {"vocals", "bass", ""}
    assert not any("full" in record["backing_stems"] for record in made)
    assert "add a soft female vocal" in {record["edit_prompt"] for record in made}
    report = json.loads((tmp_path / "pairs" / "report.json").read_text())
    assert report["passed over"] == {
        "Band - Good/._Vocals.WAV": "macOS's notes on another file",
        "Band - Good/full": "the sum of other stems",
    }
    assert len(load_splits(str(tmp_path / "pairs"))["train"]) == len(made)
    run(tmp_path / "songs", tmp_path / "pairs", "--prompt_filepath", str(prompts), "--stems", "VOCALS", "bass")
    assert json.loads((tmp_path / "pairs" / "report.json").read_text()) == report


def test_another_run_in_the_folder_is_refused_and_harms_nothing(songs, tmp_path):
    (tmp_path / "pairs").mkdir()
    refused = pytest.raises(UserError, match="pairs: another run is using")
    with FileLock(tmp_path / "pairs" / f"{preprocess_musdb.RUNNING}-0-of-1"), refused:
        run(songs, tmp_path / "pairs")
    assert run(songs, tmp_path / "pairs", "--max_examples", "2") == 0
    assert not list((tmp_path / "pairs").glob(f"{preprocess_musdb.RUNNING}*"))


def test_what_is_too_large_for_the_disk_is_one_songs_failure(tmp_path, capsys):
    for name, seconds in (("short", 0.8), ("long", 3.0)):
        (tmp_path / "songs" / name).mkdir(parents=True)
        for stem, frequency in (("guitar", 330.0), ("piano", 82.4), ("organ", 220.0)):
            path = tmp_path / "songs" / name / f"{stem}.wav"
            audio.save_wav(path, tone(frequency, seconds), 48000)  # is written again at 44.1 kHz
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # a mono song of 1.1 s still fits
    try:
        assert run(tmp_path / "songs", tmp_path / "pairs") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path}/songs/long: ")
    assert "can't be written" in told
    assert told.count("\n") == 1
    assert {record["song"] for record in records(tmp_path / "pairs")} == {"short"}


def test_bad_flags_write_nothing(songs, tmp_path):
    output = tmp_path / "pairs"
    for flags, reason in {
        ("--gen_stem", "trumpet"): "no song has a stem named 'trumpet'; there are bass, drums, other, vocals",
        ("--prompt_filepath", str(tmp_path / "none.json")): "no such prompt file",
    }.items():
        with pytest.raises(UserError, match=reason):
            run(songs, output, *flags)
    wrong = {
        "--frame_overlap": "1",
        "--frame_len_seconds": "nan",
        "--fs": "16000",
        "--device": "nope",
        "--pairs_per_clip": "0",
        "--subset_prob": "2",
        "--min_level_db": "20",
        "--shard_index": "1",
        "--tasks": "invert",
    }
    for flag, value in wrong.items():
        with pytest.raises(SystemExit) as exit_code:
            run(songs, output, flag, value)
        assert exit_code.value.code == 2
    assert not output.exists()


def test_a_root_of_bad_songs_leaves_nothing_behind(tmp_path, capsys):
    write_song(tmp_path / "songs" / "short", seconds=0.3)
    with pytest.raises(UserError, match="nothing was written"):
        run(tmp_path / "songs", tmp_path / "pairs")
    assert "short: 0.300 s is shorter" in capsys.readouterr().err
    assert not (tmp_path / "pairs").exists()


def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, "preprocess_musdb.py", "--root_data_dir", str(tmp_path), "--output_dir", "nowhere"]
    run = subprocess.run(command, cwd=Path(preprocess_musdb.__file__).parent, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {tmp_path}: contains no song")
    assert run.stderr.count("\n") == 1


def test_musdb18s_own_format(tmp_path):
    from riffusion.pairs.stems import example_song

    (tmp_path / "root" / "test").mkdir(parents=True)
    (tmp_path / "root" / "test" / "song.stem.mp4").symlink_to(example_song().path)
    assert run(tmp_path / "root", tmp_path / "pairs") == 0
    assert {record["song"] for record in records(tmp_path / "pairs" / "test")} == {"song"}


def test_stems_that_cancel_or_are_lifted_make_the_pairs_of_plain_ones(tmp_path):
    names, signal = ("plain", "inverted", "nearly", "lifted"), np.tile(tone(330, 3.0), (2, 1))
    vocals = [signal, signal * [[1], [-1]], signal * [[-0.99], [1]], signal + 0.4]
    for name, replaced in zip(names, vocals, strict=True):
        write_song(tmp_path / name / "Band - Song", vocals=replaced)
    reports = {}
    for name in names:
        output = tmp_path / f"{name}-pairs"
        assert run(tmp_path / name, output, "--stems", "vocals") == 0
        reports[name] = json.loads((output / "report.json").read_text())
    assert reports["plain"]["pairs by edit"]["add vocals"] > 0
    for name in names:
        assert reports[name]["pairs by edit"] == reports["plain"]["pairs by edit"], name
    cancelled, lifted = {"channels that cancel": 1}, {"an offset or a rumble": 1}
    assert [reports[name]["stems mended"] for name in names] == [{}, cancelled, cancelled, lifted]


def test_a_stem_beyond_all_scale_is_its_songs_failure(tmp_path, capsys):
    song = write_song(tmp_path / "songs" / "Band - Loud")
    write_song(tmp_path / "songs" / "Band - Song")
    soundfile.write(song / "bass.wav", 32768 * tone(82.4, 3.0).T, RATE, subtype="FLOAT")
    assert run(tmp_path / "songs", tmp_path / "pairs") == 2
    assert "bass.wav: samples are up to 10" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "pairs" / "report.json").read_text())["songs failed"]) == ["Band - Loud"]
