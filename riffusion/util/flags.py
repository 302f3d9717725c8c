"""Types and help of flags, for argparse. Nothing here imports what takes long: `--help` answers at once."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # torch's names


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


def probability(text: str) -> float:
    """A number from 0 to 1, for argparse's `type`."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, not {value}")
    return value


def torch_device(name: str) -> "torch.device":
    """A torch device for argparse's `type`: a name that torch doesn't know, or a GPU that isn't there, is refused."""
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"no such device here: {name}") from error
