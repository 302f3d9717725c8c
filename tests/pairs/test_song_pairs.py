from dataclasses import astuple, replace

import numpy as np
import pytest
from conftest import RATE, TINY_CLIP, tone, write_song
from PIL import Image

import preprocess_musdb
from riffusion import pairs
from riffusion.pairs.features import Features
from riffusion.pairs.pair import read_records
from riffusion.pairs.tasks import ADD
from riffusion.util.errors import UserError

OPTIONS = pairs.PairOptions(clip_seconds=0.63, pairs_per_clip=3, target="mix", pitch_steps=(2,))


def test_what_is_made_in_python_is_what_the_script_writes(tmp_path):
    write_song(tmp_path / "songs" / "Band - Song", seconds=1.5)
    flags = ["--root_data_dir", str(tmp_path / "songs"), "--output_dir", str(tmp_path / "pairs"), "--num_proc", "1"]
    flags += ["--pairs_per_clip", "3", "--target", "mix", "--silence", *TINY_CLIP]
    assert preprocess_musdb.main(preprocess_musdb.parse_args(flags)) == 0
    (metadata,) = (tmp_path / "pairs").glob("*/metadata.jsonl")
    made = list(pairs.make(tmp_path / "songs" / "Band - Song", OPTIONS))
    unshifted = [pair for pair in made if pair.source.semitones == 0]
    (tmp_path / "again").mkdir()
    assert [pair.save(tmp_path / "again") for pair in unshifted] == read_records(metadata)
    assert {pair.source.semitones for pair in made} == {0, 2}
    for name in {name for pair in read_records(metadata) for name in astuple(pair.images)}:
        assert (tmp_path / "again" / name).read_bytes() == (metadata.parent / name).read_bytes()


def test_a_pairs_images_are_those_that_are_saved(tmp_path):
    pair = next(pairs.make(str(write_song(tmp_path / "Band - Song", seconds=0.7)), OPTIONS))
    saved = pair.save(tmp_path)
    for name, image in zip(astuple(saved.images), (pair.original, pair.edited), strict=True):
        assert (image.mode, image.size) == ("L", (64, 512))
        assert (np.asarray(Image.open(tmp_path / name)) == np.asarray(image)).all()


def test_labels_are_said_and_options_kept_to(tmp_path):
    write_song(tmp_path / "song", seconds=1.5)
    options = pairs.PairOptions(stems=("vocals",), tasks=(ADD,), clip_seconds=0.63, say_prob=1.0)
    made = list(pairs.make(tmp_path / "song", options, pairs.SongLabels({"voice": "child"})))
    assert {str(pair.edit) for pair in made} == {"add vocals"}
    assert all("child" in pair.text.edit_prompt for pair in made)


def test_what_is_no_song_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    write_song(tmp_path / "short", seconds=0.3)
    write_song(tmp_path / "silent", vocals=np.zeros((1, RATE)), bass=tone(80, 1.0))
    reasons = {"missing": "no such folder or file", "notes.txt": "no song in stems", "short": "shorter than a clip"}
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=f"{name}: .*{reason}"):
            list(pairs.make(tmp_path / name, OPTIONS))
    with pytest.raises(UserError, match="vocals silent throughout"):
        list(pairs.make(tmp_path / "silent", pairs.PairOptions(stems=("vocals",), clip_seconds=0.63)))


def test_for_a_fixed_sentence_only_the_level_is_measured(tmp_path):
    song, fixed = write_song(tmp_path / "song", seconds=1.5), replace(OPTIONS, sentence_per_song=True)
    measured, unmeasured = (list(pairs.make(song, options)) for options in (OPTIONS, fixed))
    assert [pair.features for pair in unmeasured] == [Features(pair.features.level_db) for pair in measured]
    assert any(pair.features.events_per_second for pair in measured)
    for pair, other in zip(measured, unmeasured, strict=True):
        assert (pair.edit, pair.scale, pair.name) == (other.edit, other.scale, other.name)
        assert (np.asarray(pair.edited) == np.asarray(other.edited)).all()
