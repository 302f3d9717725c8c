import numpy as np
import pytest
from conftest import RATE
from distances import log_spectral_distance, si_sdr


def white(seed: int, seconds: float = 1.0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def at_ratio(reference: np.ndarray, ratio_db: float, seed: int = 1) -> np.ndarray:
    """The reference with an error at right angles to it, of so much less energy."""
    error = white(seed).astype(np.float64)
    error -= reference * (error @ reference) / (reference @ reference)
    return reference + error * np.sqrt((reference @ reference) / (error @ error) / 10 ** (ratio_db / 10))


@pytest.mark.parametrize("ratio_db", [-20.0, 0.0, 13.0, 60.0])
@pytest.mark.parametrize("gain", [1.0, 0.01, -3.0])
def test_si_sdr_is_the_ratio_of_energies_whatever_the_scale(ratio_db, gain):
    reference = white(0).astype(np.float64)
    estimate = gain * at_ratio(reference, ratio_db)
    assert si_sdr(estimate, reference) == pytest.approx(ratio_db, abs=0.001)


def test_si_sdr_of_the_signal_itself_is_without_bound_and_of_another_is_below_nothing():
    assert si_sdr(white(0), white(0)) == np.inf
    assert si_sdr(white(1), white(0)) < -30


@pytest.mark.parametrize("gain_db", [6.0, -20.0])
def test_the_log_spectral_distance_of_a_gain_is_that_gain(gain_db):
    assert log_spectral_distance(white(0), white(0), RATE) == 0
    louder = 10 ** (gain_db / 20) * white(0)
    assert log_spectral_distance(louder, white(0), RATE) == pytest.approx(abs(gain_db), abs=0.01)
    assert log_spectral_distance(white(0), louder, RATE) == pytest.approx(abs(gain_db), abs=0.01)


def test_noise_that_was_drawn_anew_is_as_far_as_two_exponential_variables():
    """The power of noise in a bin is exponential; the difference of two levels has a spread of sqrt(2) * 5.57 dB."""
    assert log_spectral_distance(white(0, 5.0), white(1, 5.0), RATE) == pytest.approx(np.sqrt(2) * 5.57, abs=0.15)


def test_what_pictures_do_not_show_is_at_no_distance():
    time = np.arange(RATE) / RATE
    high, low = (0.1 * np.sin(2 * np.pi * frequency * time).astype(np.float32) for frequency in (15000, 5000))
    assert log_spectral_distance(white(0) + high, white(0), RATE) < 0.1
    assert log_spectral_distance(white(0) + low, white(0), RATE) > 0.5
