"""Types and help of flags, for argparse. Nothing here imports what takes long: `--help` answers at once."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from riffusion.util import names

if TYPE_CHECKING:
    import torch

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # torch's names

MODEL_HELP = "model folder, Hub name, .safetensors or .ckpt file, or folder of low-rank updates"
CONFIG_HELP = "settings and tokenizer of a model in one file (default: Stable Diffusion's own, from the Hub)"


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that shows the default of every flag that has one, unless its text already says what the default means."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if action.nargs == 0 or action.required or default in (None, argparse.SUPPRESS) or "default" in text:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
        return f"{text} (default: {shown.replace('%', '%%') or 'none'})"


def at_least(least: int) -> Callable[[str], int]:
    """An integer that isn't below `least`, for argparse's `type`."""

    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
        return value

    parse.__name__ = "int"  # argparse's word for what isn't one
    return parse


def within(least: float, most: float = math.inf) -> Callable[[str], float]:
    """A number from `least` to `most`, for argparse's `type`; NaN is none."""

    def parse(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            allowed = f"at least {least}" if most == math.inf else f"between {least} and {most}"
            raise argparse.ArgumentTypeError(f"must be {allowed}, not {value}")
        return value

    parse.__name__ = "float"  # argparse's word for what isn't one
    return parse


def probability(text: str) -> float:
    """A number from 0 to 1, for argparse's `type`."""
    return within(0, 1)(text)


def between(low: float, high: float, kind: Callable[[str], float] = float) -> Callable[[str], float]:
    """A number of this kind from `low` to `high`, which may be infinite, for argparse's `type`."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            bounds = f"at least {low}" if math.isinf(high) else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"must be {bounds}, not {text}")
        return value

    parse.__name__ = kind.__name__  # argparse's word for what isn't one
    return parse


def finite(text: str) -> float:
    """A number that is neither infinite nor NaN, for argparse's `type`."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be finite, not {text}")
    return value


def seconds(text: str) -> float:
    """A time in a song, as 75.5 or 1:15.5 or 0:01:15.5, for argparse's `type`."""
    value = 0.0
    for part in text.split(":"):
        value = 60 * value + float(part)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a time as 75.5 or 1:15.5, not {text}")
    return value


def utf8_text(text: str) -> str:
    """A text, whatever the locale, for argparse's `type`; bytes that aren't UTF-8 are refused."""
    decoded = names.utf8(text)
    if decoded is None:
        raise argparse.ArgumentTypeError("isn't UTF-8")
    return decoded


def folder_name(text: str) -> str:
    """The name of a visible folder, for argparse's `type`; a path is refused."""
    if not text or text != Path(text).name or text.startswith("."):
        raise argparse.ArgumentTypeError(f"must be the name of a folder, not a path: {text!r}")
    return text


def torch_device(name: str) -> "torch.device":
    """A torch device for argparse's `type`: a name that torch doesn't know, or a GPU that isn't there, is refused."""
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"no such device here: {name}") from error
