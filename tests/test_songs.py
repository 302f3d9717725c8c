import io
import sys

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone, write_song

from riffusion import audio
from riffusion.errors import UserError
from riffusion.songs import find_songs, folder_name, read_song


def test_files_patterns_and_folders(tmp_path):
    for name in ("b.wav", "a.wav", "c.flac"):
        audio.save_wav(tmp_path / name, tone(220, 0.1), RATE)
    (tmp_path / "cover.jpg").write_text("a picture")

    def names(*given: str) -> list[str]:
        return [path.name for path in find_songs(list(given), in_stems=False)]

    assert names(str(tmp_path)) == ["a.wav", "b.wav", "c.flac"]
    assert names(str(tmp_path / "*.wav"), str(tmp_path / "c.flac")) == ["a.wav", "b.wav", "c.flac"]
    assert names("-") == ["-"]
    assert names(str(tmp_path / "missing.wav")) == ["missing.wav"]
    (tmp_path / "[live].wav").write_bytes((tmp_path / "a.wav").read_bytes())
    assert names(str(tmp_path / "[live].wav")) == ["[live].wav"]
    with pytest.raises(UserError, match=r"\*.mp3: no file matches"):
        names(str(tmp_path / "*.mp3"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no audio file"):
        names(str(tmp_path / "empty"))


def test_a_song_has_the_name_of_its_link_and_one_that_a_folder_can_have(tmp_path):
    audio.save_wav(tmp_path / "store.wav", tone(220, 0.1), RATE)
    (tmp_path / "song.wav").symlink_to(tmp_path / "store.wav")
    assert read_song(tmp_path / "song.wav", None, None, None, tmp_path).name == "song"
    assert folder_name("a/b\\c\n") == "a-b-c-"
    assert folder_name("\udcff.") == "?."
    assert len(folder_name("ü" * 300).encode()) == 200


def test_only_songs_in_stems_can_leave_one_out(tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 0.1), RATE)
    with pytest.raises(UserError, match="needs a song in stems"):
        read_song(tmp_path / "song.wav", None, "vocals", None, tmp_path)
    song = write_song(tmp_path / "song", seconds=0.2)
    digests = {read_song(song, None, "vocals", None, tmp_path).sha256 for _ in range(2)}
    assert len(digests) == 1


def test_songs_in_stems_are_folders_or_lie_in_one(tmp_path):
    for name in ("first", "second"):
        write_song(tmp_path / name, seconds=0.1)
    assert find_songs([str(tmp_path / "first")], in_stems=True) == [tmp_path / "first"]
    assert find_songs([str(tmp_path)], in_stems=True) == [tmp_path / "first", tmp_path / "second"]


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"), [(8000, 1, "PCM_16"), (192000, 2, "PCM_24"), (44100, 8, "FLOAT")]
)
def test_a_song_is_looked_through(tmp_path, rate, channels, subtype):
    samples = np.random.default_rng(0).uniform(-1.5, 1.5, (rate, channels))
    soundfile.write(tmp_path / "song.wav", samples, rate, subtype=subtype)
    song = read_song(tmp_path / "song.wav", None, None, None, tmp_path)
    assert (song.name, song.rate, song.channels, song.seconds) == ("song", rate, channels, 1.0)
    assert song.bits == (16 if subtype == "PCM_16" else 24)
    assert song.clipped == (np.count_nonzero(np.abs(samples) > 1) if subtype == "FLOAT" else 0)
    assert read_song(tmp_path / "song.wav", "named", None, 16, tmp_path).sha256 == song.sha256


def test_a_song_from_standard_input(tmp_path, monkeypatch):
    audio.save_wav(tmp_path / "song.wav", tone(220, 0.5), RATE)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "song.wav").read_bytes())))
    song = read_song(find_songs(["-"], in_stems=False)[0], None, None, None, tmp_path)
    assert (song.name, song.seconds) == ("stdin", 0.5)


@pytest.mark.parametrize("content", [b"", b"RIFF"])
def test_a_file_without_sound_is_refused(tmp_path, content):
    (tmp_path / "song.wav").write_bytes(content)
    with pytest.raises(UserError, match="song.wav: not an audio file"):
        read_song(tmp_path / "song.wav", None, None, None, tmp_path)
    audio.save_wav(tmp_path / "no-samples.wav", np.zeros((2, 0), np.int32), RATE)
    with pytest.raises(UserError, match="holds no samples"):
        read_song(tmp_path / "no-samples.wav", None, None, None, tmp_path)
