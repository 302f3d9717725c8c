"""More types of flags, for argparse. Nothing here imports what takes long: `--help` answers at once."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from riffusion.util import names


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
