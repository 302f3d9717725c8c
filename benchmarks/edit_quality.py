"""Is the edit performed? Held-out pairs, painted by a model, beside two control rows.

    python benchmarks/edit_quality.py --model_id checkpoints/small --dataset_id build/pairs/valid --json edits.json

`copy the input` stands for a model that answers with its input's picture, `oracle` for one that answers with the true
edited picture; both take the model's way from picture to measurement.
"""

import argparse
import sys
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from riffusion import metrics, model, report
from riffusion.dataset import dataset_target, held_out_split, load_splits
from riffusion.errors import UserError
from riffusion.image import spectrogram_from_image
from riffusion.painting import Painter, unedited_images
from riffusion.phase import painted_stem, waveform_from_mel_amplitudes
from riffusion.runtime import run_script
from riffusion.sampling import choose_settings, edit_images
from riffusion.spectrogram import ExifTags, SpectrogramConverter


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model_id", default="checkpoints/small", help="model folder or Hub name (default: %(default)s)")
    add("--dataset_id", required=True, help="folder of held-out pairs")
    add("--max_samples", type=int, default=50, help="pairs, chosen at random (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0], help="seeds to paint each pair with (default: 0)")
    add("--num_inference_steps", type=int, default=20, help="denoising steps (default: %(default)s)")
    add("--guidance_scale", type=float, help="text guidance (default: the model's)")
    add("--image_guidance_scale", type=float, help="image guidance (default: the model's)")
    add("--batch_size", type=int, default=4, help="pictures sampled together (default: %(default)s)")
    add("--json", type=Path, help="also write the figures here")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    pairs = held_out_pairs(args)
    facts = model.load_facts(args.model_id)
    if dataset_target(pairs) != facts.target:
        raise UserError(f"the pairs' target is {dataset_target(pairs)!r}, the model's is {facts.target!r}")
    pipeline = model.load_pipeline(args.model_id, "cpu", torch.float32)
    converter = SpectrogramConverter(facts.params)
    originals, targets = list(pairs["original_image"]), list(pairs["edited_image"])
    rows = [
        measure("copy the input", originals, originals, originals, converter, facts.target),
        measure("oracle", originals, originals, targets, converter, facts.target),
    ]
    for seed in args.seeds:
        settings = choose_settings(
            facts, args.guidance_scale, args.image_guidance_scale, args.num_inference_steps, seed
        )
        painter = Painter(pipeline, converter, facts.target, settings, args.batch_size)
        unedited, painted = paint(pairs, painter)
        rows.append(measure(f"model, seed {seed}", originals, unedited, painted, converter, facts.target))
    print(report.table(rows))
    if args.json is not None:
        report.save_json(args.json, {"settings": vars(args), "rows": rows})
    return 0


def held_out_pairs(args: argparse.Namespace) -> datasets.Dataset:
    """A random choice of the folder's pairs, the same every time."""
    splits = load_splits(args.dataset_id)
    pairs = held_out_split(splits) or next(iter(splits.values()))
    pairs = pairs.shuffle(seed=0)
    return pairs.select(range(min(args.max_samples, len(pairs))))


def paint(pairs: datasets.Dataset, painter: Painter) -> tuple[list[Image.Image], list[Image.Image]]:
    """What to compare with and the model's answer, for every pair's original and instruction."""
    unedited, painted = [], []
    for first in tqdm(range(0, len(pairs), painter.batch_size), desc=f"painting, seed {painter.settings.seed}"):
        batch = pairs[first : first + painter.batch_size]
        originals = batch["original_image"]
        names = [f"pair {first + number}" for number in range(len(originals))]
        unedited += unedited_images(originals, painter)
        painted += edit_images(painter.pipeline, originals, batch["edit_prompt"], names, painter.settings)
    return unedited, painted


def measure(
    row: str,
    originals: list[Image.Image],
    unedited: list[Image.Image],
    answers: list[Image.Image],
    converter: SpectrogramConverter,
    target: str,
) -> dict[str, object]:
    """One row of the table: medians over all pairs of what was painted over the sound of their originals."""
    edits, voiced = [], []
    for pictures in tqdm(zip(originals, unedited, answers, strict=True), total=len(originals), desc=row):
        max_value = float(pictures[0].getexif().get(ExifTags.MAX_VALUE, 1.0))
        original, before, after = (
            torch.from_numpy(spectrogram_from_image(picture, converter.params, max_value)) for picture in pictures
        )
        backing = waveform_from_mel_amplitudes(converter, original)
        stem = painted_stem(converter, backing, before, after, target)
        mels = [converter.mel_amplitudes_from_waveform(signal)[0].numpy() for signal in (stem, backing)]
        edits.append(metrics.measure_edit(*mels))
        voiced.append(metrics.measure_voicing(stem[0].numpy(), converter.params.sample_rate).voiced_share)
    return {
        "answer": row,
        "edits": len(edits),
        "performed %": 100 * float(np.mean([edit.performed for edit in edits])),
        "level dB": float(np.median([edit.level_db for edit in edits])),
        "active %": 100 * float(np.median([edit.active_share for edit in edits])),
        "voiced %": 100 * float(np.median(voiced)),
    }


if __name__ == "__main__":
    run_script(main, parse_args())
