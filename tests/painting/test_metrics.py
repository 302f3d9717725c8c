import numpy as np
import pytest
import torch
from conftest import RATE, tone

from riffusion.painting import metrics
from riffusion.pairs import stems
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams


@pytest.fixture(scope="module")
def real(excerpt) -> dict[str, np.ndarray]:
    """Mel amplitudes (bands, frames) of the excerpt's vocals and of the rest, one clip long."""
    samples = SpectrogramParams().clip_samples
    signals = {"stem": excerpt["vocals"], "backing": stems.sum_stems(excerpt, without="vocals")}
    converter = SpectrogramConverter()
    return {
        name: converter.mel_amplitudes_from_waveform(torch.from_numpy(signal[:, :samples].mean(0, keepdims=True)))[0]
        .numpy()
        .astype(np.float64)
        for name, signal in signals.items()
    }


def noisy(mel: np.ndarray, grey_levels: float) -> np.ndarray:
    """The mel with an autoencoder's kind of error: noise on its picture."""
    level = (mel / mel.max()) ** 0.25 + grey_levels / 255 * np.random.default_rng(0).standard_normal(mel.shape)
    return mel.max() * np.clip(level, 0, 1) ** 4


def test_real_vocals_are_an_edit(real):
    edit = metrics.measure_level(real["stem"], real["backing"])
    assert edit.is_part
    assert -25 < edit.level_db < 6
    assert metrics.measure_level(noisy(real["stem"], 10), real["backing"]).is_part


def test_nothing_and_a_copy_of_the_input_are_none(real):
    backing = real["backing"]
    for stem in (np.zeros_like(backing), 1e-3 * real["stem"], backing, noisy(backing, 4), 0.3 * noisy(backing, 8)):
        assert not metrics.measure_level(stem, backing).is_part
    assert metrics.measure_level(np.zeros_like(backing), backing).level_db == -np.inf


def test_a_tone_is_voiced_and_noise_is_not():
    voicing = metrics.measure_voicing(tone(220, 2.0)[0], RATE)
    assert voicing.voiced_share > 0.9
    assert voicing.median_f0_hz == pytest.approx(220, rel=0.01)
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    assert metrics.measure_voicing(noise, RATE).voiced_share < 0.1
