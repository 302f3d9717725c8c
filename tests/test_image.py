import numpy as np
import pytest
import torch
from conftest import tone
from PIL import Image

from riffusion.image import (
    HEADROOM,
    SpectrogramImageConverter,
    grey_levels,
    image_from_spectrogram,
    mel_from_pixels,
    pixels_from_mel,
    save_png,
    shared_max_value,
    spectrogram_from_image,
)
from riffusion.painting import metrics
from riffusion.spectrogram import SpectrogramParams
from riffusion.util.errors import UserError

PARAMS = SpectrogramParams()


def reference_picture(waveform: np.ndarray) -> np.ndarray:
    """Riffusion's formula, written out: (channels, samples) to grey levels (channels, 512, frames), not rounded."""
    window = torch.hann_window(4410)
    padded = {"n_fft": 17640, "hop_length": 441, "win_length": 4410, "window": window}
    magnitude = torch.stft(torch.from_numpy(waveform), **padded, return_complex=True).abs().numpy()
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 10000 / 700), 514) / 2595) - 1)  # HTK's mel scale
    bins = np.arange(8821) * 44100 / 17640
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    mel = np.maximum(0, np.minimum(rising, falling)) @ magnitude
    return (255 - 255 * (mel / mel.max()) ** 0.25)[:, ::-1]


def test_silence_is_white_and_the_loudest_is_black():
    assert (pixels_from_mel(np.zeros((1, 4, 4)), max_value=0.0) == 255).all()
    assert (pixels_from_mel(np.ones((1, 4, 4)), max_value=1.0) == 0).all()


def test_low_notes_are_at_the_bottom():
    mel = np.zeros((1, 512, 8), dtype=np.float32)
    mel[0, 3] = 1.0
    assert np.asarray(image_from_spectrogram(mel, PARAMS))[-4].max() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="NaN"):
        pixels_from_mel(np.full((1, 4, 4), bad), max_value=1.0)


def test_pixels_come_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert (pixels_from_mel(mel_from_pixels(pixels, 7.0), 7.0) == pixels).all()


def test_exif_decodes_the_saved_picture(tmp_path):
    mel = np.random.default_rng(0).uniform(0, 300, (1, 512, 32)).astype(np.float32)
    save_png(image_from_spectrogram(mel, PARAMS), tmp_path / "picture.png")
    again = spectrogram_from_image(Image.open(tmp_path / "picture.png"), PARAMS)
    assert np.abs(again**0.25 - mel**0.25).max() <= 0.51 / 255 * mel.max() ** 0.25 + 1e-4


def test_stereo_is_green_and_blue():
    mel = np.random.default_rng(0).uniform(0, 1, (2, 512, 16)).astype(np.float32)
    params = SpectrogramParams(stereo=True)
    image = image_from_spectrogram(mel, params)
    red, green, blue = np.asarray(image).transpose(2, 0, 1)
    assert image.mode == "RGB"
    assert red.max() == 0
    assert (green != blue).any()
    assert spectrogram_from_image(image, params).shape == (2, 512, 16)


@pytest.mark.parametrize("stereo", [False, True])
def test_pictures_equal_riffusions_formula_to_one_grey_level(stereo):
    noise = np.random.default_rng(0).normal(0, 0.1, (2, PARAMS.sample_rate // 2)).astype(np.float32)
    left, right = noise * np.linspace(0, 1, noise.shape[1], dtype=np.float32) ** 4 + tone(220, 0.5)
    waveform = np.stack([left, 0.1 * right])  # a common scale: the right channel's peak is not black
    params = SpectrogramParams(stereo=stereo)
    image = SpectrogramImageConverter(params).spectrogram_image_from_audio(waveform)
    if not stereo:
        waveform = waveform.mean(axis=0, keepdims=True)
    levels, reference = grey_levels(image, stereo), reference_picture(waveform)
    assert levels.shape == reference.shape == (1 + stereo, 512, 51)
    assert np.abs(levels - reference).max() <= 1
    assert levels.min() == 0


def test_a_stereo_picture_keeps_its_channels_apart():
    params = SpectrogramParams(stereo=True)
    image = SpectrogramImageConverter(params).spectrogram_image_from_audio(
        np.concatenate([tone(220, 0.5), tone(330, 0.5)])
    )
    sound = SpectrogramImageConverter(params).audio_from_spectrogram_image(image)
    pitches = [metrics.measure_voicing(channel, params.sample_rate).median_f0_hz for channel in sound]
    assert pitches == pytest.approx([220, 330], rel=0.01)


def test_pictures_of_any_mode_are_read():
    picture = Image.fromarray(np.arange(240, dtype=np.uint8).reshape(15, 16))
    levels = np.asarray(picture)[None]
    for mode in ("RGB", "P", "LA", "RGBA", "CMYK"):
        assert (grey_levels(picture.convert(mode)) == levels).all()
    fine = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257 + 100)
    assert fine.mode == "I;16"
    assert grey_levels(fine) == pytest.approx(levels + 100 / 257)
    clear = picture.convert("RGBA")
    clear.putalpha(0)
    assert (grey_levels(clear) == 255).all()  # what isn't there is silent


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_a_mode_of_unknown_range_is_refused(mode):
    with pytest.raises(UserError, match=f"mode {mode}"):
        grey_levels(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_grey_is_not_stereo(mode):
    with pytest.raises(UserError, match="grey"):
        grey_levels(Image.new(mode, (4, 4)), stereo=True)


def test_one_scale_follows_from_the_original_unless_the_edit_would_clip():
    original = np.full((1, 2, 2), 3.0)
    assert shared_max_value(original) == HEADROOM * 3
    assert shared_max_value(original, np.full((1, 2, 2), 5.0)) == HEADROOM * 3
    assert shared_max_value(original, np.full((1, 2, 2), 9.0)) == 9


def test_a_picture_of_another_height_is_refused():
    with pytest.raises(UserError, match="300 pixels high"):
        spectrogram_from_image(Image.new("L", (64, 300)), PARAMS)


def test_sounds_and_pictures_may_be_short():
    converter = SpectrogramImageConverter()
    image = converter.spectrogram_image_from_audio(tone(220, 0.01))
    assert image.size == (11, 512)  # one window
    least = image.crop((0, 0, 7, 512))
    assert converter.audio_from_spectrogram_image(least, max_value=1.0).shape == (1, 6 * PARAMS.hop_length)
    with pytest.raises(UserError, match="6 pixels wide"):
        converter.audio_from_spectrogram_image(image.crop((0, 0, 6, 512)))


def test_picture_to_sound_and_back():
    signal = tone(220, PARAMS.clip_seconds)
    converter = SpectrogramImageConverter()
    image = converter.spectrogram_image_from_audio(signal)
    sound = converter.audio_from_spectrogram_image(image)
    assert abs(sound.shape[1] - signal.shape[1]) <= PARAMS.hop_length
    heard = metrics.measure_voicing(sound[0], PARAMS.sample_rate)
    assert heard.median_f0_hz == pytest.approx(220, rel=0.01)
    assert heard.voiced_share > 0.9
    assert np.std(sound) == pytest.approx(np.std(signal), rel=0.1)
