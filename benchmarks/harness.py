"""What all benchmarks do: take the measures that are asked for, print their tables, write the figures."""

import argparse
import sys
from collections.abc import Callable

import torch

from riffusion.painting import columns
from riffusion.util import files, tables
from riffusion.util.errors import UserError

Records = list[dict[str, object]]


def run_measures(args: argparse.Namespace, take: Callable[[str], Records]) -> int:
    """Take every measure of `args.measure`, print its table, and write all figures so far to `args.json` if given.

    A measure that lacks something ends in one line, and the next one is taken. Returns the exit code, 2 if any did.
    """
    figures: dict[str, Records] = {}
    failed = False
    for name in args.measure:
        try:
            figures[name] = take(name)
        except UserError as error:
            failed = True
            print(f"error: --measure {name}: {error}", file=sys.stderr)
            continue
        print(f"{name}\n{tables.table(figures[name])}\n", flush=True)
        if args.json is not None:
            files.save_json(args.json, {"settings": vars(args), **figures})
    legend = columns.legend(list(figures.values()))
    print(legend, end="\n" * bool(legend))
    return 2 if failed else 0


def require_gpu() -> None:
    """Raises UserError where there is no GPU."""
    if not torch.cuda.is_available():
        raise UserError("needs a GPU with CUDA, and there is none here")
