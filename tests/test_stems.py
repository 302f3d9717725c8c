import numpy as np
import pytest
from conftest import RATE, tone, write_song

from riffusion import audio, stems
from riffusion.errors import UserError


def test_the_excerpt_reads_like_musdb18(excerpt):
    assert set(excerpt) == {"drums", "bass", "other", "vocals"}
    assert {stem.shape for stem in excerpt.values()} == {(2, 268288)}
    assert all(stem.dtype == np.float32 and 0 < np.abs(stem).max() <= 1 for stem in excerpt.values())


def test_songs_are_found_in_subsets_or_directly(tmp_path):
    for subset in ("train", "test"):
        write_song(tmp_path / subset / f"{subset} song", seconds=0.5)
    (tmp_path / "train" / "tracks.tsv").touch()  # a stray file is no song
    found = stems.find_songs(tmp_path)
    assert [(song.name, song.subset) for song in found] == [("train song", "train"), ("test song", "test")]
    assert [song.subset for song in stems.find_songs(tmp_path / "test")] == [""]


def test_folders_without_songs_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no song"):
        stems.find_songs(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        stems.find_songs(tmp_path / "nowhere")


def test_stems_of_any_names_and_lengths(tmp_path):
    (tmp_path / "song").mkdir()
    audio.save_wav(tmp_path / "song" / "guitar.wav", tone(440, 1.0), RATE)
    audio.save_wav(tmp_path / "song" / "song.wav", np.vstack([tone(220, 2.0)] * 2), RATE)
    loaded = stems.load_stems(stems.Song("song", tmp_path / "song"))
    assert {name: stem.shape for name, stem in loaded.items()} == {"guitar": (1, 2 * RATE), "song": (2, 2 * RATE)}
    assert stems.sum_stems(loaded, without="guitar").shape == (2, 2 * RATE)


def test_a_missing_stem_is_named(tmp_path):
    folder = write_song(tmp_path / "song", seconds=0.5)
    (folder / "bass.wav").unlink()
    with pytest.raises(UserError, match="stem missing: bass"):
        stems.load_stems(stems.Song("song", folder))


def test_the_backing_is_the_sum_of_the_others(tmp_path):
    loaded = stems.load_stems(stems.Song("song", write_song(tmp_path / "song", seconds=0.5)))
    expected = loaded["bass"] + loaded["drums"] + loaded["other"]
    assert stems.sum_stems(loaded, without="vocals") == pytest.approx(expected, abs=1e-6)
    with pytest.raises(UserError, match="trumpet"):
        stems.sum_stems(loaded, without="trumpet")
    with pytest.raises(UserError, match="only stem"):
        stems.sum_stems({"vocals": loaded["vocals"]}, without="vocals")


def test_the_power_filter_keeps_loud_clips_and_drops_quiet_ones():
    loud, quiet = tone(200, 1.0, level=0.2), tone(200, 1.0, level=0.002)  # -14 and -54 dBFS: int16 power wraps there
    stem = np.concatenate([quiet, loud, quiet, loud, np.zeros_like(loud)], axis=1)
    starts = stems.clip_starts(stem.shape[1], RATE)
    assert stems.loud_clips(stem, starts, RATE, min_power_prop=0.4) == [1, 3]
    assert stems.loud_clips(stem, starts, RATE, min_power_prop=0.0) == [0, 1, 2, 3, 4]


def test_clips_cover_a_song_without_its_tail():
    assert list(stems.clip_starts(1050, 100)) == list(range(0, 1000, 100))
    assert list(stems.clip_starts(200, 100, overlap=0.5)) == [0, 50, 100]
    assert list(stems.clip_starts(99, 100)) == []


def test_pitch_goes_up_by_semitones():
    shifted = stems.shift_pitch(tone(220, 2.0), 3)
    spectrum = np.abs(np.fft.rfft(shifted[0]))
    assert spectrum.argmax() * RATE / shifted.shape[1] == pytest.approx(220 * 2 ** (3 / 12), rel=0.01)
