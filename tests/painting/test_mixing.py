import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone

from riffusion import audio
from riffusion.painting import mixing
from riffusion.painting.mixing import Layers, Placement, mix_song
from riffusion.pairs.tasks import ADD, EXTRACT, REMOVE
from riffusion.recordings import ffmpeg
from riffusion.util.errors import UserError


def write_stem(folder: Path, level: float = 0.2, seconds: float = 1.0) -> tuple[Path, np.ndarray]:
    stem = tone(440.0, seconds, level)
    soundfile.write(folder / "stem.wav", stem.T, RATE, subtype="FLOAT")
    return folder / "stem.wav", stem[0]


def mix(folder: Path, song: Path, stem: Path, task=ADD, placement=None, bits=16, ending="wav", **listen):
    (folder / "results").mkdir(exist_ok=True)
    files = {name: folder / "results" / f"{name}.{ending}" for name in ("input", "painted", "stem")}
    with audio.open_audio(song) as recording:
        layers, tags = Layers(recording, audio.mono_blocks(stem, RATE), RATE), audio.read_tags(recording)
        return mix_song(layers, task, placement or Placement(), bits, files, tags, **listen), files


def integers(path: Path, bits: int) -> np.ndarray:
    with audio.open_audio(path) as file:
        return np.concatenate(list(audio.integer_blocks(file, bits, 1000)), axis=1)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32)])
@pytest.mark.parametrize("task", [ADD, REMOVE, EXTRACT], ids=str)
def test_the_song_stays_to_the_last_bit(tmp_path, subtype, bits, task):
    scale = 2 ** (bits - 1)
    samples = np.random.default_rng(0).integers(-scale, scale, (2, RATE)) << (32 - bits)
    soundfile.write(tmp_path / "song.wav", samples.T.astype(np.int32), RATE, subtype=subtype)
    stem, _ = write_stem(tmp_path)
    _, files = mix(tmp_path, tmp_path / "song.wav", stem, task, bits=bits)
    original, painted, part = (integers(files[name], bits) for name in ("input", "painted", "stem"))
    assert (original == samples >> (32 - bits)).all()
    assert soundfile.info(files["painted"]).subtype == subtype
    assert part.any()
    kept = {ADD: painted - part, REMOVE: painted + part, EXTRACT: original}[task]
    assert (kept == original).all()
    assert task != EXTRACT or (painted == part).all()


def test_a_stem_that_fits_is_not_touched(tmp_path):
    soundfile.write(tmp_path / "song.wav", 0.3 * np.ones((RATE, 1)), RATE)
    path, stem = write_stem(tmp_path)
    mixed, files = mix(tmp_path, tmp_path / "song.wav", path)
    assert (mixed.limited_db, mixed.limited_seconds, mixed.samples_cut) == (0, 0, 0)
    assert (integers(files["stem"], 16)[0] == audio.to_integers(stem)).all()


def test_a_stem_that_would_clip_is_turned_down_smoothly(tmp_path):
    time = np.arange(RATE) / RATE
    song = np.where((time > 0.4) & (time < 0.5), 0.8, 0.1)[:, None]
    soundfile.write(tmp_path / "song.wav", song, RATE, subtype="PCM_24")
    stem = 0.25 * np.sin(2 * np.pi * 100 * time)
    soundfile.write(tmp_path / "stem.wav", stem, RATE, subtype="FLOAT")
    mixed, files = mix(tmp_path, tmp_path / "song.wav", tmp_path / "stem.wav", bits=24)
    part = integers(files["stem"], 24)[0] / 2**23
    assert mixed.samples_cut == 0
    assert mixed.limited_db == pytest.approx(-20 * np.log10(0.2 / 0.25), abs=0.1)
    assert 0.1 < mixed.limited_seconds < 0.13
    assert np.abs(np.diff(part)).max() < 1.1 * np.abs(np.diff(stem)).max()  # no step where the limiter sets in
    assert part[: RATE // 3] == pytest.approx(stem[: RATE // 3], abs=1e-6)


def test_what_the_limiter_may_not_take_is_cut(tmp_path):
    soundfile.write(tmp_path / "song.wav", np.full((RATE, 1), 0.999), RATE, subtype="PCM_16")
    path, _ = write_stem(tmp_path)
    mixed, files = mix(tmp_path, tmp_path / "song.wav", path)
    original, painted, part = (integers(files[name], 16) for name in ("input", "painted", "stem"))
    assert f"{mixed.limited_db:.2f}" == "3.00"  # as the README and the table promise: at most 3 dB
    assert mixed.samples_cut > 1000
    assert (painted - part == original).all()
    assert painted.max() == 32767


def test_the_limiter_looks_ahead_across_blocks(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    peaks = np.repeat(rng.uniform(0, 1, 100), RATE // 50)[:, None]  # rooms that change every 20 ms
    soundfile.write(tmp_path / "song.wav", peaks, RATE, subtype="PCM_24")
    path, _ = write_stem(tmp_path, level=0.3, seconds=2.0)
    whole = mix(tmp_path, tmp_path / "song.wav", path, bits=24)
    expected = {name: integers(file, 24) for name, file in whole[1].items()}
    for size in (1, 2000, 5000):
        monkeypatch.setattr(mixing, "BLOCK_SAMPLES", size)
        mixed, files = mix(tmp_path, tmp_path / "song.wav", path, bits=24)
        assert mixed == whole[0]
        assert 0 < mixed.limited_seconds < 2
        assert all((integers(files[name], 24) == expected[name]).all() for name in files)


def test_whoever_listens_hears_the_stem_that_is_written(tmp_path):
    song = np.random.default_rng(0).uniform(-1, 1, (RATE, 2))
    soundfile.write(tmp_path / "song.wav", song, RATE, subtype="PCM_24")
    path, _ = write_stem(tmp_path, level=0.4)
    heard = []
    _, files = mix(tmp_path, tmp_path / "song.wav", path, bits=24, listen=heard.append)
    assert (np.concatenate(heard, axis=1) == audio.load_audio(files["stem"])[0]).all()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_a_full_disk_is_told_with_the_file(tmp_path, ending):
    soundfile.write(tmp_path / "song.wav", np.zeros((RATE, 2)), RATE)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / f"painted.{ending}").symlink_to("/dev/full")
    path, _ = write_stem(tmp_path)
    with pytest.raises(UserError, match=rf"painted.{ending}: can't be written .No space left on device"):
        mix(tmp_path, tmp_path / "song.wav", path, ending=ending)


def test_a_stem_is_placed_in_stereo_with_its_power(tmp_path):
    soundfile.write(tmp_path / "song.wav", np.zeros((RATE, 2)), RATE, subtype="PCM_24")
    path, stem = write_stem(tmp_path)
    for pan in (-1.0, -0.4, 0.0, 1.0):
        _, files = mix(tmp_path, tmp_path / "song.wav", path, placement=Placement(-6.0, pan), bits=24)
        left, right = np.sqrt(np.mean((integers(files["stem"], 24) / 2**23) ** 2, axis=1))
        level = np.sqrt(np.mean(stem**2)) * 10 ** (-6 / 20)
        assert np.hypot(left, right) == pytest.approx(np.sqrt(2) * level, rel=1e-3)
        assert np.sign(round(right - left, 6)) == np.sign(pan)
        assert pan == 0 or abs(pan) < 1 or min(left, right) < 1e-6
    assert (Placement().gains(6) == 1).all()


def test_another_rate_and_a_stem_that_ends_early(tmp_path):
    soundfile.write(tmp_path / "song.wav", np.zeros((2 * 48000, 1)), 48000)
    path, stem = write_stem(tmp_path)
    _, files = mix(tmp_path, tmp_path / "song.wav", path)
    part = integers(files["stem"], 16)[0] / 2**15
    assert len(part) == 2 * 48000
    expected = audio.resample(stem[None], RATE, 48000)[0]
    assert part[:48000] == pytest.approx(expected[:48000], abs=1e-4)
    assert not part[48500:].any()


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_every_format_is_written_with_its_tags(tmp_path, ending):
    with soundfile.SoundFile(tmp_path / "song.flac", "w", RATE, 2, "PCM_16") as file:
        file.title, file.artist = "Überfahrt", "A Band"
        file.write(np.tile(tone(220.0, 1.0).T, (1, 2)))
    path, stem = write_stem(tmp_path)
    _, files = mix(tmp_path, tmp_path / "song.flac", path, ending=ending)
    for name in files:
        with soundfile.SoundFile(files[name]) as file:
            assert (file.title, file.artist) == ("Überfahrt", "A Band")
            assert (file.samplerate, file.channels) == (RATE, 2)
    heard = audio.load_audio(files["stem"])[0].mean(axis=0)[:RATE]
    assert np.corrcoef(heard, stem[: len(heard)])[0, 1] > 0.99


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_tags_that_were_read_can_be_written(tmp_path, ending):
    said = {"title": "Чёрный кот", "artist": "Björk", "album": "", "comment": "x" * 100_000, "date": "2001-05"}
    metadata = [part for name, text in said.items() for part in ("-metadata", f"{name}={text}")]
    audio.save_wav(tmp_path / "song.wav", tone(220.0, 0.5), RATE)
    command = [ffmpeg.binaries()[0], "-v", "error", "-i", tmp_path / "song.wav", *metadata, "-write_id3v1", "1"]
    subprocess.run([*command, tmp_path / "song.mp3"], check=True)
    with audio.open_audio(tmp_path / "song.mp3") as recording:
        tags = audio.read_tags(recording)
    assert "album" not in tags
    tags |= {"license": "free", "genre": "\udcff"}
    carried = audio.carried_tags(tags, tmp_path / f"trial.{ending}", RATE, 1, 16)
    kept = {"title", "artist", "date"} | {"flac": {"comment", "license"}, "mp3": {"comment"}}.get(ending, set())
    assert set(carried) - {"comment", "license"} == kept - {"comment", "license"}
    assert ending != "wav" or "comment" not in carried
    path = tmp_path / f"painted.{ending}"
    with audio.AudioWriter(path, RATE, 1, 16, carried) as file:
        file.write(audio.to_integers(tone(220.0, 0.5)))
    told = ffmpeg.probe(path)[0]
    assert {name: told.tags[name] for name in ("title", "artist", "date")} == {
        name: said[name] for name in ("title", "artist", "date")
    }
    assert told.seconds == pytest.approx(0.5, abs=0.06)


def test_what_a_format_cannot_hold_is_said(tmp_path):
    for ending, rate, channels, bits in (("mp3", 96000, 2, 16), ("mp3", 44100, 6, 16), ("flac", 44100, 2, 32)):
        with pytest.raises(UserError, match=f"x.{ending}: can't be written, with {channels} channels of {rate} Hz"):
            audio.AudioWriter(tmp_path / f"x.{ending}", rate, channels, bits)
