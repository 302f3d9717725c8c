import numpy as np
import pytest
import torch
from conftest import RATE, tone
from whole_songs import sum_stems

from riffusion.painting import metrics
from riffusion.painting.measurements import Verdict
from riffusion.painting.timbre import Timbre
from riffusion.pairs.tasks import ADD, KEEP, REMOVE
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams


@pytest.fixture(scope="module")
def real(excerpt) -> dict[str, np.ndarray]:
    """Mel amplitudes (bands, frames) of the excerpt's vocals and of the rest, one clip long."""
    samples = SpectrogramParams().clip_samples
    signals = {"stem": excerpt["vocals"], "backing": sum_stems(excerpt, without="vocals")}
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


def test_real_vocals_are_a_part(real):
    level = metrics.measure_level(real["stem"], real["backing"])
    assert level.is_part
    assert level.level_db == pytest.approx(-5.4, abs=0.3)  # in samples, pauses included: -7.8 dB
    assert level.active_share == pytest.approx(0.79, abs=0.02)
    through_noise = metrics.measure_level(noisy(real["stem"], 10), real["backing"])
    assert through_noise.level_db == pytest.approx(level.level_db, abs=1)
    assert through_noise.is_part


@pytest.mark.parametrize(("gain_db", "frames"), [(-19.9, 50), (0.0, 10), (17.9, 100)])
def test_level_and_share_are_those_of_the_active_frames(gain_db, frames):
    backing, stem = np.zeros((8, 100)), np.zeros((8, 100))
    backing[0] = 0.5
    stem[1, :frames] = 0.5 * 10 ** (gain_db / 20)
    level = metrics.measure_level(stem, backing)
    assert level.level_db == pytest.approx(gain_db)
    assert level.active_share == frames / 100
    assert level.is_part


@pytest.mark.parametrize(("gain_db", "frames"), [(-20.1, 50), (0.0, 9), (18.1, 100), (-31.0, 100)])
def test_what_is_too_soft_too_short_or_too_loud_is_no_part(gain_db, frames):
    backing, stem = np.zeros((8, 100)), np.zeros((8, 100))
    backing[0] = 0.5
    stem[1, :frames] = 0.5 * 10 ** (gain_db / 20)
    assert not metrics.measure_level(stem, backing).is_part


def analysis(level=0.0, active=1.0, voiced=0.5, overtones=0.5, onsets=8.0, low=0.8) -> metrics.StemAnalysis:
    voicing, timbre = metrics.Voicing(voiced, 220.0), Timbre(overtones, onsets, low)
    return metrics.StemAnalysis(metrics.PaintedLevel(level, active), voicing, timbre)


@pytest.mark.parametrize(
    ("task", "stem", "measured", "reasons"),
    [
        (ADD, "vocals", {}, []),
        (
            ADD,
            "vocals",
            {"level": -21.5, "voiced": 0.08, "overtones": np.nan},
            ["stem level dB -21.50 (needs -20 to 18)", "voiced % 8.00 (needs at least 15)"]
            + ["overtones % - (needs at least 45)"],
        ),
        (
            ADD,
            "drums",
            {"voiced": 0.7, "onsets": 3.0},
            ["voiced % 70.00 (needs at most 65)", "onsets dB 3.00 (needs at least 7)"],
        ),
        (ADD, "bass", {"low": 0.5}, ["below 300 Hz % 50.00 (needs at least 70)"]),
        (
            ADD,
            "",
            {"level": -np.inf, "active": 0.0, "onsets": 0.0},
            ["stem level dB - (needs -20 to 18)", "active % 0.00 (needs at least 10)"],
        ),
        (KEEP, "", {"active": 0.2}, ["active % 20.00 (needs at most 10)"]),
        (REMOVE, "drums", {"level": -np.inf}, []),  # nobody can tell
    ],
)
def test_why_an_edit_was_not_performed_names_the_measure_its_value_and_its_limit(task, stem, measured, reasons):
    measurements = analysis(**measured).measurements(task, stem)
    assert metrics.shortfalls(measurements, task, stem) == reasons


def test_there_are_reasons_exactly_where_the_verdict_is_no():
    drawn = np.random.default_rng(0).uniform((-30, 0, 0, 0, 0, 0), (30, 0.3, 1, 1, 14, 1), (500, 6))
    for number, values in enumerate(drawn):
        task, stem = (ADD, KEEP)[number % 2], ("vocals", "drums", "bass", "other", "")[number % 5]
        measured = analysis(*values).measurements(task, stem)
        assert bool(metrics.shortfalls(measured, task, stem)) == (measured.verdict is Verdict.FAILED)


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
