"""Is painting as exact, as fast and as good as it should be? Beside diffusers' own InstructPix2Pix pipeline.

    python benchmarks/inference.py --dataset_id build/pairs/valid --model_id checkpoints/small --json inference.json
    python benchmarks/inference.py --dataset_id build/pairs/valid --measure gpu --batch_sizes 1 16

`equal`: the same scheduler, noise and steps in float32; the largest difference of our pictures from the pipeline's, in
grey levels, and seconds a picture. `speed`: our defaults beside the pipeline as it comes, from picture to picture, by
batch size. `quality`: our defaults beside --slow_steps of DDIM over the same clips and seeds; seconds are those of
painting, without the measuring. `batches`: pictures of the inference script by batch sizes, order of the items and
number of processes. `whole_song`: a song of --song_seconds, stage by stage and as a whole. `start`: a song of 6 s from
the shell to the page. Both are at default settings but for --song_steps. `gpu`: a model of Stable Diffusion 1.5's size
with random weights in bf16. --real_size adds that model's row to `equal` and `speed`, with --real_size_steps each.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import require_gpu, run_measures
from held_out import control_rows, held_out_items, open_audio, paint
from real_size import matrix_rate, real_size_model, unet_flops
from song_speed import song_rows, start_rows

from riffusion.diffusion import model
from riffusion.diffusion.sampling import Settings, choose_settings, edit_images, sample_generator
from riffusion.diffusion.schedulers import DEFAULT_SCHEDULER, DEFAULT_STEPS
from riffusion.painting.dataset_items import Item
from riffusion.painting.long_song import Painter
from riffusion.painting.result import read_result
from riffusion.painting.summary import Summary
from riffusion.spectrogram import SpectrogramConverter
from riffusion.util.devices import choose_dtype
from riffusion.util.flags import Help
from riffusion.util.runtime import keep_freed_memory, run_script

ROOT = Path(__file__).resolve().parent.parent
FROM_SLOW = "rms from the slow one's, grey levels"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--model_id", default="checkpoints/small", help="model folder (default: %(default)s)")
    add("--dataset_id", required=True, help="folder of held-out pairs")
    usual = [name for name in MEASURES if name != "gpu"]
    add("--measure", nargs="+", choices=MEASURES, default=usual, help="what to measure")
    add("--batch_sizes", type=int, nargs="+", default=[1, 8], help="of `speed` and `gpu` (default: 1 8)")
    add("--repeats", type=int, default=3, help="runs of each, taken in turns; medians count (default: 3)")
    add("--num_inference_steps", type=int, default=20, help="of `equal`, and of the pipeline (default: 20)")
    add("--real_size", action="store_true", help="also a model of Stable Diffusion 1.5's size with random weights")
    add("--real_size_steps", type=int, default=2, help="its steps (default: 2)")
    add("--max_samples", type=int, default=30, help="pairs of `quality` (default: 30)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of `quality` (default: 0 1 2)")
    add("--slow_steps", type=int, default=100, help="what `quality` compares with (default: 100)")
    add("--song_seconds", type=float, default=180, help="length of the song of `whole_song` (default: 180)")
    add(
        "--song_steps", type=int, default=DEFAULT_STEPS, help="steps of `whole_song` and `start` (default: %(default)s)"
    )
    add("--json", type=Path, help="also write the figures here (default: print them only)")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Options:
    """The flags."""

    model_id: str
    dataset_id: str
    measure: list[str]
    batch_sizes: list[int]
    repeats: int
    num_inference_steps: int
    real_size: bool
    real_size_steps: int
    max_samples: int
    seeds: list[int]
    slow_steps: int
    song_seconds: float
    song_steps: int
    json: Path | None


def main(args: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        return run_measures(args, lambda name: MEASURES[name](Options(**vars(args)), Path(folder)))


def models(options: Options, folder: Path) -> list[tuple[str, str, int]]:
    """Name, folder and steps of each model to run."""
    found = [(Path(options.model_id).name, options.model_id, options.num_inference_steps)]
    if options.real_size:
        found.append(("real size", str(real_size_edit_model(folder)), options.real_size_steps))
    return found


def real_size_edit_model(folder: Path) -> Path:
    """The real-size model with a UNet that takes a second picture."""
    output = folder / "real-size"
    if not output.exists():
        parts = model.load_parts(str(real_size_model(folder / "base")))
        model.take_condition(parts)
        model.pipeline_from_parts(parts).save_pretrained(output)
    return output


def theirs(path: str, dtype: torch.dtype = torch.float32) -> StableDiffusionInstructPix2PixPipeline:
    """diffusers' pipeline as it comes."""
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(path, torch_dtype=dtype, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(DEVICE)


def in_turns(
    runs: Mapping[str, Callable[[], list[Image.Image]]], repeats: int
) -> tuple[dict[str, list[Image.Image]], dict[str, float]]:
    """The last pictures of each run, and the median seconds per picture."""
    pictures: dict[str, list[Image.Image]] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            pictures[name] = run()
            times[name].append((time.perf_counter() - started) / len(pictures[name]))
    return pictures, {name: float(np.median(spent)) for name, spent in times.items()}


def grey(pictures: list[Image.Image]) -> np.ndarray:
    """Grey levels of pictures of one size, int (pictures, height, width)."""
    return np.stack([np.asarray(picture.convert("L"), dtype=int) for picture in pictures])


def measure_equal(options: Options, folder: Path) -> list[dict[str, object]]:
    """The same sampling by both, one picture at a time."""
    item = held_out_items(options.dataset_id, 1, model.load_facts(options.model_id).target)[0]
    rows: list[dict[str, object]] = []
    for name, path, steps in models(options, folder):
        facts = model.load_facts(path)
        settings = choose_settings(facts, steps, 0, scheduler="ddim")
        reference = theirs(path)
        ours = model.load_pipeline(path, str(DEVICE), torch.float32)
        runs = {
            "diffusers": partial(their_pictures, reference, [item], settings),
            "ours": partial(our_pictures, ours, [item], settings),
        }
        pictures, spent = in_turns(runs, options.repeats)
        rows.append(
            {
                "model": name,
                "steps": steps,
                "largest difference, grey levels": int(
                    np.abs(grey(pictures["ours"]) - grey(pictures["diffusers"])).max()
                ),
                "diffusers, s": spent["diffusers"],
                "ours, s": spent["ours"],
                "ratio": spent["diffusers"] / spent["ours"],
            }
        )
    return rows


def their_pictures(
    pipeline: StableDiffusionInstructPix2PixPipeline, items: list[Item], settings: Settings
) -> list[Image.Image]:
    """What the pipeline makes of items."""
    return pipeline(
        [item.prompt for item in items],
        image=[item.original.convert("RGB") for item in items],
        guidance_scale=settings.guidance_scale,
        image_guidance_scale=settings.image_guidance_scale,
        generator=[sample_generator(settings.seed, item.sha256) for item in items],
        num_inference_steps=settings.num_inference_steps,
    ).images


def our_pictures(
    pipeline: StableDiffusionInstructPix2PixPipeline, items: list[Item], settings: Settings
) -> list[Image.Image]:
    """What our sampler makes of items."""
    originals, prompts = [item.original for item in items], [item.prompt for item in items]
    return edit_images(pipeline, originals, prompts, [item.sha256 for item in items], settings)


def measure_speed(options: Options, folder: Path) -> list[dict[str, object]]:
    """Our defaults beside the pipeline as it comes, in float32, with as many steps as we are asked to compare with."""
    target = model.load_facts(options.model_id).target
    some = held_out_items(options.dataset_id, max(options.batch_sizes), target)
    rows: list[dict[str, object]] = []
    for name, path, steps in models(options, folder):
        facts, dtype = model.load_facts(path), choose_dtype(DEVICE, None)
        reference, ours = theirs(path), model.load_pipeline(path, str(DEVICE), dtype)
        plain = choose_settings(facts, steps, 0)
        default = choose_settings(facts, min(steps, DEFAULT_STEPS), 0)
        for batch in options.batch_sizes:
            chosen = some[:batch]
            runs = {
                "diffusers": partial(their_pictures, reference, chosen, plain),
                "ours": partial(our_pictures, ours, chosen, default),
            }
            _, spent = in_turns(runs, options.repeats)
            rows.append(
                {"model": name, "batch": batch, "diffusers' steps": steps, "our steps": default.num_inference_steps}
                | {"our dtype": str(dtype).removeprefix("torch.")}
                | {"diffusers, s a clip": spent["diffusers"], "ours, s a clip": spent["ours"]}
                | {"ratio": spent["diffusers"] / spent["ours"]}
            )
    return rows


def measure_quality(options: Options, folder: Path) -> list[dict[str, object]]:
    """Edit rate and level of our defaults and of many steps, seed by seed, beside the control rows."""
    facts = model.load_facts(options.model_id)
    pipeline = model.load_pipeline(options.model_id, str(DEVICE), choose_dtype(DEVICE, None))
    painter = Painter(pipeline, SpectrogramConverter(facts.params, str(DEVICE)), facts.target, 4)
    items = held_out_items(options.dataset_id, options.max_samples, facts.target)
    audios = open_audio(items, painter)
    controls = control_rows(audios, facts.target)
    known = [Summary.of(name, [one.measured for one in painted]).row() for name, painted in controls.items()]
    rows = [row | {"s a clip": 0.0, FROM_SLOW: 0.0} for row in known]
    slow: dict[int, list[Image.Image]] = {}  # by seed
    for scheduler, steps in (("ddim", options.slow_steps), ("ddim", 20), (DEFAULT_SCHEDULER, DEFAULT_STEPS)):
        for seed in options.seeds:
            settings = choose_settings(facts, steps, seed, scheduler=scheduler)
            started = time.perf_counter()
            our_pictures(pipeline, items[:4], settings)
            spent = (time.perf_counter() - started) / len(items[:4])
            painted = paint(audios, painter, settings)
            pictures = [one.picture for one in painted]
            distance = grey(pictures) - grey(slow.setdefault(seed, pictures))
            measured = [one.measured for one in painted]
            row = Summary.of(f"{steps} steps of {scheduler}, seed {seed}", measured).row()
            rows.append(row | {"s a clip": spent, FROM_SLOW: float(np.sqrt(np.square(distance).mean()))})
    return rows


def measure_batches(options: Options, folder: Path) -> list[dict[str, object]]:
    """Largest difference of painted stems from those of batch size 1; does the same call give the same bytes?"""
    runs = {
        "batch 1": ("--batch_size", "1"),
        "again": ("--batch_size", "1"),
        "batch 3": ("--batch_size", "3"),
        "batch 8": ("--batch_size", "8"),
        "two candidates, the first": ("--num_candidates", "2"),
        "two processes": (),
    }
    for name, flags in runs.items():
        launch = (
            ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"] if name == "two processes" else []
        )
        command = [sys.executable, *launch, str(ROOT / "inference_instruct_pix2pix.py"), "--model_id", options.model_id]
        command += [
            "--dataset_id",
            options.dataset_id,
            "--seed",
            "--max_samples",
            str(min(options.max_samples, 8)),
            *flags,
        ]
        subprocess.run([*command, "--quiet", "--base_save_path", str(folder / name)], check=True)
    rows: list[dict[str, object]] = []
    for name in [name for name in runs if name != "batch 1"]:
        differences, equal = [], True
        for path in sorted((folder / "batch 1").rglob("*")):
            other = folder / name / path.relative_to(folder / "batch 1")
            equal &= path.is_dir() or (other.exists() and path.read_bytes() == other.read_bytes())
            if path.name == "stem.png" and kept_first(other.parent):
                differences.append(int(np.abs(grey([Image.open(path)]) - grey([Image.open(other)])).max()))
        largest = max(differences, default=None)  # no result may be its first attempt
        rows.append(
            {"run": name, "samples": len(differences), "largest difference, grey levels": largest}
            | {"all files the same": "yes" if equal else "no"}
        )
    return [*rows, another_order(options)]


def kept_first(folder: Path) -> bool:
    """Whether a result is its first attempt."""
    result = read_result(folder)
    return result is not None and result.kept == 0


def another_order(options: Options) -> dict[str, object]:
    """The same items backwards, and three at a time."""
    facts = model.load_facts(options.model_id)
    pipeline = model.load_pipeline(options.model_id, str(DEVICE), choose_dtype(DEVICE, None))
    items = held_out_items(options.dataset_id, 6, facts.target)
    settings = choose_settings(facts, DEFAULT_STEPS, 0)
    forwards = grey(our_pictures(pipeline, items, settings))
    backwards = our_pictures(pipeline, items[:2:-1], settings) + our_pictures(pipeline, items[2::-1], settings)
    difference = int(np.abs(forwards - grey(backwards[::-1])).max())
    return {"run": "backwards, by threes", "samples": len(items), "largest difference, grey levels": difference} | {
        "all files the same": "-"
    }


def measure_gpu(options: Options, folder: Path) -> list[dict[str, object]]:
    """Clips a second of the real-size model in bf16 by both, compiled or not, and its share of the matrix rate."""
    require_gpu()
    path = real_size_edit_model(folder)
    flops, rate = 3 * unet_flops(folder / "base"), matrix_rate()
    some = held_out_items(options.dataset_id, max(options.batch_sizes), model.load_facts(options.model_id).target)
    settings = choose_settings(model.ModelFacts(), options.num_inference_steps, 0, scheduler="ddim")
    reference = theirs(str(path), torch.bfloat16)
    ours, compiled = (model.load_pipeline(str(path), str(DEVICE), torch.bfloat16) for _ in range(2))
    compiled.unet.compile()
    rows: list[dict[str, object]] = []
    for batch in options.batch_sizes:
        chosen = some[:batch]
        runs = {
            "diffusers": partial(their_pictures, reference, chosen, settings),
            "ours": partial(our_pictures, ours, chosen, settings),
            "ours, compiled": partial(our_pictures, compiled, chosen, settings),
        }
        in_turns(runs, 1)  # to warm up, and to compile
        _, spent = in_turns(runs, options.repeats)
        for name, each in spent.items():
            share = 100 * flops * options.num_inference_steps / each / rate
            rows.append(
                {"batch": batch, "run": name, "clips a second": 1 / each, "ratio": spent["diffusers"] / each}
                | {"of the matrix rate %": share}
            )
    return rows


def measure_song(options: Options, folder: Path) -> list[dict[str, object]]:
    """A whole song, stage by stage, and the script."""
    return song_rows(options.model_id, options.song_seconds, options.song_steps, folder)


def measure_start(options: Options, folder: Path) -> list[dict[str, object]]:
    """From the shell to the page."""
    return start_rows(options.model_id, options.song_steps, options.repeats, folder)


MEASURES = {
    "equal": measure_equal,
    "speed": measure_speed,
    "quality": measure_quality,
    "batches": measure_batches,
    "whole_song": measure_song,
    "start": measure_start,
    "gpu": measure_gpu,
}

if __name__ == "__main__":
    run_script(main, parse_args())
