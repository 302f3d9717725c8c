import librosa
import numpy as np
import pytest
import torch

from riffusion.image import image_from_spectrogram
from riffusion.spectrogram import ExifTags, SpectrogramConverter, SpectrogramParams

PARAMS = SpectrogramParams()


def reference_picture(signal: np.ndarray) -> np.ndarray:
    """The formula itself, with librosa and numpy: float (512, 512), low notes at the bottom."""
    stft = librosa.stft(signal, n_fft=17640, hop_length=441, win_length=4410, window="hann", pad_mode="reflect")
    filters = librosa.filters.mel(sr=44100, n_fft=17640, n_mels=512, fmin=0, fmax=10000, htk=True, norm=None)
    mel = filters @ np.abs(stft)
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


def test_params_survive_exif():
    params = SpectrogramParams(stereo=True, sample_rate=48000, step_size_ms=5, max_frequency=8000)
    exif = params.to_exif(max_value=12.5)
    assert exif[11080] == 12.5
    assert SpectrogramParams.from_exif(exif) == params
    assert SpectrogramParams.from_exif({}) == SpectrogramParams()
    assert set(exif) == set(ExifTags)


def test_mel_inversion_gives_back_the_mel_amplitudes():
    converter = SpectrogramConverter()
    signal = torch.randn(1, PARAMS.clip_samples, generator=torch.Generator().manual_seed(0))
    spectrum = converter.stft(signal)
    mel = converter.mel_amplitudes_from_stft(spectrum)
    magnitude = converter.magnitude_from_mel_amplitudes(mel)
    true = spectrum.abs()[:, ::4]
    heard = slice(1, 950)  # 10 Hz to 9.5 kHz
    error = (magnitude - true)[:, heard].norm() / true[:, heard].norm()
    assert magnitude.shape == (1, 2206, 512)
    assert error < 0.35  # the mel bands blur high notes; noise is the hardest signal there is


def test_griffin_lim_keeps_the_picture():
    converter = SpectrogramConverter()
    time = torch.arange(PARAMS.clip_samples) / PARAMS.sample_rate
    signal = (0.3 * torch.sin(2 * torch.pi * 440 * time) + 0.1 * torch.sin(2 * torch.pi * 1234 * time))[None]
    mel = converter.mel_amplitudes_from_waveform(signal)
    again = converter.mel_amplitudes_from_waveform(converter.waveform_from_mel_amplitudes(mel))
    assert (again - mel).norm() / mel.norm() < 0.15
