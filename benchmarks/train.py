"""How fast is training, is resuming exact, do several processes agree with one, and is overfitting noticed?

    python benchmarks/train.py --model checkpoints/small --train_data_dir build/pairs/train/everythingisfree

`the reference` is the loop of diffusers' examples/instruct_pix2pix, written down again here: every step reads and
encodes both pictures and the instruction, then UNet and AdamW, by accelerate; nothing is cached. Ours is
train_instruct_pix2pix.py as users run it, with the time to fill its cache spread over `--epochs`. Both read the same
pairs; starting up and --compile aren't counted. Operations are counted for the model's own picture size.

    python benchmarks/train.py --real_size --measure speed --precisions no bf16 --steps 40 --batch_sizes 4 64 \\
      --train_data_dir build/pairs/train/everythingisfree --flags --compile --use_ema

is the speed on a GPU with random weights of Stable Diffusion 1.5's size, the largest batch for ours alone. `overfit`
needs pairs with a held-out split; those of short clips (preprocess_musdb.py --frame_len_seconds 1.27) take minutes
instead of hours on a CPU.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import run_measures
from real_size import matrix_rate, real_size_model, unet_flops

from riffusion.diffusion import model
from riffusion.pairs.dataset import load_splits
from riffusion.training.checkpoints import all_whole
from riffusion.util.errors import UserError
from riffusion.util.flags import Help
from riffusion.util.runtime import run_script

ROOT = Path(__file__).resolve().parent.parent
DROPOUT = 0.05
WARM_STEPS = 1  # of the reference, not timed


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--train_data_dir", type=Path, required=True, help="pairs of preprocess_musdb.py")
    add("--model", type=Path, default=ROOT / "checkpoints" / "small", help="checkpoint to train from")
    add("--real_size", action="store_true", help="random weights of Stable Diffusion 1.5's size instead")
    add("--measure", nargs="+", choices=MEASURES, default=list(MEASURES), help="what to measure (default: all)")
    add("--pairs", type=int, default=32, help="pairs that speed is measured on (default: %(default)s)")
    add("--epochs", type=int, default=10, help="passes over them that the cache is counted for (default: %(default)s)")
    add("--steps", type=int, default=8, help="timed steps of the reference (default: %(default)s)")
    add("--precisions", nargs="+", default=["no", "bf16"], help="accelerate's mixed precision, each in turn")
    add("--batch_sizes", nargs="+", type=int, default=[4], help="the reference takes the first, ours all")
    add("--workers", type=int, default=0, help="processes that prepare batches, on both sides (default: 0)")
    add("--flags", nargs=argparse.REMAINDER, default=[], help="more flags for our script; the last ones here")
    add("--kills", type=int, default=10, help="times that a run is killed (default: %(default)s)")
    add("--overfit_steps", type=int, default=1000, help="steps to memorise 64 pairs (default: %(default)s)")
    add("--json", type=Path, help="also write the figures here (default: print them only)")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Options:
    """The flags."""

    train_data_dir: Path
    model: Path
    real_size: bool
    measure: list[str]
    pairs: int
    epochs: int
    steps: int
    precisions: list[str]
    batch_sizes: list[int]
    workers: int
    flags: list[str]
    kills: int
    overfit_steps: int
    json: Path | None


def main(args: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        if args.real_size:
            args.model = real_size_model(Path(folder) / "base")
        options = Options(**vars(args))
        return run_measures(args, lambda name: MEASURES[name](options, Path(folder) / name))


def measure_speed(options: Options, folder: Path) -> list[dict[str, Any]]:
    """Examples per second of both ways; of ours also with the time to fill the cache."""
    rows: list[dict[str, Any]] = []
    peak_rate = matrix_rate() if torch.cuda.is_available() else None
    for precision in options.precisions:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:  # a process of its own, as scripts have
            rows.append(process.submit(reference, options, precision).result())
        for batch in options.batch_sizes:
            rows.append(ours(options, precision, batch, folder / f"{precision}{batch}"))
    flops = unet_flops(options.model)
    references = {row["precision"]: row["samples a second"] for row in rows if row["way"] == "the reference"}
    for row in rows:
        rate = row["samples a second"]
        for precision, reference_rate in references.items():
            row[f"times the reference ({precision})"] = rate / reference_rate
        row["TFLOP/s of the UNet"] = 3 * flops * rate / 1e12  # backward is twice the forward
        if peak_rate is not None:
            row["of the bf16 matrix rate %"] = 100 * 3 * flops * rate / peak_rate
        row["hours for 300 000 x 4"] = 1.2e6 / rate / 3600
    return rows


def ours(options: Options, precision: str, batch: int, output: Path) -> dict[str, object]:
    """Our script over the epochs."""
    flags = ["--num_train_epochs", str(options.epochs), "--max_train_samples", str(options.pairs), *options.flags]
    result = train(options, output, *flags, "--train_batch_size", str(batch), precision=precision)
    samples = options.epochs * options.pairs
    seconds = samples / result["samples_per_second"]
    return {
        "way": "ours",
        "precision": precision,
        "batch": batch,
        "steps alone, a second": result["samples_per_second"],
        "samples a second": samples / (seconds + result["seconds_to_encode"]),
        "peak GPU memory, GB": result["peak_gpu_memory_gb"],
    }


def train(options: Options, output: Path, *flags: str, precision: str = "no", processes: int = 1) -> dict[str, Any]:
    """Run our script to its end; returns its result.json. Raises UserError with the end of its stderr if it fails."""
    run = start(options, output, *flags, precision=precision, processes=processes)
    _, errors = run.communicate()
    if run.returncode != 0:
        raise UserError(f"training failed: {errors[-800:]}")
    return json.loads((output / "result.json").read_text())


def start(options: Options, output: Path, *flags: str, precision: str = "no", processes: int = 1) -> subprocess.Popen:
    """Our script, started as users do; several processes meet over gloo."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [
        sys.executable,
        *launcher,
        str(ROOT / "train_instruct_pix2pix.py"),
        "--pretrained_model_name_or_path",
        str(options.model),
    ]
    command += ["--train_data_dir", str(options.train_data_dir), "--output_dir", str(output), "--report_to", "none"]
    command += ["--mixed_precision", precision, "--num_validation_images", "0", "--allow_tf32"]
    command += ["--dataloader_num_workers", str(options.workers), "--checkpointing_steps", "1000000", *flags]
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if processes > 1 else {})
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


def reference(options: Options, precision: str) -> dict[str, object]:
    """Examples per second of diffusers' loop."""
    torch.backends.cuda.matmul.allow_tf32 = True
    accelerator = Accelerator(mixed_precision=precision)
    parts = model.load_parts(str(options.model))
    model.take_condition(parts)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    parts.vae.requires_grad_(False).to(accelerator.device, dtype)
    parts.text_encoder.requires_grad_(False).to(accelerator.device, dtype)
    optimizer = torch.optim.AdamW(parts.unet.parameters(), lr=1e-4)
    loader: DataLoader = DataLoader(
        ReferencePairs(options, parts.tokenizer), options.batch_sizes[0], shuffle=True, num_workers=options.workers
    )
    unet, optimizer, loader = accelerator.prepare(parts.unet, optimizer, loader)
    uncond = parts.text_encoder(tokenized(parts.tokenizer, "")[None].to(accelerator.device))[0]
    done, started = 0, 0.0
    while done < WARM_STEPS + options.steps:
        for batch in loader:
            reference_step(parts, unet, optimizer, uncond, batch, dtype, accelerator)
            done += 1
            if done == WARM_STEPS:
                started = time.perf_counter()
            if done == WARM_STEPS + options.steps:
                break
    seconds = time.perf_counter() - started
    on_gpu = accelerator.device.type == "cuda"
    rate = options.steps * options.batch_sizes[0] / seconds
    return {
        "way": "the reference",
        "precision": precision,
        "batch": options.batch_sizes[0],
        "steps alone, a second": rate,
        "samples a second": rate,
        "peak GPU memory, GB": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
    }


class ReferencePairs(Dataset):
    """Both pictures as float tensors and the token ids, read at each step."""

    def __init__(self, options: Options, tokenizer: CLIPTokenizer):
        splits = load_splits(str(options.train_data_dir))
        pairs = splits["train"] if "train" in splits else next(iter(splits.values()))
        self.pairs = pairs.shuffle(seed=0).select(range(min(options.pairs, len(pairs))))
        self.tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        pair = self.pairs[number]
        pictures = {
            name: torch.from_numpy(2 * (np.array(pair[name].convert("RGB")).transpose(2, 0, 1) / 255) - 1).float()
            for name in ("original_image", "edited_image")
        }
        return pictures | {"token_ids": tokenized(self.tokenizer, pair["edit_prompt"])}


def tokenized(tokenizer: CLIPTokenizer, text: str) -> torch.Tensor:
    """Token ids (tokens,)."""
    return tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids[0]


def reference_step(
    parts: model.Parts,
    unet: nn.Module,
    optimizer: torch.optim.Optimizer,
    uncond: torch.Tensor,
    batch: dict[str, torch.Tensor],
    dtype: torch.dtype,
    accelerator: Accelerator,
) -> None:
    """One step of the reference: nothing is encoded beforehand, and the loss is read each time."""
    latents = parts.vae.encode(batch["edited_image"].to(dtype)).latent_dist.sample() * parts.vae.config.scaling_factor
    noise = torch.randn_like(latents)
    steps = torch.randint(0, parts.noise_scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
    noisy = parts.noise_scheduler.add_noise(latents, noise, steps)
    text = parts.text_encoder(batch["token_ids"])[0]
    condition = parts.vae.encode(batch["original_image"].to(dtype)).latent_dist.mode()
    draw = torch.rand(len(latents), device=latents.device)
    text = torch.where((draw < 2 * DROPOUT)[:, None, None], uncond, text)
    condition = condition * ((draw < DROPOUT) | (draw >= 3 * DROPOUT))[:, None, None, None]
    prediction = unet(torch.cat([noisy, condition], dim=1), steps, text).sample
    velocity = parts.noise_scheduler.config.prediction_type == "v_prediction"
    expected = parts.noise_scheduler.get_velocity(latents, noise, steps) if velocity else noise
    loss = nn.functional.mse_loss(prediction.float(), expected.float())
    accelerator.gather(loss.repeat(len(latents))).mean().item()
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(unet.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def measure_kills(options: Options, folder: Path) -> list[dict[str, object]]:
    """Uninterrupted, resumed once, and killed at random moments: are the weights the same?"""
    flags = ["--max_train_samples", "16", "--train_batch_size", "2", "--use_ema", "--checkpointing_steps", "2"]
    flags += ["--latents_dir", str(folder / "latents"), "--resume_from_checkpoint", "latest", "--lr_warmup_steps", "2"]
    train(options, folder / "encoded", *flags, "--max_train_steps", "2")  # so that kills meet training, not encoding
    started = time.perf_counter()
    train(options, folder / "straight", *flags, "--max_train_steps", "16")
    seconds = time.perf_counter() - started
    train(options, folder / "resumed", *flags, "--max_train_steps", "6")
    train(options, folder / "resumed", *flags, "--max_train_steps", "16")
    rng = random.Random(0)
    for _ in range(options.kills):
        run = start(options, folder / "killed", *flags, "--max_train_steps", "16")
        time.sleep(rng.uniform(0.3, 0.9) * seconds)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        if all_whole(folder / "killed") and rng.random() < 0.5:  # and half of the time a checkpoint is damaged too
            damage(all_whole(folder / "killed")[-1])
    train(options, folder / "killed", *flags, "--max_train_steps", "16")
    return [
        {"run": name, "tensors": len(weights(folder / name)), "that differ": differing(folder, name)}
        for name in ("straight", "resumed", "killed")
    ]


def damage(checkpoint: Path) -> None:
    """Cut the largest file of a checkpoint short."""
    largest = max(checkpoint.iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def weights(output: Path) -> dict[str, torch.Tensor]:
    """The weights of a saved UNet."""
    return load_file(output / "unet" / "diffusion_pytorch_model.safetensors")


def differing(folder: Path, name: str) -> int:
    """How many tensors of a run aren't the uninterrupted one's."""
    straight, other = weights(folder / "straight"), weights(folder / name)
    return sum(not torch.equal(straight[key], other[key]) for key in straight)


def measure_processes(options: Options, folder: Path) -> list[dict[str, object]]:
    """Two processes over gloo at batch 2 against one at batch 4: by how much do the weights differ?"""
    flags = ["--max_train_samples", "16", "--max_train_steps", "4", "--lr_warmup_steps", "0", "--seed", "0"]
    one = train(options, folder / "one", *flags, "--train_batch_size", "4")
    two = train(options, folder / "two", *flags, "--train_batch_size", "2", processes=2)
    start, ends = weights_of(options.model), [weights(folder / name) for name in ("one", "two")]
    kept = [key for key in start if start[key].shape == ends[0][key].shape]  # conv_in of a base model is widened
    moved = max(float((ends[0][key] - start[key]).abs().max()) for key in kept)
    apart = max(float((ends[0][key] - ends[1][key]).abs().max()) for key in start)
    return [
        {
            "loss, one process": one["loss"],
            "loss, two": two["loss"],
            "largest step of a weight": f"{moved:.1e}",
            "largest difference": f"{apart:.1e}",
        }
    ]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a saved UNet in float32."""
    return {name: weight.float() for name, weight in weights(folder).items()}


def measure_overfit(options: Options, folder: Path) -> list[dict[str, object]]:
    """The loss on 64 training pairs and that on held-out pairs at the same noise, and whether training warns of it."""
    flags = ["--max_train_samples", "64", "--train_batch_size", "8", "--max_train_steps", str(options.overfit_steps)]
    flags += ["--learning_rate", "5e-4", "--lr_warmup_steps", "50", "--conditioning_dropout_prob", "0"]
    flags += ["--adam_weight_decay", "0"]
    run = start(options, folder, *flags, "--validation_steps", str(options.overfit_steps // 10))
    output, errors = run.communicate()
    if run.returncode != 0:
        raise UserError(f"training failed: {errors[-800:]}")
    lines = [line for line in (output + errors).splitlines() if "held-out loss" in line]
    print("\n".join(lines))
    result = json.loads((folder / "result.json").read_text())
    if result["training_loss"] is None:
        raise UserError(f"{options.train_data_dir}: overfit needs a split valid or test beside train")
    return [
        {
            "steps": options.overfit_steps,
            "training loss": result["training_loss"],
            "held-out loss": result["held_out_loss"],
            "warned of overfitting": any("overfitting" in line for line in lines),
        }
    ]


MEASURES = {
    "speed": measure_speed,
    "kills": measure_kills,
    "processes": measure_processes,
    "overfit": measure_overfit,
}


if __name__ == "__main__":
    run_script(main, parse_args())
