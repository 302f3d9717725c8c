import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone, write_song

from riffusion import audio
from riffusion.painting.inputs import find_inputs, read_song
from riffusion.util.errors import UserError


def test_files_patterns_and_folders(tmp_path):
    for name in ("b.wav", "a.wav", "c.flac"):
        audio.save_wav(tmp_path / name, tone(220, 0.1), RATE)
    (tmp_path / "cover.jpg").write_text("a picture")

    def names(*given: str) -> list[str]:
        return [path.name for path in find_inputs(list(given), in_stems=False)]

    assert names(str(tmp_path)) == ["a.wav", "b.wav", "c.flac"]
    assert names(str(tmp_path / "*.wav"), str(tmp_path / "c.flac")) == ["a.wav", "b.wav", "c.flac"]
    assert names("-") == ["-"]
    assert names(str(tmp_path / "missing.wav")) == ["missing.wav"]
    (tmp_path / "[live].wav").write_bytes((tmp_path / "a.wav").read_bytes())
    assert names(str(tmp_path / "[live].wav")) == ["[live].wav"]
    with pytest.raises(UserError, match=r"\*.mp3: no file matches"):
        names(str(tmp_path / "*.mp3"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: contains no audio file"):
        names(str(tmp_path / "empty"))


def test_what_holds_sound_is_a_song_whatever_its_name(tmp_path, capsys):
    sound = encoded(tmp_path)
    folder = tmp_path / "[live] a*b"
    folder.mkdir()
    for name in ("a.wv", "B.WAV", "c.oga", "d", "...e.wav", "._f.wav"):
        (folder / name).write_bytes(sound)
    (folder / os.fsdecode(b"g\xe9.webm")).write_bytes(sound)
    for name in ("._a.wav", "cover.jpg", "list.m3u8"):
        (folder / name).write_bytes(bytes.fromhex("00051607000200004d6163204f532058") + bytes(4080))
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "a1b").mkdir()
    found = ["...e.wav", "._f.wav", "B.WAV", "a.wv", "c.oga", "d", os.fsdecode(b"g\xe9.webm")]
    assert [path.name for path in find_inputs([str(folder)], in_stems=False)] == found
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    for said in ("._a.wav (macOS's notes on another file)", "cover.jpg (no sound)", "gone.wav (a link to nothing)"):
        assert said in told
    assert [path.name for path in find_inputs([f"{folder}/*.wav"], in_stems=False)] == ["gone.wav"]
    assert capsys.readouterr().err == ""


def test_a_broken_song_is_not_passed_over(tmp_path):
    for name in ("text.wav", "empty.MP3"):
        (tmp_path / name).write_text("no sound" * (name == "text.wav"))
    assert [path.name for path in find_inputs([str(tmp_path)], in_stems=False)] == ["empty.MP3", "text.wav"]
    assert find_inputs(["x" * 300], in_stems=False) == [Path("x" * 300)]  # told when it is opened


def encoded(folder: Path) -> bytes:
    """A file of sound in a container that its name won't tell."""
    audio.save_wav(folder / "sound.flac.wav", tone(220, 0.1), RATE)
    return (folder / "sound.flac.wav").read_bytes()


@pytest.mark.parametrize("name", ["...wav", " .wav", ".. .wav", ".wav", "\n.wav", "caf\udce9.wav", "con.wav"])
def test_a_songs_folder_is_inside_the_results(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(tmp_path))
    folder = tmp_path / "out" / read_song(tmp_path / name, None, None, None, tmp_path).name
    assert folder.parent == tmp_path / "out"
    assert folder.resolve().parent == (tmp_path / "out").resolve()
    assert not folder.name.startswith(".")
    folder.name.encode()


def test_a_song_has_the_name_of_its_link(tmp_path):
    audio.save_wav(tmp_path / "store.wav", tone(220, 0.1), RATE)
    (tmp_path / "song.wav").symlink_to(tmp_path / "store.wav")
    assert read_song(tmp_path / "song.wav", None, None, None, tmp_path).name == "song"


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
    assert find_inputs([str(tmp_path / "first")], in_stems=True) == [tmp_path / "first"]
    assert find_inputs([str(tmp_path)], in_stems=True) == [tmp_path / "first", tmp_path / "second"]


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
    song = read_song(find_inputs(["-"], in_stems=False)[0], None, None, None, tmp_path)
    assert (song.name, song.seconds) == ("stdin", 0.5)


@pytest.mark.parametrize("content", [b"", b"RIFF"])
def test_a_file_without_sound_is_refused(tmp_path, content):
    (tmp_path / "song.wav").write_bytes(content)
    with pytest.raises(UserError, match="song.wav: not an audio file"):
        read_song(tmp_path / "song.wav", None, None, None, tmp_path)
    audio.save_wav(tmp_path / "no-samples.wav", np.zeros((2, 0), np.int32), RATE)
    with pytest.raises(UserError, match="contains no samples"):
        read_song(tmp_path / "no-samples.wav", None, None, None, tmp_path)


def test_a_plain_song_without_a_stem_is_told_how_it_is_separated(tmp_path):
    audio.save_wav(tmp_path / "song.wav", tone(220, 1.0), RATE)
    with pytest.raises(UserError, match="song.wav: --without_stem needs a song in stems") as error:
        read_song(tmp_path / "song.wav", None, "vocals", None, tmp_path)
    assert f"demucs {tmp_path}/song.wav), and pass separated/htdemucs/song" in str(error.value)
