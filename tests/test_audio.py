import subprocess

import numpy as np
import pytest
import soundfile

from riffusion import audio
from riffusion.recordings import ffmpeg
from riffusion.recordings.recording import open_recording
from riffusion.util.errors import UserError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def chirp(seconds: float = 1.0, rate: int = 44100) -> np.ndarray:
    """Two channels that differ, (2, samples): rising tones, which agree with themselves at one place only."""
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.4 * np.sin(2 * np.pi * (start + 900 * time) * time) for start in (200, 500)]).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_lossless_formats_load_to_the_last_bit(tmp_path, suffix):
    path, samples = tmp_path / f"song{suffix}", audio.to_integers(noise(2, 44100))
    soundfile.write(path, samples.T.astype(np.int16), 44100)
    loaded, rate = audio.load_audio(path)
    assert (loaded.dtype, loaded.shape, rate) == (np.float32, (2, 44100), 44100)
    assert (loaded * 32768 == samples).all()


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_lossy_formats_load_what_was_written_and_where_it_was(tmp_path, suffix):
    path = tmp_path / f"song{suffix}"
    soundfile.write(path, chirp().T, 44100)
    loaded, rate = audio.load_audio(path)
    assert (loaded.dtype, loaded.shape[0], rate) == (np.float32, 2, 44100)
    assert abs(loaded.shape[1] - 44100) <= 1152  # an mp3 ends with a whole frame
    middle = slice(2000, 40000)
    assert np.abs(loaded[:, middle] - chirp()[:, middle]).max() < 0.03
    late = np.abs(np.roll(loaded, 1, axis=1)[:, middle] - chirp()[:, middle]).max()
    assert late > 0.04  # a single sample off is seen


def test_other_formats_go_through_ffmpeg(tmp_path):
    audio.save_wav(tmp_path / "song.wav", chirp()[:1], 44100)
    command = [ffmpeg.binaries()[0], "-v", "error", "-i", tmp_path / "song.wav", "-b:a", "192k", tmp_path / "song.m4a"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    loaded, rate = audio.load_audio(tmp_path / "song.m4a", sample_rate=22050)
    assert (loaded.dtype, loaded.shape[0], rate) == (np.float32, 1, 22050)
    assert abs(loaded.shape[1] - 22050) <= 1024
    middle = slice(1000, 20000)
    assert np.abs(loaded[:, middle] - chirp(rate=22050)[:1, middle]).max() < 0.02


def test_bad_files_are_named(tmp_path):
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "nothing.wav").touch()
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), 44100)
    soundfile.write(tmp_path / "nan.wav", np.full((100, 1), np.nan, np.float32), 44100, subtype="FLOAT")
    loud = np.full((100, 1), 1e30, np.float32)  # finite, and its power isn't
    soundfile.write(tmp_path / "loud.wav", loud, 44100, subtype="FLOAT")
    for name, reason in {
        "missing.wav": "no such file",
        "text.wav": "not an audio file",
        "nothing.wav": "not an audio file",
        "empty.wav": "no samples",
        "nan.wav": "NaN",
        "loud.wav": "samples up to 1e\\+30, far beyond any audio",
    }.items():
        with pytest.raises(UserError, match=f"{name}.*{reason}"):
            audio.load_audio(tmp_path / name)


@pytest.mark.parametrize("bits", [16, 24])
def test_integers_survive_a_file(tmp_path, bits):
    samples = audio.to_integers(noise(2, 1000), bits)
    audio.save_wav(tmp_path / "song.wav", samples, 48000, bits)
    again, rate = audio.load_audio(tmp_path / "song.wav")
    assert (audio.to_integers(again, bits) == samples).all()
    assert open_recording(tmp_path / "song.wav", tmp_path).bits == bits
    assert rate == 48000


def test_float_is_clipped_at_the_edge_and_never_wraps():
    assert audio.to_integers(np.array([[-2.0, -1.0, 0.0, 1.0, 2.0]])).tolist() == [[-32768, -32768, 0, 32767, 32767]]


def test_the_sum_is_exact_and_the_stem_gives_way():
    original, stem = audio.to_integers(noise(2, 4000)), audio.to_integers(noise(2, 4000)[:, ::-1])
    painted, fitting, limited = audio.add_on_top(original, stem)
    assert (painted - fitting == original).all()
    assert painted.max() <= 32767
    assert painted.min() >= -32768
    assert limited == np.count_nonzero(np.abs(original + stem + 0.5) > 32768)
    assert limited > 0


def test_resampling_keeps_a_tone():
    time = np.arange(44100) / 44100
    tone = np.sin(2 * np.pi * 440 * time)[None].astype(np.float32)
    again = audio.resample(audio.resample(tone, 44100, 48000), 48000, 44100)
    assert np.abs(again[:, 1000:-1000] - tone[:, 1000:-1000]).max() < 1e-3


def test_decibels_of_powers():
    assert audio.decibels(1.0, 0.01) == pytest.approx(20)
    assert audio.decibels(0.0, 1.0) == -120
    assert audio.decibels(0.0, 0.0) == 0
