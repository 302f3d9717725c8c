"""How fast is training, is it exact to resume, do processes agree, and can it learn by heart?

    python benchmarks/train.py --model checkpoints/small --train_data_dir build/pairs/train/everythingisfree

`the reference` is the loop of diffusers' examples/instruct_pix2pix, written down again here: every step reads and
encodes both pictures and the instruction, then UNet and AdamW, by accelerate; nothing is cached. Ours is
train_instruct_pix2pix.py as users run it, its cache counted once over `--epochs`. Both read the same pairs; starting up
and --compile aren't counted. Operations are counted for the model's own picture size.

    python benchmarks/train.py --real_size --measure speed --precisions no bf16 --steps 40 --batch_sizes 4 64 \\
      --train_data_dir build/pairs/train/everythingisfree --flags --compile --use_ema

is the speed on a GPU with random weights of Stable Diffusion 1.5's size, the largest batch for ours alone. `by_heart`
wants pairs with a held-out split; those of short clips (preprocess_musdb.py --frame_len_seconds 1.27) take minutes in
place of hours on a CPU.
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
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.utils.data import DataLoader
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
    add("--heart_steps", type=int, default=1000, help="steps to learn 64 pairs by heart (default: %(default)s)")
    add("--json", type=Path, help="also write the figures here (default: print them only)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        if args.real_size:
            args.model = real_size_model(Path(folder) / "base")
        return run_measures(args, lambda name: MEASURES[name](args, Path(folder) / name))


def measure_speed(args: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Samples a second of both ways; of ours with the cache counted over some epochs too."""
    rows: list[dict[str, object]] = []
    peak_rate = matrix_rate() if torch.cuda.is_available() else None
    for precision in args.precisions:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:  # a process of its own, as scripts have
            rows.append(process.submit(reference, args, precision).result())
        for batch in args.batch_sizes:
            rows.append(ours(args, precision, batch, folder / f"{precision}{batch}"))
    flops = unet_flops(args.model)
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


def ours(args: argparse.Namespace, precision: str, batch: int, output: Path) -> dict[str, object]:
    """Our script over the epochs."""
    flags = ["--num_train_epochs", str(args.epochs), "--max_train_samples", str(args.pairs), *args.flags]
    result = train(args, output, *flags, "--train_batch_size", str(batch), precision=precision)
    samples = args.epochs * args.pairs
    seconds = samples / result["samples_per_second"]
    return {
        "way": "ours",
        "precision": precision,
        "batch": batch,
        "steps alone, a second": result["samples_per_second"],
        "samples a second": samples / (seconds + result["seconds_to_encode"]),
        "peak GPU memory, GB": result["peak_gpu_memory_gb"],
    }


def train(args: argparse.Namespace, output: Path, *flags: str, precision: str = "no", processes: int = 1) -> dict:
    """Run our script to its end; returns its result.json. Raises UserError with its last words if it fails."""
    run = start(args, output, *flags, precision=precision, processes=processes)
    _, errors = run.communicate()
    if run.returncode != 0:
        raise UserError(f"training failed: {errors[-800:]}")
    return json.loads((output / "result.json").read_text())


def start(
    args: argparse.Namespace, output: Path, *flags: str, precision: str = "no", processes: int = 1
) -> subprocess.Popen:
    """Our script, started as users do; several processes meet over gloo."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [
        sys.executable,
        *launcher,
        str(ROOT / "train_instruct_pix2pix.py"),
        "--pretrained_model_name_or_path",
        str(args.model),
    ]
    command += ["--train_data_dir", str(args.train_data_dir), "--output_dir", str(output), "--report_to", "none"]
    command += ["--mixed_precision", precision, "--num_validation_images", "0", "--allow_tf32"]
    command += ["--dataloader_num_workers", str(args.workers), "--checkpointing_steps", "1000000", *flags]
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if processes > 1 else {})
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


def reference(args: argparse.Namespace, precision: str) -> dict[str, object]:
    """Samples a second of diffusers' loop."""
    torch.backends.cuda.matmul.allow_tf32 = True
    accelerator = Accelerator(mixed_precision=precision)
    parts = model.load_parts(str(args.model))
    model.take_condition(parts)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    parts.vae.requires_grad_(False).to(accelerator.device, dtype)
    parts.text_encoder.requires_grad_(False).to(accelerator.device, dtype)
    optimizer = torch.optim.AdamW(parts.unet.parameters(), lr=1e-4)
    loader = DataLoader(
        ReferencePairs(args, parts.tokenizer), args.batch_sizes[0], shuffle=True, num_workers=args.workers
    )
    unet, optimizer, loader = accelerator.prepare(parts.unet, optimizer, loader)
    null = parts.text_encoder(tokenized(parts.tokenizer, "")[None].to(accelerator.device))[0]
    done, started = 0, 0.0
    while done < WARM_STEPS + args.steps:
        for batch in loader:
            reference_step(parts, unet, optimizer, null, batch, dtype, accelerator)
            done += 1
            if done == WARM_STEPS:
                started = time.perf_counter()
            if done == WARM_STEPS + args.steps:
                break
    seconds = time.perf_counter() - started
    on_gpu = accelerator.device.type == "cuda"
    rate = args.steps * args.batch_sizes[0] / seconds
    return {
        "way": "the reference",
        "precision": precision,
        "batch": args.batch_sizes[0],
        "steps alone, a second": rate,
        "samples a second": rate,
        "peak GPU memory, GB": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
    }


class ReferencePairs:
    """Both pictures as float tensors and the token ids, read at each step."""

    def __init__(self, args: argparse.Namespace, tokenizer: CLIPTokenizer):
        splits = load_splits(str(args.train_data_dir))
        pairs = splits["train"] if "train" in splits else next(iter(splits.values()))
        self.pairs = pairs.shuffle(seed=0).select(range(min(args.pairs, len(pairs))))
        self.tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        pair = self.pairs[place]
        pictures = {
            name: torch.from_numpy(2 * (np.array(pair[name].convert("RGB")).transpose(2, 0, 1) / 255) - 1).float()
            for name in ("original_image", "edited_image")
        }
        return pictures | {"token_ids": tokenized(self.tokenizer, pair["edit_prompt"])}


def tokenized(tokenizer: CLIPTokenizer, text: str) -> torch.Tensor:
    return tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids[0]


def reference_step(parts, unet, optimizer, null, batch, dtype, accelerator) -> None:
    """One step of the reference: nothing is known beforehand, and the loss is read each time."""
    latents = parts.vae.encode(batch["edited_image"].to(dtype)).latent_dist.sample() * parts.vae.config.scaling_factor
    noise = torch.randn_like(latents)
    steps = torch.randint(0, parts.noise_scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
    noisy = parts.noise_scheduler.add_noise(latents, noise, steps)
    text = parts.text_encoder(batch["token_ids"])[0]
    condition = parts.vae.encode(batch["original_image"].to(dtype)).latent_dist.mode()
    draw = torch.rand(len(latents), device=latents.device)
    text = torch.where((draw < 2 * DROPOUT)[:, None, None], null, text)
    condition = condition * ((draw < DROPOUT) | (draw >= 3 * DROPOUT))[:, None, None, None]
    prediction = unet(torch.cat([noisy, condition], dim=1), steps, text).sample
    velocity = parts.noise_scheduler.config.prediction_type == "v_prediction"
    wanted = parts.noise_scheduler.get_velocity(latents, noise, steps) if velocity else noise
    loss = torch.nn.functional.mse_loss(prediction.float(), wanted.float())
    accelerator.gather(loss.repeat(len(latents))).mean().item()
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(unet.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def measure_kills(args: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Straight through, beside stopped and resumed, beside killed at random moments: are the weights the same?"""
    flags = ["--max_train_samples", "16", "--train_batch_size", "2", "--use_ema", "--checkpointing_steps", "2"]
    flags += ["--latents_dir", str(folder / "latents"), "--resume_from_checkpoint", "latest", "--lr_warmup_steps", "2"]
    train(args, folder / "encoded", *flags, "--max_train_steps", "2")  # so that kills meet training, not encoding
    started = time.perf_counter()
    train(args, folder / "straight", *flags, "--max_train_steps", "16")
    seconds = time.perf_counter() - started
    train(args, folder / "resumed", *flags, "--max_train_steps", "6")
    train(args, folder / "resumed", *flags, "--max_train_steps", "16")
    rng = random.Random(0)
    for _ in range(args.kills):
        run = start(args, folder / "killed", *flags, "--max_train_steps", "16")
        time.sleep(rng.uniform(0.3, 0.9) * seconds)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        if all_whole(folder / "killed") and rng.random() < 0.5:  # and half of the time a checkpoint is damaged too
            damage(all_whole(folder / "killed")[-1])
    train(args, folder / "killed", *flags, "--max_train_steps", "16")
    return [
        {"run": name, "tensors": len(weights(folder / name)), "that differ": differing(folder, name)}
        for name in ("straight", "resumed", "killed")
    ]


def damage(checkpoint: Path) -> None:
    """Cut the largest file of a checkpoint short."""
    largest = max(checkpoint.iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "unet" / "diffusion_pytorch_model.safetensors")


def differing(folder: Path, name: str) -> int:
    straight, other = weights(folder / "straight"), weights(folder / name)
    return sum(not torch.equal(straight[key], other[key]) for key in straight)


def measure_processes(args: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Two processes over gloo at batch 2, beside one at batch 4: by how much do the weights differ?"""
    flags = ["--max_train_samples", "16", "--max_train_steps", "4", "--lr_warmup_steps", "0", "--seed", "0"]
    one = train(args, folder / "one", *flags, "--train_batch_size", "4")
    two = train(args, folder / "two", *flags, "--train_batch_size", "2", processes=2)
    start, ends = weights_of(args.model), [weights(folder / name) for name in ("one", "two")]
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
    return {name: weight.float() for name, weight in weights(folder).items()}


def measure_by_heart(args: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """The loss on 64 training pairs, beside that on held-out pairs at the same noise, and what the monitor says."""
    flags = ["--max_train_samples", "64", "--train_batch_size", "8", "--max_train_steps", str(args.heart_steps)]
    flags += ["--learning_rate", "5e-4", "--lr_warmup_steps", "50", "--conditioning_dropout_prob", "0"]
    flags += ["--adam_weight_decay", "0"]
    run = start(args, folder, *flags, "--validation_steps", str(args.heart_steps // 10))
    output, errors = run.communicate()
    if run.returncode != 0:
        raise UserError(f"training failed: {errors[-800:]}")
    lines = [line for line in (output + errors).splitlines() if "held-out loss" in line]
    print("\n".join(lines))
    result = json.loads((folder / "result.json").read_text())
    if result["training_loss"] is None:
        raise UserError(f"{args.train_data_dir}: by_heart needs a split valid or test beside train")
    return [
        {
            "steps": args.heart_steps,
            "training loss": result["training_loss"],
            "held-out loss": result["held_out_loss"],
            "the monitor says so": any("overfitting" in line for line in lines),
        }
    ]


MEASURES = {
    "speed": measure_speed,
    "kills": measure_kills,
    "processes": measure_processes,
    "by_heart": measure_by_heart,
}


if __name__ == "__main__":
    run_script(main, parse_args())
