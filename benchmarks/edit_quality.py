"""Is the edit performed? Held-out pairs, painted by a model, beside two control rows.

    python benchmarks/edit_quality.py --model_id checkpoints/small --dataset_id build/pairs/valid --json edits.json

`copy the input` stands for a model that answers with its input's picture, `oracle` for one that answers with the true
edited picture; both take the model's way from picture to measurement.
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from riffusion import model, report
from riffusion.dataset import held_out_split, load_splits
from riffusion.errors import UserError
from riffusion.painting import Painter, unedited_images
from riffusion.results import summarise
from riffusion.runtime import run_script
from riffusion.samples import OUTSIDE, Sample, Sounding, read_samples
from riffusion.sampling import DEFAULT_SCHEDULER, DEFAULT_STEPS, Settings, choose_settings, edit_images
from riffusion.schedulers import SCHEDULERS
from riffusion.spectrogram import SpectrogramConverter


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model_id", default="checkpoints/small", help="model folder or Hub name (default: %(default)s)")
    add("--dataset_id", required=True, help="folder of held-out pairs")
    add("--max_samples", type=int, default=50, help="pairs, chosen at random (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0], help="seeds to paint each pair with (default: 0)")
    add("--num_inference_steps", type=int, default=DEFAULT_STEPS, help="denoising steps (default: %(default)s)")
    add("--scheduler", choices=SCHEDULERS, default=DEFAULT_SCHEDULER, help="how they are taken (default: %(default)s)")
    add("--guidance_scale", type=float, help="text guidance (default: the model's)")
    add("--image_guidance_scale", type=float, help="image guidance (default: the model's)")
    add("--batch_size", type=int, default=4, help="pictures sampled together (default: %(default)s)")
    add("--json", type=Path, help="also write the figures here")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    facts = model.load_facts(args.model_id)
    samples = held_out_samples(args.dataset_id, args.max_samples, facts.target)
    pipeline = model.load_pipeline(args.model_id, "cpu", torch.float32)
    painter = Painter(pipeline, SpectrogramConverter(facts.params), facts.target, args.batch_size)
    soundings = [Sounding(sample, painter.converter) for sample in tqdm(samples, desc="sounding the inputs")]
    rows = control_rows(soundings, facts.target)
    for seed in args.seeds:
        settings = choose_settings(
            facts,
            args.guidance_scale,
            args.image_guidance_scale,
            args.num_inference_steps,
            seed,
            scheduler=args.scheduler,
        )
        measured, _ = paint(soundings, painter, settings)
        rows.append(summarise(f"model, seed {seed}", measured))
    print(report.table(rows))
    if args.json is not None:
        report.save_json(args.json, {"settings": vars(args), "rows": rows})
    return 0


def held_out_samples(dataset_id: str, most: int, target: str) -> list[Sample]:
    """A random choice of the folder's samples, the same every time. Raises UserError if they aren't of that target."""
    splits = load_splits(dataset_id)
    pairs = (held_out_split(splits) or next(iter(splits.values()))).shuffle(seed=0)
    samples = read_samples(pairs.select(range(min(most, len(pairs)))), None)
    if samples[0].target != target:
        raise UserError(f"the pairs' target is {samples[0].target!r}, the model's is {target!r}")
    return samples


def control_rows(soundings: list[Sounding], target: str) -> list[dict[str, object]]:
    """The rows of answers that are known."""
    controls = [sounding.controls(target) for sounding in tqdm(soundings, desc="control rows")]
    return [summarise(name, [rows[name] for rows in controls]) for name in controls[0]]


def paint(
    soundings: list[Sounding], painter: Painter, settings: Settings
) -> tuple[list[dict[str, object]], list[Image.Image]]:
    """What is measured of the model's answer to every sample, and the answers."""
    rows: list[dict[str, object]] = []
    answers: list[Image.Image] = []
    label = f"{settings.num_inference_steps} steps of {settings.scheduler}, seed {settings.seed}"
    for first in tqdm(range(0, len(soundings), painter.batch_size), desc=label):
        batch = soundings[first : first + painter.batch_size]
        samples = [sounding.sample for sounding in batch]
        originals = [sample.original for sample in samples]
        names = [sample.sha256 for sample in samples]
        unedited = unedited_images(originals, painter)
        painted = edit_images(painter.pipeline, originals, [sample.prompt for sample in samples], names, settings)
        for sounding, before, after in zip(batch, unedited, painted, strict=True):
            stem = sounding.stem(before, after, painter.target)
            outside = sounding.sample.outside(before, after, painter.target)
            rows.append(sounding.measured(stem).row(sounding.sample.task) | {OUTSIDE: outside})
        answers += painted
    return rows, answers


if __name__ == "__main__":
    run_script(main, parse_args())
