"""Distances between signals, for the benchmarks alone."""

import librosa
import numpy as np

LSD_TOP_HZ = 9500  # pictures end at 10 kHz
LSD_FLOOR = 1e-8  # power of a spectrum, some 130 dB below a sine at full scale


def log_spectral_distance(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Mean over time of the rms difference of two log power spectra below 9.5 kHz, in dB; both are (samples,)."""
    spectra = [librosa.stft(signal.astype(np.float32), n_fft=2048, hop_length=512) for signal in (estimate, reference)]
    heard = int(LSD_TOP_HZ / sample_rate * 2048)
    levels = [10 * np.log10(np.abs(spectrum[:heard]) ** 2 + LSD_FLOOR) for spectrum in spectra]
    return float(np.sqrt(((levels[0] - levels[1]) ** 2).mean(axis=0)).mean())


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019); infinite if only the scale differs."""
    estimate, reference = estimate.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    target = reference * (float(estimate @ reference) / max(float(reference @ reference), 1e-20))
    error = float(np.sum((estimate - target) ** 2))
    return float(10 * np.log10(np.sum(target**2) / error)) if error else np.inf
