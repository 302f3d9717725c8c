import librosa
import numpy as np
import pytest
import torch
from conftest import tone
from transformers.audio_utils import mel_filter_bank

from riffusion.image import image_from_spectrogram
from riffusion.phase import waveform_from_mel_amplitudes
from riffusion.spectrogram import CPU_BLOCK_FRAMES, SpectrogramConverter, mel_filters
from riffusion.spectrogram_params import ExifTags, SpectrogramParams

PARAMS = SpectrogramParams()


def reference_mel(signal: np.ndarray) -> np.ndarray:
    """Mel amplitudes (512, frames) by the formula itself, with librosa and numpy."""
    stft = librosa.stft(signal, n_fft=17640, hop_length=441, win_length=4410, window="hann", pad_mode="reflect")
    filters = librosa.filters.mel(sr=44100, n_fft=17640, n_mels=512, fmin=0, fmax=10000, htk=True, norm=None)
    return filters @ np.abs(stft)


def reference_picture(signal: np.ndarray) -> np.ndarray:
    """Riffusion's picture by the formula: float (512, frames), low notes at the bottom."""
    mel = reference_mel(signal)
    return (255 - 255 * (mel / mel.max()) ** 0.25)[::-1]


def test_a_clip_is_511_hops_long():
    assert (PARAMS.n_fft, PARAMS.win_length, PARAMS.hop_length) == (17640, 4410, 441)
    assert PARAMS.clip_samples == 225351
    assert PARAMS.clip_seconds == pytest.approx(5.11)


def test_picture_of_real_music_equals_the_formula_to_one_grey_level(excerpt):
    mixture = np.sum(list(excerpt.values()), axis=0).mean(axis=0)[: PARAMS.clip_samples].astype(np.float32)
    mel = SpectrogramConverter().mel_amplitudes_from_waveform(torch.from_numpy(mixture[None]))
    picture = np.asarray(image_from_spectrogram(mel.numpy(), PARAMS))
    assert picture.shape == (512, 512)
    assert np.abs(picture - reference_picture(mixture)).max() <= 1


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        PARAMS.at_analysis_rate(),
        SpectrogramParams(sample_rate=48000, num_frequencies=128, min_frequency=30, max_frequency=8000),
    ],
)
def test_mel_filters_are_those_of_transformers_to_the_last_bit(params):
    edges = params.min_frequency, params.max_frequency
    theirs = mel_filter_bank(params.n_fft // 2 + 1, params.num_frequencies, *edges, params.sample_rate, mel_scale="htk")
    assert np.array_equal(mel_filters(params), theirs.T.astype(np.float32))


def test_params_survive_exif():
    params = SpectrogramParams(stereo=True, sample_rate=48000, step_size_ms=5, max_frequency=8000)
    exif = params.to_exif(max_value=12.5)
    assert exif[11080] == 12.5
    assert SpectrogramParams.from_exif(exif) == params
    assert SpectrogramParams.from_exif({}) == SpectrogramParams()
    assert set(exif) == set(ExifTags)


def test_long_signals_are_transformed_in_blocks_that_show_no_seam():
    signal = torch.randn(1, 13 * PARAMS.sample_rate + 100, generator=torch.Generator().manual_seed(0))
    mel = SpectrogramConverter().mel_amplitudes_from_waveform(signal)[0].numpy()
    assert mel.shape[1] == 1301 > CPU_BLOCK_FRAMES
    assert np.allclose(mel, reference_mel(signal[0].numpy()), rtol=2e-3)


def test_mixes_cost_one_transform_a_stem_and_equal_their_sums(excerpt):
    stems = torch.from_numpy(
        np.stack([excerpt[name][0, : PARAMS.clip_samples] for name in ("vocals", "bass", "drums")])
    )
    weights = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    converter = SpectrogramConverter()
    sums = converter.mel_amplitudes_from_waveform(weights @ stems)
    assert torch.allclose(converter.mel_amplitudes_from_waveform(stems, weights), sums, rtol=1e-3, atol=1e-3)


def test_lean_params_have_the_same_frames_and_bins():
    lean = PARAMS.at_analysis_rate()
    assert (lean.sample_rate, lean.n_fft, lean.win_length, lean.hop_length) == (24000, 9600, 2400, 240)
    assert lean.sample_rate / lean.n_fft == PARAMS.sample_rate / PARAMS.n_fft
    for odd in (SpectrogramParams(sample_rate=22050), SpectrogramParams(max_frequency=11000)):
        assert odd.at_analysis_rate() == odd


def test_low_magnitudes_of_real_music_come_back_from_mel_amplitudes(excerpt):
    converter = SpectrogramConverter()
    signal = torch.from_numpy(excerpt["vocals"][:, : PARAMS.clip_samples].mean(axis=0, keepdims=True))
    true = converter.stft(converter.to_analysis_rate(signal)).abs()
    mel = converter.mel_amplitudes_from_waveform(signal)
    magnitude = converter.magnitude_from_mel_amplitudes(mel)
    heard = slice(1, 76)  # 10 to 750 Hz, where bands are closer than bins
    assert magnitude.shape == true.shape == (1, 1000, 512)
    assert (magnitude >= 0).all()
    assert (magnitude - true)[:, heard].norm() / true[:, heard].norm() < 0.1
    fitted = converter.fit_magnitude(torch.ones_like(true), mel, magnitude)  # knows nothing of a band's inside
    nearer = converter.fit_magnitude(true, mel, magnitude)
    errors = [float((guess - true).norm() / true.norm()) for guess in (fitted, nearer)]
    assert errors[1] < 0.04 < errors[0] < 0.12


@pytest.mark.parametrize("window_ms", [100, 45, 20])
def test_the_inverse_of_the_stft_is_that_of_torch(window_ms):
    params = SpectrogramParams(window_duration_ms=window_ms, max_frequency=12000)
    converter = SpectrogramConverter(params)
    spectrum = torch.randn(2, converter.bins, 60, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    q = converter.analysis
    above = q.win_length // 2 + 1 - converter.bins
    full = torch.nn.functional.pad(spectrum, (0, 0, 0, above))
    for samples in (59 * q.hop_length, 50 * q.hop_length + 7):
        wanted = torch.istft(full, q.win_length, q.hop_length, window=converter.window, length=samples)
        assert converter.inverse_stft(spectrum, samples) == pytest.approx(wanted, abs=1e-5)


def test_a_drawn_waveform_plays_back():
    converter = SpectrogramConverter()
    signal = tone(440.0, 1.0)
    again = converter.from_analysis_rate(converter.to_analysis_rate(torch.from_numpy(signal)), signal.shape[1]).numpy()
    inside = slice(1000, -1000)
    assert again.shape == signal.shape
    assert np.abs(again - signal)[:, inside].max() < 1e-3


def test_griffin_lim_keeps_the_picture():
    converter = SpectrogramConverter()
    time = torch.arange(PARAMS.clip_samples) / PARAMS.sample_rate
    signal = (0.3 * torch.sin(2 * torch.pi * 440 * time) + 0.1 * torch.sin(2 * torch.pi * 1234 * time))[None]
    mel = converter.mel_amplitudes_from_waveform(signal)
    again = converter.mel_amplitudes_from_waveform(waveform_from_mel_amplitudes(converter, mel))
    assert (again - mel).norm() / mel.norm() < 0.15
