import numpy as np
import pytest
import soundfile
from conftest import RATE

from riffusion import audio
from riffusion.painting.loudness import loudness_db, matching_gains


def sine(frequency: float, seconds: float = 3.0, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_a_full_scale_sine_has_the_level_that_the_recommendation_says(tmp_path, rate):
    path = tmp_path / "sine.wav"
    soundfile.write(path, sine(997, rate=rate), rate, subtype="FLOAT")
    assert loudness_db(path) == pytest.approx(-3.01 + 0.691, abs=0.02)  # BS.1770: -3.01 LKFS, which has -0.691 in it
    soundfile.write(path, np.stack([sine(997, rate=rate)] * 2, axis=1), rate, subtype="FLOAT")
    assert loudness_db(path) == pytest.approx(0.691, abs=0.02)


def test_a_deep_tone_is_softer_than_a_high_one(tmp_path):
    for name, frequency in (("deep", 30), ("high", 3000)):
        audio.save_wav(tmp_path / f"{name}.wav", sine(frequency)[None], RATE)
    assert loudness_db(tmp_path / "high.wav") - loudness_db(tmp_path / "deep.wav") > 8


def test_only_the_region_counts_and_silence_is_no_level(tmp_path):
    signal = sine(997, 60.0)
    signal[: 40 * RATE] = 0
    audio.save_wav(tmp_path / "song.flac", signal[None], RATE)
    soundfile.write(tmp_path / "song.flac", signal, RATE)
    whole, part = loudness_db(tmp_path / "song.flac"), loudness_db(tmp_path / "song.flac", 45, 50)
    assert part == pytest.approx(-2.32, abs=0.02)
    assert whole - part == pytest.approx(10 * np.log10(1 / 3), abs=0.3)
    assert loudness_db(tmp_path / "song.flac", 1, 30) == -np.inf
    assert loudness_db(tmp_path / "song.flac", 60, 70) == -np.inf


def test_gains_turn_down_to_the_softest_but_not_without_end():
    assert matching_gains([-20.0, -26.0]) == pytest.approx([10 ** (-6 / 20), 1])
    assert matching_gains([-10.0, -np.inf, -50.0]) == pytest.approx([10 ** (-12 / 20), 1, 1])
    assert matching_gains([-np.inf, -np.inf]) == [1, 1]
    assert matching_gains([]) == []
