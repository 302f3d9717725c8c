import numpy as np
import pytest
from conftest import RATE, tone, write_song

from riffusion import audio, stems
from riffusion.errors import UserError


def test_the_excerpt_reads_like_musdb18(excerpt):
    assert set(excerpt) == {"drums", "bass", "other", "vocals"}
    assert {stem.shape for stem in excerpt.values()} == {(2, 268288)}
    assert all(stem.dtype == np.float32 and 0 < np.abs(stem).max() < 1.05 for stem in excerpt.values())


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


def test_mixing_down_keeps_every_sample(tmp_path):
    folder = write_song(tmp_path / "song", bass=np.vstack([tone(82.4, 2.0), tone(164.8, 2.0)]))
    song = stems.mix_down(stems.Song("song", folder), RATE, make(tmp_path / "mono"))
    loaded = stems.load_stems(stems.Song("song", folder))
    assert song.samples == 3 * RATE
    for name, stem in loaded.items():
        mono = stem.mean(axis=0)
        assert np.abs(song.read(name, 0, song.samples) - mono).max() < 1e-6
        assert song.powers[name] == pytest.approx(float(np.mean(mono**2)), rel=1e-3)
    ends = song.read("bass", -100, song.samples + 200)  # silent before and after, and where a stem ends early
    assert len(ends) == song.samples + 200
    assert not ends[:100].any()
    assert not ends[100 + 2 * RATE :].any()


def test_mixing_down_resamples_in_blocks_that_show_no_seam(tmp_path):
    seconds = 2.5 * audio.BLOCK_SAMPLES / 48000
    time = np.arange(round(seconds * 48000)) / 48000
    folder = tmp_path / "song"
    folder.mkdir()
    for name in stems.MUSDB_STEMS:
        audio.save_wav(folder / f"{name}.wav", 0.5 * np.sin(2 * np.pi * 440 * time)[None], 48000, bits=24)
    song = stems.mix_down(stems.Song("song", folder), RATE, make(tmp_path / "mono"))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(song.samples) / RATE)
    assert song.samples == pytest.approx(seconds * RATE, abs=1)
    assert np.abs(song.read("bass", 0, song.samples) - expected)[1000:-1000].max() < 1e-4


def test_the_excerpts_streams_are_read_in_blocks_too(excerpt, tmp_path):
    song = stems.mix_down(stems.example_song(), RATE, tmp_path)
    for name, stem in excerpt.items():
        assert np.abs(song.read(name, 0, song.samples) - stem.mean(axis=0)).max() < 1e-6


def test_a_clip_is_played_faster_by_semitones(tmp_path):
    song = stems.mix_down(stems.Song("song", write_song(tmp_path / "song")), RATE, make(tmp_path / "mono"))
    for semitones in (-3, 2):
        clip = song.read_shifted("other", RATE // 2, RATE, semitones)
        speed = 2 ** (semitones / 12)
        assert clip.shape == (RATE,)
        assert np.abs(np.fft.rfft(clip)).argmax() == pytest.approx(220 * speed, abs=1.5)
        played = np.interp(
            np.arange(RATE) * speed + RATE // 2, np.arange(song.samples), song.read("other", 0, song.samples)
        )
        assert np.abs(clip - played).max() < 2e-2  # to half a sample


def make(folder):
    folder.mkdir()
    return folder
