"""Mel amplitudes to 8-bit pictures and back: 255 - 255 * (mel / max) ** power, low notes at the bottom."""

import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from riffusion.phase import waveform_from_mel_amplitudes
from riffusion.spectrogram import SpectrogramConverter
from riffusion.spectrogram_params import SpectrogramParams, max_value_from_exif
from riffusion.util.disk_space import writing
from riffusion.util.errors import UserError

HEADROOM = 2.0  # a clip's black is twice its backing's peak: a painted stem may be 6 dB louder before it clips

CHANGED_GREY = 8  # levels by which a pixel must differ to count as changed


def shared_max_value(original: np.ndarray, edited: np.ndarray | None = None) -> float:
    """The one amplitude that is black in both pictures of a pair.

    It follows from the original alone unless the edited picture would clip, so that inference, which has no edited
    picture, scales a clip as training did. A silent original is scaled by the edited picture.
    """
    peak = HEADROOM * float(original.max())
    return max(peak, float(edited.max())) if edited is not None else peak


def pixels_from_mel(mel: np.ndarray, max_value: float, power: float = 0.25) -> np.ndarray:
    """Mel amplitudes (..., bands, frames), low band first, to uint8 of the same shape, low band last.

    Silence is white (255), `max_value` and above black (0). Raises ValueError on NaN or infinity.
    """
    if not np.isfinite(mel).all():
        raise ValueError("mel amplitudes hold NaN or infinity")
    if max_value <= 0:
        return np.full_like(mel, 255, dtype=np.uint8)
    level = np.clip(mel / max_value, 0, 1)
    level = np.sqrt(np.sqrt(level)) if power == 0.25 else level**power  # Riffusion's power, at a third of the time
    return np.flip(np.rint(255 - 255 * level), axis=-2).astype(np.uint8)


def changed_share(pixels: np.ndarray, others: np.ndarray) -> float:
    """Share of the pixels that differ by `CHANGED_GREY` levels or more, of two uint8 arrays of one shape."""
    return float(np.mean(np.abs(pixels.astype(np.int16) - others) >= CHANGED_GREY))


def mel_from_pixels(pixels: np.ndarray, max_value: float, power: float = 0.25) -> np.ndarray:
    """Inverse of `pixels_from_mel`: (..., bands, frames) in 0..255 to float32 amplitudes in 0..max_value."""
    level = (255 - np.flip(pixels, axis=-2).astype(np.float32)) / 255
    return max_value * level ** (1 / power)


def image_from_spectrogram(mel: np.ndarray, params: SpectrogramParams, max_value: float | None = None) -> Image.Image:
    """Riffusion's picture of mel amplitudes (1 or 2, bands, frames), with the EXIF tags that decode it.

    Mono is grey; stereo is RGB with left in green and right in blue. Without `max_value` the loudest band is black.
    """
    max_value = float(mel.max()) if max_value is None else max_value
    return image_from_pixels(pixels_from_mel(mel, max_value, params.power_for_image), params, max_value)


def image_from_pixels(pixels: np.ndarray, params: SpectrogramParams, max_value: float) -> Image.Image:
    """`image_from_spectrogram` of the pixels themselves, uint8 (1 or 2, bands, frames), low band last."""
    if len(pixels) == 1:
        image = Image.fromarray(pixels[0])
    else:
        image = Image.fromarray(np.stack([np.zeros_like(pixels[0]), *pixels], axis=-1))
    image.getexif().update(params.to_exif(max_value))
    return image


def grey_levels(image: Image.Image, stereo: bool = False) -> np.ndarray:
    """Grey levels 0 to 255 of a picture of any mode, (1, height, width); of a stereo one (2, height, width).

    What is transparent is silent, that is white; 16-bit grey keeps its fractions. Raises UserError if the mode's range
    is unknown, or if a picture that should be stereo is grey.
    """
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.float32)[None] / 257
        if stereo:
            raise UserError("picture is grey, its params say stereo")
        return levels
    image = _opaque(image)
    try:
        if image.mode in ("I", "F"):  # converting would clip them
            raise ValueError("range unknown")
        levels = np.asarray(image.convert("RGB" if stereo else "L"))
    except ValueError as error:
        raise UserError(f"a picture of mode {image.mode} can't be read: save it as PNG, grey or RGB") from error
    if not stereo:
        return levels[None]
    if (levels == levels[..., :1]).all():
        raise UserError("picture is grey, its params say stereo")
    return levels[..., 1:].transpose(2, 0, 1)


def colours(image: Image.Image) -> Image.Image:
    """A picture of any mode that `grey_levels` reads, in RGB; what is transparent is white, 16 bits become 8."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.rint(grey_levels(image)[0]).astype(np.uint8))
    return _opaque(image).convert("RGB")


def _opaque(image: Image.Image) -> Image.Image:
    """A picture on white, as silence is."""
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


def spectrogram_from_image(image: Image.Image, params: SpectrogramParams, max_value: float | None = None) -> np.ndarray:
    """Mel amplitudes (channels, bands, frames) of a picture, for samples in [-1, 1].

    `max_value` defaults to what its EXIF says (`max_value_from_exif`), then to 1.

    Raises UserError if the picture's height or colours aren't what the params say.
    """
    if image.height != params.num_frequencies:
        raise UserError(f"picture is {image.height} pixels high, its params say {params.num_frequencies} bands")
    if max_value is None:
        told = max_value_from_exif(image.getexif())
        max_value = 1.0 if told is None else told
    return mel_from_pixels(grey_levels(image, params.stereo), max_value, params.power_for_image)


class SpectrogramImageConverter:
    """Waveforms to Riffusion's pictures and back, without a second signal to lean on."""

    def __init__(self, params: SpectrogramParams | None = None, device: str = "cpu"):
        self.params = params or SpectrogramParams()
        self.converter = SpectrogramConverter(self.params, device)

    def spectrogram_image_from_audio(self, waveform: np.ndarray, max_value: float | None = None) -> Image.Image:
        """Picture of float32 (channels, samples); channels are averaged unless the params say stereo.

        What is shorter than one window is followed by silence.
        """
        channels = waveform if self.params.stereo else waveform.mean(axis=0, keepdims=True)
        missing = max(0, self.params.win_length - channels.shape[1])
        mel = self.converter.mel_amplitudes_from_waveform(torch.from_numpy(np.pad(channels, ((0, 0), (0, missing)))))
        return image_from_spectrogram(mel.cpu().numpy(), self.params, max_value)

    def audio_from_spectrogram_image(self, image: Image.Image, max_value: float | None = None) -> np.ndarray:
        """Griffin-Lim of a picture: float32 (channels, samples), scaled down if its peak is over 1.

        Raises UserError if the picture is narrower than half a window.
        """
        least = self.params.win_length // 2 // self.params.hop_length + 2
        if image.width < least:
            raise UserError(f"picture is {image.width} pixels wide, and sound can be made of {least} or more")
        mel = torch.from_numpy(spectrogram_from_image(image, self.params, max_value))
        waveform = waveform_from_mel_amplitudes(self.converter, mel).cpu().numpy()
        return waveform / max(1.0, float(np.abs(waveform).max()))


def save_png(image: Image.Image, path: Path) -> None:
    """Write a lossless picture with its EXIF tags. Raises UserError if it can't be written."""
    with writing(path, image.width * image.height * len(image.getbands())):
        image.save(path, exif=image.getexif(), compress_type=zlib.Z_RLE)  # a fifth of the default's time, no larger
