import os
import subprocess
import unicodedata

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone, write_song
from whole_songs import load_stems, sum_stems

from riffusion import audio
from riffusion.pairs import stems
from riffusion.recordings import ffmpeg
from riffusion.util.errors import UserError

PITCHES = (110.0, 1200.0, 277.2, 415.3, 622.3)


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
    with pytest.raises(UserError, match="contains no song"):
        stems.find_songs(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        stems.find_songs(tmp_path / "nowhere")


def test_stems_of_any_names_and_lengths(tmp_path):
    (tmp_path / "song").mkdir()
    audio.save_wav(tmp_path / "song" / "guitar.wav", tone(440, 1.0), RATE)
    audio.save_wav(tmp_path / "song" / "song.wav", np.vstack([tone(220, 2.0)] * 2), RATE)
    loaded = load_stems(stems.Song("song", tmp_path / "song"))
    assert {name: stem.shape for name, stem in loaded.items()} == {"guitar": (1, 2 * RATE), "song": (2, 2 * RATE)}
    assert sum_stems(loaded, without="guitar").shape == (2, 2 * RATE)


def test_a_missing_stem_is_named(tmp_path):
    folder = write_song(tmp_path / "song", seconds=0.5)
    (folder / "bass.wav").unlink()
    with pytest.raises(UserError, match="stem missing: bass"):
        load_stems(stems.Song("song", folder))


def test_stems_are_named_without_case_and_are_told_from_other_files(tmp_path):
    folder = write_song(tmp_path / "song", seconds=0.3)
    (folder / "bass.wav").rename(folder / "Bass.WAV")
    (folder / "vocals.wav").rename(folder / "VOCALS.oga")  # what is in it is wav
    (folder / "._drums.wav").write_bytes(bytes.fromhex("00051607000200004d6163204f532058") + bytes(4080))
    (folder / "cover.jpg").write_bytes(b"a picture")
    (folder / "__MACOSX").mkdir()
    audio.save_wav(folder / "Mixture.wav", tone(440, 0.3), RATE)
    files, passed_over = stems.list_stems(stems.Song("song", folder))
    assert {name: path.name for name, path in files.items()} == {
        "bass": "Bass.WAV",
        "drums": "drums.wav",
        "other": "other.wav",
        "vocals": "VOCALS.oga",
    }
    assert passed_over == {
        "._drums.wav": "macOS's notes on another file",
        "cover.jpg": "no sound",
        "Mixture.wav": "the mixture, by its name",
    }
    audio.save_wav(folder / "vocals.flac.wav", tone(440, 0.3), RATE)
    (folder / "vocals.flac.wav").rename(folder / "vocals.flac")
    with pytest.raises(UserError, match="VOCALS.oga and vocals.flac are both 'vocals'"):
        stems.stem_files(stems.Song("song", folder))


def test_songs_may_have_any_name(tmp_path):
    names = ["...And Justice for All", "a [live]", os.fsdecode(b"Bj\xf6rk"), unicodedata.normalize("NFD", "Beyoncé")]
    for name in names:
        write_song(tmp_path / "good", seconds=0.1).rename(tmp_path / name)
    for name in ("Upper.STEM.MP4", "native.stem.m4a"):
        (tmp_path / name).write_bytes(b"not opened yet")
    (tmp_path / "linked").symlink_to(tmp_path / names[1])
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX" / "._song").mkdir(parents=True)
    (tmp_path / "._Upper.stem.mp4").write_bytes(bytes.fromhex("00051607"))
    (tmp_path / "notes.txt").touch()
    songs, passed_over = stems.list_songs(tmp_path)
    found = {"...And Justice for All", "a [live]", "Bj%F6rk", "Beyoncé", "Upper", "native", "linked"}
    assert {song.name for song in songs} == found
    assert set(passed_over) == {".git", "__MACOSX", "._Upper.stem.mp4", "notes.txt"}
    twin = write_song(tmp_path / "good", seconds=0.1).rename(tmp_path / "Beyoncé")
    assert {song.name for song in stems.find_songs(tmp_path)} == found | {"Beyoncé-2"}
    assert twin.is_dir()


@pytest.mark.parametrize(
    ("sums", "silent", "left_out"),
    [
        ({"full": "abcd"}, "", ["full"]),
        ({"full": "abcd", "Master 2": "abcd"}, "", ["full", "master 2"]),
        ({"instrumental": "abc"}, "", ["instrumental"]),
        ({"full": "abcd", "instrumental": "abc"}, "", ["full", "instrumental"]),
        ({"full": "abcd"}, "bcd", ["full"]),  # the same as the only one that sounds
        ({"guitar": "e"}, "", []),
        ({"double": "a"}, "", []),  # a stem that is there twice is no mixture
    ],
)
def test_a_stem_that_is_a_sum_of_others_is_none(tmp_path, sums, silent, left_out):
    parts = {letter: tone(pitch, 1.0) * (letter not in silent) for letter, pitch in zip("abcde", PITCHES, strict=True)}
    folder = tmp_path / "song"
    folder.mkdir()
    for name, letter in {"bass": "a", "drums": "b", "other": "c", "vocals": "d"}.items():
        audio.save_wav(folder / f"{name}.wav", parts[letter], RATE)
    for name, letters in sums.items():
        audio.save_wav(folder / f"{name}.wav", sum(parts[letter] for letter in letters), RATE)
    song = stems.Song("song", folder)
    mixed_down, found = stems.without_mixtures(stems.mix_down(song, RATE, make(tmp_path / "mono")))
    assert sorted(found) == left_out
    assert set(mixed_down.files) == set(mixed_down.powers) == set(stems.stem_files(song)) - set(left_out)
    assert set(load_stems(song)) == set(mixed_down.files)


def test_the_backing_is_the_sum_of_the_others(tmp_path):
    song = stems.Song("song", write_song(tmp_path / "song", seconds=0.5))
    loaded = load_stems(song)
    expected = loaded["bass"] + loaded["drums"] + loaded["other"]
    backing = stems.open_backing(song, "vocals", make(tmp_path / "sum"))
    assert np.concatenate(list(backing.blocks()), axis=1) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(UserError, match="trumpet"):
        stems.open_backing(song, "trumpet", tmp_path)
    (tmp_path / "alone").mkdir()
    audio.save_wav(tmp_path / "alone" / "voice.wav", tone(220, 0.5), RATE)
    with pytest.raises(UserError, match="only stem"):
        stems.open_backing(stems.Song("alone", tmp_path / "alone"), "voice", tmp_path)


def test_mixing_down_keeps_every_sample(tmp_path):
    folder = write_song(tmp_path / "song", bass=np.vstack([tone(82.4, 2.0), tone(164.8, 2.0)]))
    song = stems.mix_down(stems.Song("song", folder), RATE, make(tmp_path / "mono"))
    loaded = load_stems(stems.Song("song", folder))
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


def write_stem_mp4(path, seconds=3.0, streams=5, codec="alac"):
    """Five tones, of which the first stands for the mixture."""
    inputs, maps = [], []
    for number in range(streams):
        audio.save_wav(path.with_name(f"{number}.wav"), tone(110.0 * (number + 1), seconds), RATE)
        inputs += ["-i", path.with_name(f"{number}.wav")]
        maps += ["-map", f"{number}:a"]
    command = [ffmpeg.binaries()[0], "-v", "error", "-y", *inputs, *maps, "-c:a", codec, "-f", "mp4", path]
    subprocess.run(command, check=True)
    return stems.Song(path.name, path)


def test_the_streams_of_a_file_are_its_stems(tmp_path):
    song = write_stem_mp4(tmp_path / "x.stem.mp4")
    mono = stems.mix_down(song, RATE, make(tmp_path / "mono"))
    for name, stream in stems.MUSDB_STEMS.items():
        expected = audio.load_audio(tmp_path / f"{stream}.wav")[0][0]
        assert (mono.read(name, 0, mono.samples) == expected).all()
    assert set((tmp_path / "mono").rglob("*.wav")) == set(mono.files.values())  # decoded once, and read as they are
    assert len(set(mono.files.values())) == 4


def test_only_what_is_slow_to_read_is_written_again(tmp_path):
    stereo = np.vstack([tone(330, 1.0), tone(220, 1.0)])
    folder = write_song(tmp_path / "song", 1.0, drums=stereo, bass=np.vstack([stereo[0], -stereo[0]]))
    audio.save_wav(folder / "other.wav", stereo, 48000)
    soundfile.write(folder / "vocals.flac", stereo.T, RATE)
    (folder / "vocals.wav").unlink()
    song = stems.mix_down(stems.Song("song", folder), RATE, make(tmp_path / "mono"))
    assert {name for name, file in song.files.items() if file.parent == folder} == {"drums"}
    assert np.abs(song.read("drums", 10, 1000) - stereo.mean(axis=0)[10:1010]).max() < 1e-4
    assert np.abs(song.read("vocals", 10, 1000) - stereo.mean(axis=0)[10:1010]).max() < 1e-4


def test_a_damaged_stem_or_one_stream_alone_is_the_songs_failure(tmp_path):
    song = write_stem_mp4(tmp_path / "x.stem.mp4", codec="aac")
    data = bytearray(song.path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = b"\x55" * 3000
    song.path.write_bytes(data)
    with pytest.raises(UserError, match=r"x.stem.mp4: damaged at 1\."):
        stems.mix_down(song, RATE, make(tmp_path / "mono"))
    with pytest.raises(UserError, match="has no audio stream 1, only 1 of them"):
        load_stems(write_stem_mp4(tmp_path / "y.stem.mp4", streams=1))
    song = stems.Song("song", write_song(tmp_path / "song"))
    whole = (song.path / "bass.wav").read_bytes()
    (song.path / "bass.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"bass.wav: cut short: 132278 of 264600 bytes"):
        stems.mix_down(song, RATE, make(tmp_path / "mono2"))


def test_a_backing_is_summed_block_by_block_at_the_stems_rate(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 10_000)
    folder = tmp_path / "song"
    folder.mkdir()
    parts = {"a": tone(220, 2.0), "b": np.vstack([tone(330, 1.5), tone(440, 1.5)]), "voice": tone(550, 2.5)}
    for name, part in parts.items():
        audio.save_wav(folder / f"{name}.wav", part, 48000, bits=24)
    backing = stems.open_backing(stems.Song("song", folder), "voice", tmp_path)
    summed = np.concatenate(list(backing.blocks()), axis=1)
    expected = sum_stems(load_stems(stems.Song("song", folder), 48000), without="voice")
    assert (backing.rate, backing.bits, backing.channels) == (48000, 24, 2)
    assert (summed == expected).all()
    assert capsys.readouterr().err == ""
    audio.save_wav(folder / "c.wav", tone(660, 1.0), RATE)
    backing = stems.open_backing(stems.Song("song", folder), "voice", tmp_path)
    assert "has stems of 44100, 48000 Hz; all are resampled to 48000 Hz" in capsys.readouterr().err
    third = np.concatenate(list(backing.blocks()), axis=1)[0] - expected[0]
    assert third[1000:40000] == pytest.approx(audio.resample(tone(660, 1.0), RATE, 48000)[0, 1000:40000], abs=1e-3)
    with pytest.raises(UserError, match="song: no stem named 'drums'; there are a, b, c, voice"):
        stems.open_backing(stems.Song("song", folder), "drums", tmp_path)


def make(folder):
    folder.mkdir()
    return folder


def test_a_plain_song_is_told_how_it_is_separated(tmp_path):
    song = tmp_path / "My Song.mp3"
    song.write_bytes(b"")
    told = f"(pip install demucs; demucs '{song}'), and pass separated/htdemucs/My Song"
    for look, path in ((stems.song_at, song), (stems.find_songs, song), (stems.find_songs, tmp_path)):
        with pytest.raises(UserError) as error:
            look(path)
        assert str(error.value).startswith(f"{path}: ") and str(error.value).endswith(told)
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(UserError, match="notes.txt: no song in stems$"):
        stems.song_at(tmp_path / "notes.txt")
    separated = write_song(tmp_path / "separated" / "htdemucs" / "My Song", seconds=0.1)
    assert set(stems.stem_files(stems.song_at(separated))) == {"bass", "drums", "other", "vocals"}
