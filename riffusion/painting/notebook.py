"""What a notebook shows of a painting: a picture and a player of the result and of the part, and what was measured."""

import base64
import io
from html import escape

import numpy as np
import soundfile

from riffusion.audio import resample
from riffusion.image import SpectrogramImageConverter
from riffusion.painting.markup import table
from riffusion.painting.result import Result
from riffusion.spectrogram_params import max_value_from_exif

STYLE = "display:block;width:100%;max-width:60rem;height:10rem"  # of a picture or a player, which makes itself smaller


def painting_html(result: Result, sounds: dict[str, np.ndarray], rate: int) -> str:
    """A result as HTML with everything in it, pictures on one scale; sounds are FLAC files of 16 bits.

    `sounds` are float32 (channels, samples) at `rate` Hz, the loudest first.
    """
    converter, max_value = SpectrogramImageConverter(), None
    shown = [f"<p><b>{escape(result.prompt)}</b> ({escape(result.task)})</p>"]
    for name, sound in sounds.items():
        mono = resample(sound.mean(axis=0, keepdims=True), rate, converter.params.sample_rate)
        picture = converter.spectrogram_image_from_audio(mono, max_value)
        max_value = max_value or max_value_from_exif(picture.getexif())
        image, player = io.BytesIO(), io.BytesIO()
        picture.save(image, "PNG")
        soundfile.write(player, np.clip(sound.T, -1, 1), rate, "PCM_16", format="FLAC")
        shown.append(
            f'<p>{name}</p><img style="{STYLE}" alt="spectrogram, {name}" src="{_inline("image/png", image)}">'
        )
        shown.append(
            f'<audio controls style="width:100%;max-width:60rem" src="{_inline("audio/flac", player)}"></audio>'
        )
    return "\n".join([*shown, table([result.measured.row()])])


def _inline(kind: str, content: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
