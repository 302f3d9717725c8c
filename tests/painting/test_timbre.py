import numpy as np
import pytest
from conftest import RATE
from sounds import SECONDS, TIME, bass_line, hits, noise, voice, whistles

from riffusion.painting import metrics
from riffusion.painting.measurements import Verdict
from riffusion.painting.timbre import Timbre, TimbreMeter, band_powers, onset_rises, standing_overtones
from riffusion.pairs.features import pitch_detector
from riffusion.pairs.tasks import ADD, EXTRACT, KEEP


def heard(waveform: np.ndarray) -> metrics.StemAnalysis:
    meter = metrics.SoundMeter()
    meter.add(waveform, RATE)
    return metrics.StemAnalysis(metrics.PaintedLevel(0.0, 1.0), *meter.result())


@pytest.mark.parametrize("pitch", [90, 220, 440, 880])
def test_a_voices_overtones_stand_out(pitch):
    measured = heard(voice(pitch))
    assert measured.timbre.overtone_share > 0.95
    assert measured.sounds_like("vocals") is Verdict.PERFORMED
    assert measured.sounds_like("drums") is Verdict.FAILED


def standing(waveform: np.ndarray, pitch: float) -> float:
    """As if the tracker had heard that pitch everywhere."""
    times = np.arange(0.1, SECONDS - 0.1, 0.016)
    return float(standing_overtones(waveform, RATE, times, np.full(len(times), float(pitch))).mean())


@pytest.mark.parametrize("pitch", [90, 220, 440, 880])
def test_whistling_lines_and_noise_have_no_overtones_that_stand_out(pitch):
    assert np.mean([standing(whistles(pitch, seed), pitch) for seed in range(4)]) < 0.35
    assert standing(noise(), pitch) < 0.1
    assert standing(voice(pitch, overtones=2), pitch) < 0.05  # a sine: what leaks from it isn't an overtone


def test_half_the_overtones_count_half():
    assert standing(sum(np.sin(2 * np.pi * 220 * k * TIME) for k in (1, 2, 4, 6, 8)), 220) == pytest.approx(0.5)


def test_what_whistles_isnt_sung():
    measured = heard(whistles(660))
    assert measured.timbre.overtone_share < 0.4
    assert measured.sounds_like("vocals") is Verdict.FAILED
    assert heard(noise()).sounds_like("vocals") is Verdict.FAILED
    assert np.isnan(heard(noise()).timbre.overtone_share)


def test_hits_are_sharp_and_smeared_noise_is_not():
    sharp, swelling = heard(hits(0.3, 0.0)), heard(hits(0.3, 0.15))
    assert sharp.timbre.onset_db > 15
    assert sharp.sounds_like("drums") is Verdict.PERFORMED
    for smeared in (swelling, heard(noise())):
        assert smeared.timbre.onset_db < 6
        assert smeared.sounds_like("drums") is Verdict.FAILED


def test_a_bass_line_is_low_and_pitched():
    measured = heard(bass_line())
    assert measured.timbre.low_share > 0.9
    assert measured.sounds_like("bass") is Verdict.PERFORMED
    assert heard(voice(440)).sounds_like("bass") is Verdict.FAILED
    assert heard(hits(0.3, 0.0)).sounds_like("bass") is Verdict.FAILED


def test_a_part_that_doesnt_sound_like_what_was_asked_for_is_not_performed():
    sung = heard(voice(330))
    assert sung.verdict(ADD, "vocals") is Verdict.PERFORMED
    assert sung.verdict(ADD, "drums") is Verdict.FAILED
    assert sung.verdict(ADD, "guitar") is Verdict.PERFORMED
    assert sung.verdict(ADD) is Verdict.PERFORMED
    assert sung.verdict(EXTRACT, "drums") is Verdict.UNKNOWN
    assert sung.verdict(KEEP, "vocals") is Verdict.FAILED
    assert sung.measurements(ADD, "drums").row()["edit performed"] == "no"


def test_silence_and_a_moment_are_measured():
    for samples in (300, RATE):
        silent = heard(np.zeros(samples, dtype=np.float32))
        assert {silent.sounds_like(stem) for stem in ("vocals", "drums", "bass")} == {Verdict.FAILED}
        assert silent.sounds_like("guitar") is Verdict.UNKNOWN


def test_blocks_are_measured_as_the_whole():
    song = np.concatenate([voice(220), hits(0.3, 0.0)])
    meter = TimbreMeter()
    for block in np.split(song, 2):
        meter.add(block, RATE, pitch_detector().detect(block, RATE))
    parts, whole = meter.result(), heard(song).timbre
    assert isinstance(parts, Timbre)
    assert parts.overtone_share == pytest.approx(whole.overtone_share, abs=0.03)
    assert parts.onset_db == pytest.approx(whole.onset_db, abs=1.5)
    assert parts.low_share == pytest.approx(whole.low_share, abs=0.02)


def test_level_changes_nothing():
    soft, loud = (heard(gain * hits(0.3, 0.0)).timbre for gain in (0.01, 1.0))
    assert soft.onset_db == pytest.approx(loud.onset_db, abs=0.1)
    assert soft.low_share == pytest.approx(loud.low_share, abs=0.001)


def test_a_step_of_20_db_rises_by_20_db():
    step = noise() * np.where(TIME < 1.5, 0.01, 0.1).astype(np.float32)
    assert onset_rises(band_powers(step, RATE)).max() == pytest.approx(20, abs=2)
