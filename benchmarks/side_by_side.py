"""Held-out pairs as pictures: the input, the true part, the true part through the autoencoder, and what is painted.

    python benchmarks/side_by_side.py --model_id checkpoints/small --dataset_id build/pairs/valid --png side_by_side.png

The pairs are drawn by --pairs_seed before any model is loaded: stems take turns, and so do songs of a stem. Each row
stands under its instruction. Beside FILE.png there is FILE-large.png, whose pictures have their own size.
"""

import argparse
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from held_out import held_out_pairs, items_of_target, load_painter, spread_over_songs

from riffusion.diffusion import model
from riffusion.diffusion.sampling import Settings, choose_settings, edit_images, reconstruct_images
from riffusion.diffusion.schedulers import DEFAULT_SCHEDULER, DEFAULT_STEPS, SCHEDULERS
from riffusion.painting.dataset_items import Item
from riffusion.painting.long_song import Painter
from riffusion.util import figures, files
from riffusion.util.errors import UserError
from riffusion.util.runtime import run_script

README_WIDTH = 1024  # pixels
GAP = 8
TRUE_PART = {"stem": "true part", "mix": "true result"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model_id", default="checkpoints/small", help="model folder or Hub name (default: %(default)s)")
    add("--dataset_id", type=Path, required=True, help="folder of held-out pairs")
    add("--png", type=Path, required=True, help="where the picture goes")
    add("--pairs", type=int, default=6, help="rows (default: %(default)s)")
    add("--pairs_seed", type=int, default=0, help="seed of which pairs are shown (default: %(default)s)")
    add("--task", default="add", help="task of the pairs (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed to paint with (default: %(default)s)")
    add("--num_inference_steps", type=int, default=DEFAULT_STEPS, help="denoising steps (default: %(default)s)")
    add("--scheduler", choices=SCHEDULERS, default=DEFAULT_SCHEDULER, help="how they are taken (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.pairs < 1:
        parser.error(f"--pairs must be at least 1, not {args.pairs}")
    return args


def main(args: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    pairs = choose_pairs(held_out_pairs(args.dataset_id), args.task, args.pairs, args.pairs_seed)
    painter = load_painter(args.model_id, batch_size=1)
    steps, facts = args.num_inference_steps, model.load_facts(args.model_id)
    settings = choose_settings(facts, steps, args.seed, scheduler=args.scheduler)
    rows = [pictures_of(item, painter, settings) for item in items_of_target(pairs, painter.target)]
    prompts = [f"{prompt}  ({song})" for prompt, song in zip(pairs["edit_prompt"], pairs["song"], strict=True)]
    files.make_folder(args.png.parent)
    small = (README_WIDTH - 3 * GAP) // 4
    for path, width in ((args.png, small), (args.png.with_stem(f"{args.png.stem}-large"), None)):
        sheet(rows, prompts, width).save(path)
        print(path)
    return 0


def choose_pairs(pairs: datasets.Dataset, task: str, number: int, seed: int) -> datasets.Dataset:
    """Some pairs of a task at random: stems take turns, and within a stem songs do. Raises UserError without any."""
    order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
    tasks, stems, songs = pairs["task"], pairs["painted_stem"], pairs["song"]
    rows: dict[str, list[int]] = defaultdict(list)
    for row in order:
        if tasks[row] == task:
            rows[stems[row]].append(row)
    if not rows:
        raise UserError(f'the pairs hold none of the task "{task}"')
    turns = {stem: spread_over_songs(some, songs) for stem, some in sorted(rows.items())}
    longest = max(map(len, turns.values()))
    chosen = [some[turn] for turn in range(longest) for some in turns.values() if turn < len(some)]
    return pairs.select(chosen[:number])


def pictures_of(item: Item, painter: Painter, settings: Settings) -> dict[str, Image.Image]:
    """One row: an item's pictures and the model's, by their headings."""
    (through,) = reconstruct_images(painter.pipeline, [item.truth])
    (painted,) = edit_images(painter.pipeline, [item.original], [item.prompt], [item.sha256], settings)
    true = TRUE_PART[item.target]
    return {"input": item.original, true: item.truth, f"{true}, autoencoder": through, "painted": painted}


def sheet(rows: list[dict[str, Image.Image]], captions: list[str], width: int | None = None) -> Image.Image:
    """Rows of pictures under their headings, each under its caption; `width` is a picture's, its own if None."""
    first = next(iter(rows[0].values()))
    width = width or first.width
    height = round(first.height * width / first.width)
    size = max(figures.CAPTION_SIZE, width // 24)
    font, line = ImageFont.load_default(size), size + 6
    whole = Image.new("L", (len(rows[0]) * (width + GAP) - GAP, line + len(rows) * (line + height + GAP)), 255)
    draw = ImageDraw.Draw(whole)
    for place, heading in enumerate(rows[0]):
        draw.text((place * (width + GAP), 0), heading, fill=0, font=font)
    for number, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        top = line + number * (line + height + GAP)
        letters = max(10, int(whole.width / (0.55 * size)))
        draw.text((0, top), textwrap.shorten(caption, letters, placeholder=" ..."), fill=0, font=font)
        for place, picture in enumerate(row.values()):
            small = picture.convert("L").resize((width - 2, height - 2), Image.Resampling.LANCZOS)
            whole.paste(ImageOps.expand(small, border=1, fill=160), (place * (width + GAP), top + line))
    return whole


if __name__ == "__main__":
    run_script(main, parse_args())
