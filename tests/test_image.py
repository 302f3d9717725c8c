import numpy as np
import pytest
from conftest import tone
from PIL import Image

from riffusion import metrics
from riffusion.image import (
    HEADROOM,
    SpectrogramImageConverter,
    image_from_spectrogram,
    mel_from_pixels,
    pixels_from_mel,
    shared_max_value,
    spectrogram_from_image,
)
from riffusion.pair import save_png
from riffusion.spectrogram import SpectrogramParams

PARAMS = SpectrogramParams()


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


def test_one_scale_follows_from_the_original_unless_the_edit_would_clip():
    original = np.full((1, 2, 2), 3.0)
    assert shared_max_value(original) == HEADROOM * 3
    assert shared_max_value(original, np.full((1, 2, 2), 5.0)) == HEADROOM * 3
    assert shared_max_value(original, np.full((1, 2, 2), 9.0)) == 9


def test_a_picture_of_another_height_is_refused():
    with pytest.raises(ValueError, match="300 pixels high"):
        spectrogram_from_image(Image.new("L", (64, 300)), PARAMS)


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
