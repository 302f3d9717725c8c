"""Spectrogram pictures of music, as Riffusion V1 defines them, and the edit that paints a stem into one."""

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from riffusion.painting.api import LoadedModel, Painting

# These warn while they are imported, on every machine without xformers' GPU kernels or torchvision; neither is needed.
logging.getLogger("xformers").setLevel(logging.ERROR)
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

# Nothing is told to anybody. onnxruntime, which finds pitches, would send what machine it runs on; the Hub's clients
# would name their surroundings in each request and count what is loaded. They may have been imported before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
for module, setting, value in (
    ("huggingface_hub.constants", "HF_HUB_DISABLE_TELEMETRY", True),
    ("diffusers.utils.hub_utils", "HF_HUB_DISABLE_TELEMETRY", True),
    ("datasets.config", "HF_UPDATE_DOWNLOAD_COUNTS", False),
):
    if module in sys.modules:
        setattr(sys.modules[module], setting, value)


def paint(
    audio: "np.ndarray",
    sample_rate: int,
    prompt: str,
    model: "str | LoadedModel" = "checkpoints/small",
    **options: Any,
) -> "Painting":
    """Paint a part into a recording by instruction, as inference_instruct_pix2pix.py does it with the same options.

        song, rate = soundfile.read("song.wav", always_2d=True)
        result = riffusion.paint(song.T, rate, "add a soft female vocal", seed=0)
        soundfile.write("painted.wav", result.painted.T, result.sample_rate)

    `audio` is float (channels, samples) in [-1, 1], or (samples,), at `sample_rate` Hz; what is beyond full scale is
    clipped. `model` is a folder or a name on the Hub, or what `load` made of it. `options` are the script's flags by
    their names, such as `seed`, `task`, `start` and `end` (seconds), `num_inference_steps`, `guidance_scale`,
    `stem_gain_db`, `num_candidates`, `retries` or `device`: see `riffusion.painting.options.PaintOptions`.

    Returns `.painted`, the recording with the edit, and `.stem`, the painted part alone, both float32 (channels,
    samples) as long as the recording and of 24 bits; for an "add", painted - stem is the recording to the last of them.
    `.measurements` say whether the edit was performed, and `.result` holds everything that result.json would.

    Raises UserError if the recording can't be painted into or the model can't be had.
    """
    from riffusion.painting.api import paint_array
    from riffusion.painting.options import PaintOptions

    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    for name in ("guidance_scale", "image_guidance_scale"):
        if isinstance(given.get(name), int | float):
            given[name] = (given[name],)
    if isinstance(model, str):
        return paint_array(audio, sample_rate, PaintOptions(model_id=model, prompt=(prompt,), quiet=True, **given))
    return paint_array(audio, sample_rate, model.options_with(given | {"prompt": (prompt,)}), model)


def load(model: str = "checkpoints/small", **options: Any) -> "LoadedModel":
    """A model to paint with more than once: each call of `paint` that gets its name loads it anew.

        model = riffusion.load("checkpoints/small")
        results = [riffusion.paint(song.T, rate, prompt, model) for prompt in prompts]

    `model` is a folder or a name on the Hub. `options` are those of the script's flags that say how it is loaded:
    `model_config`, `device`, `precision` and `compile`. It keeps its memory until nothing refers to it any more.

    Raises UserError if the model can't be had.
    """
    from riffusion.painting.api import load_model

    return load_model(model, **options)
