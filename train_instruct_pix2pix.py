"""Fine-tune a text-to-picture checkpoint to follow instructions (InstructPix2Pix, arXiv 2211.09800).

    accelerate launch train_instruct_pix2pix.py --train_data_dir /data/musdb18-pix2pix/train \\
        --output_dir /data/pix2pix-riff-ckpt --max_train_steps 300000 --train_batch_size 4

Writes checkpoint-STEP folders as it goes and, at the end, a model that StableDiffusionInstructPix2PixPipeline loads.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from diffusers.optimization import SchedulerType, get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from riffusion import checkpoints, hub, model, report
from riffusion.dataset import dataset_target, held_out_split, load_splits, require_columns
from riffusion.errors import UserError
from riffusion.latents import TrainingExamples, cache_latents
from riffusion.runtime import run_script
from riffusion.sampling import choose_settings, edit_images
from riffusion.spectrogram import SpectrogramParams

VALIDATION_STEPS = 20  # denoising steps of a painted held-out record
SCHEDULES = [kind.value for kind in SchedulerType if kind is not SchedulerType.PIECEWISE_CONSTANT]
HELD_OUT_EXAMPLES = 64  # records of the validation split whose loss is followed, at fixed noise and timesteps


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    base = parser.add_argument_group("model")
    add = base.add_argument
    add(
        "--pretrained_model_name_or_path",
        default="riffusion/riffusion-model-v1",
        help="folder or Hub name to start from",
    )
    add("--revision", help="revision of that Hub model")
    add("--variant", help='variant of its weight files, such as "fp16"')
    add("--cache_dir", type=Path, help="where downloads are kept (default: the Hub's own cache)")
    add("--train_text_encoder", action="store_true", help="train the text encoder too; for small models")
    add("--use_ema", action="store_true", help="save a moving average of the UNet's weights")

    data = parser.add_argument_group("data")
    add = data.add_argument
    add("--dataset_name", default="zachary-shah/musdb18-spec-pix2pix", help="dataset on the Hub, or a folder")
    add("--train_data_dir", type=Path, help="folder that preprocess_musdb.py wrote; goes before --dataset_name")
    add("--original_image_column", default="original_image", help="column of the input picture")
    add("--edited_image_column", default="edited_image", help="column of the picture to learn")
    add("--edit_prompt_column", default="edit_prompt", help="column of the instruction")
    add("--max_train_samples", type=int, help="use only this many pairs, chosen at random")
    add("--resolution", type=int, default=512, help="height of the pictures in pixels; they are never resized")
    add("--dataloader_num_workers", type=int, default=0, help="processes that prepare batches")

    train = parser.add_argument_group("training")
    add = train.add_argument
    add("--output_dir", type=Path, default=Path("pix2pix-riff-ckpt"), help="where checkpoints and the model go")
    add("--seed", type=int, default=0, help="seed of everything random")
    add("--train_batch_size", type=int, default=4, help="examples a step and process")
    add("--num_train_epochs", type=int, default=100, help="passes over the pairs, unless --max_train_steps is given")
    add("--max_train_steps", type=int, help="optimizer steps")
    add("--gradient_accumulation_steps", type=int, default=1, help="batches an optimizer step")
    add("--gradient_checkpointing", action="store_true", help="less memory, more time")
    add("--learning_rate", type=float, default=1e-4, help="peak learning rate")
    add("--scale_lr", action="store_true", help="multiply it by batch size, accumulation and processes")
    add("--lr_scheduler", choices=SCHEDULES, default="constant", help="its course")
    add("--lr_warmup_steps", type=int, default=500, help="steps to reach it")
    add("--conditioning_dropout_prob", type=float, default=0.05, help="chance to drop text, picture or both, each")
    add("--use_8bit_adam", action="store_true", help="8-bit Adam of bitsandbytes")
    add("--adam_beta1", type=float, default=0.9, help="Adam's first decay")
    add("--adam_beta2", type=float, default=0.999, help="Adam's second decay")
    add("--adam_weight_decay", type=float, default=1e-2, help="Adam's weight decay")
    add("--adam_epsilon", type=float, default=1e-8, help="Adam's epsilon")
    add("--max_grad_norm", type=float, default=1.0, help="gradients are clipped to this norm")
    add("--mixed_precision", choices=["no", "fp16", "bf16"], help="default: what `accelerate config` says")
    add("--allow_tf32", action="store_true", help="TF32 matrix products on Ampere and newer GPUs")
    add("--enable_xformers_memory_efficient_attention", action="store_true", help="xformers' attention, on a GPU")

    keep = parser.add_argument_group("checkpoints and reports")
    add = keep.add_argument
    add("--checkpointing_steps", type=int, default=500, help="steps from one checkpoint to the next")
    add("--checkpoints_total_limit", type=int, help="keep only this many, the newest")
    add("--resume_from_checkpoint", help='a checkpoint folder in --output_dir, or "latest"')
    add("--save_precision", choices=["fp32", "fp16"], default="fp32", help="precision of the saved model")
    add("--report_to", choices=["tensorboard", "wandb", "none"], default="tensorboard", help="where losses go")
    add("--logging_dir", type=Path, default=Path("logs"), help="folder of its logs inside --output_dir")
    add("--validation_prompt", help="paint the held-out pictures by this instruction (default: their own)")
    add("--num_validation_images", type=int, default=4, help="held-out pictures painted at each checkpoint")
    add("--push_to_hub", action="store_true", help="upload the model when training is done")
    add("--hub_token", help="token to use instead of the one that huggingface_hub knows")
    add("--hub_model_id", help="repository to upload to (default: the output folder's name)")
    args = parser.parse_args(argv)
    if not 0 <= args.conditioning_dropout_prob <= 1 / 3:
        parser.error("--conditioning_dropout_prob must be between 0 and 1/3: three conditions are dropped by it")
    counts = ("train_batch_size", "gradient_accumulation_steps", "checkpointing_steps", "checkpoints_total_limit")
    for name in (*counts, "max_train_steps", "max_train_samples", "num_train_epochs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if args.seed < 0:
        parser.error("--seed must not be negative")
    return args


@dataclass
class Run:
    """What a training step needs, and what a checkpoint holds."""

    accelerator: Accelerator
    parts: model.Parts
    facts: model.ModelFacts
    ema: EMAModel | None
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    null_ids: Tensor  # (1, tokens): the empty instruction
    weights: list[nn.Parameter]  # what is trained


def main(args: argparse.Namespace) -> int:
    accelerator = make_accelerator(args)
    splits = load_splits(str(args.train_data_dir or args.dataset_name), args.cache_dir)
    pairs = training_pairs(splits, args)
    parts = load_parts(args)
    steps = plan_steps(len(pairs), accelerator, args)
    run = make_run(parts, model_facts(pairs, args), steps, accelerator, args)
    first = resume(run, args)
    announce(accelerator, args)  # everything that the user may have got wrong is behind us
    examples = make_examples(pairs, parts, accelerator, args)
    held_out = make_held_out(splits, parts, accelerator, args)
    train(run, examples, held_out, first, steps, args)
    if accelerator.is_main_process:
        save_model(run, args)
    accelerator.end_training()
    return 0


def make_accelerator(args: argparse.Namespace) -> Accelerator:
    """Accelerate's context, and the switches of the whole process."""
    set_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = args.allow_tf32
    folders = ProjectConfiguration(project_dir=args.output_dir, logging_dir=args.output_dir / args.logging_dir)
    return Accelerator(
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=folders,
    )


def announce(accelerator: Accelerator, args: argparse.Namespace) -> None:
    """Print the settings, save them as training.json, and open the trackers."""
    settings = {name: value for name, value in vars(args).items() if name != "hub_token"}
    if accelerator.is_main_process:
        report.make_folder(args.output_dir)
        report.save_json(args.output_dir / "training.json", settings)
        print("\n".join(f"{name}: {value}" for name, value in settings.items()))
    accelerator.init_trackers("train_instruct_pix2pix", {name: str(value) for name, value in settings.items()})


def training_pairs(splits: datasets.DatasetDict, args: argparse.Namespace) -> datasets.Dataset:
    """The pairs to learn from: the train split, or the only one."""
    pairs = splits["train"] if "train" in splits else next(iter(splits.values()))
    require_columns(pairs, [args.original_image_column, args.edited_image_column, args.edit_prompt_column])
    height = pairs[0][args.original_image_column].height
    if height != args.resolution:
        raise UserError(
            f"pictures are {height} pixels high and --resolution says {args.resolution}: resizing a spectrogram "
            "would change its pitch; pass its own height"
        )
    if args.validation_prompt and held_out_split(splits) is None:
        raise UserError("--validation_prompt paints held-out pictures, and the dataset has no valid or test split")
    if args.max_train_samples is None or args.max_train_samples >= len(pairs):
        return pairs
    return pairs.shuffle(seed=args.seed).select(range(args.max_train_samples))


def load_parts(args: argparse.Namespace) -> model.Parts:
    """The checkpoint to start from, its UNet widened for the second picture unless it already is."""
    parts = model.load_parts(args.pretrained_model_name_or_path, args.revision, args.variant, args.cache_dir)
    channels = parts.vae.config.latent_channels
    if parts.unet.config.in_channels == channels:
        model.widen_conv_in(parts.unet, channels)
    elif parts.unet.config.in_channels != 2 * channels:
        raise UserError(f"the UNet takes {parts.unet.config.in_channels} channels, the autoencoder makes {channels}")
    parts.vae.requires_grad_(False)
    parts.text_encoder.requires_grad_(args.train_text_encoder)
    if args.gradient_checkpointing:
        parts.unet.enable_gradient_checkpointing()
    if args.enable_xformers_memory_efficient_attention:
        try:
            parts.unet.enable_xformers_memory_efficient_attention()
        except (ImportError, ModuleNotFoundError, ValueError, NotImplementedError) as error:
            raise UserError(f"--enable_xformers_memory_efficient_attention: {error}") from error
    return parts


def make_examples(
    pairs: datasets.Dataset, parts: model.Parts, accelerator: Accelerator, args: argparse.Namespace
) -> TrainingExamples:
    """Encode the pictures once, tokenize the instructions, and draw examples from them without end."""
    columns = (args.original_image_column, args.edited_image_column)
    parts.vae.to(accelerator.device)
    with accelerator.main_process_first():
        latents = cache_latents(pairs, columns, parts.vae, args.output_dir)
    return TrainingExamples(
        latents,
        tokenize(parts, list(pairs[args.edit_prompt_column])),
        timesteps=parts.noise_scheduler.config.num_train_timesteps,
        dropout=args.conditioning_dropout_prob,
        seed=args.seed,
    )


def tokenize(parts: model.Parts, texts: list[str]) -> Tensor:
    """Token ids (texts, tokens), cut or padded to the tokenizer's length."""
    return parts.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


@dataclass
class HeldOut:
    """Records that are never trained on: the examples whose loss is followed, and the records to paint."""

    examples: TrainingExamples
    records: datasets.Dataset


def make_held_out(
    splits: datasets.DatasetDict, parts: model.Parts, accelerator: Accelerator, args: argparse.Namespace
) -> HeldOut | None:
    """The first records of the validation or test split, shuffled once; None if there is no such split."""
    records = held_out_split(splits)
    if records is None:
        return None
    records = records.shuffle(seed=0).select(range(min(HELD_OUT_EXAMPLES, len(records))))
    examples = make_examples(records, parts, accelerator, args)
    examples.dropout, examples.seed = 0.0, 0
    return HeldOut(examples, records)


def plan_steps(pairs: int, accelerator: Accelerator, args: argparse.Namespace) -> int:
    """Optimizer steps of the whole run."""
    step_size = args.train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes
    return args.max_train_steps or max(1, args.num_train_epochs * pairs // step_size)


def model_facts(pairs: datasets.Dataset, args: argparse.Namespace) -> model.ModelFacts:
    """What inference has to know: the pairs' target and params, and the guidance of the model we start from."""
    picture = pairs[0][args.original_image_column]
    params = replace(SpectrogramParams.from_exif(picture.getexif()), num_frames=picture.width)
    base = model.load_facts(args.pretrained_model_name_or_path)
    return replace(base, target=dataset_target(pairs), params=params)


def make_run(
    parts: model.Parts, facts: model.ModelFacts, steps: int, accelerator: Accelerator, args: argparse.Namespace
) -> Run:
    """Optimizer, learning rate schedule and moving average, placed by accelerate."""
    weights = [
        weight for part in (parts.unet, parts.text_encoder) for weight in part.parameters() if weight.requires_grad
    ]
    rate = args.learning_rate
    if args.scale_lr:
        rate *= args.gradient_accumulation_steps * args.train_batch_size * accelerator.num_processes
    optimizer = make_optimizer(weights, rate, args)
    schedule = get_scheduler(  # accelerate steps it once a process
        args.lr_scheduler,
        optimizer,
        num_warmup_steps=args.lr_warmup_steps * accelerator.num_processes,
        num_training_steps=steps * accelerator.num_processes,
    )
    ema = EMAModel(parts.unet.parameters(), foreach=True) if args.use_ema else None
    parts.unet, optimizer, schedule = accelerator.prepare(parts.unet, optimizer, schedule)
    if args.train_text_encoder:
        parts.text_encoder = accelerator.prepare(parts.text_encoder)
    else:
        parts.text_encoder.to(accelerator.device)
    if ema is not None:
        ema.to(accelerator.device)
        accelerator.register_for_checkpointing(ema)
    null_ids = tokenize(parts, [""]).to(accelerator.device)
    return Run(accelerator, parts, facts, ema, optimizer, schedule, null_ids, weights)


def make_optimizer(weights: list[nn.Parameter], rate: float, args: argparse.Namespace) -> torch.optim.Optimizer:
    """AdamW, fused, or the 8-bit one of bitsandbytes."""
    settings = {
        "lr": rate,
        "betas": (args.adam_beta1, args.adam_beta2),
        "weight_decay": args.adam_weight_decay,
        "eps": args.adam_epsilon,
    }
    if not args.use_8bit_adam:
        return torch.optim.AdamW(weights, fused=True, **settings)
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError("--use_8bit_adam needs bitsandbytes: pip install bitsandbytes") from error
    return bitsandbytes.optim.AdamW8bit(weights, **settings)


def train(
    run: Run, examples: TrainingExamples, held_out: HeldOut | None, first: int, steps: int, args: argparse.Namespace
) -> None:
    """Optimizer steps `first` to `steps`, with a checkpoint and a look at held-out records now and then."""
    accelerator = run.accelerator
    step_size = args.train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes
    positions = Subset(examples, range(first * step_size, steps * step_size))
    on_gpu = accelerator.device.type == "cuda"
    loader = DataLoader(positions, args.train_batch_size, num_workers=args.dataloader_num_workers, pin_memory=on_gpu)
    progress = tqdm(initial=first, total=steps, unit="step", disable=not accelerator.is_main_process)
    step = first
    for batch in accelerator.prepare(loader):
        with accelerator.accumulate(run.parts.unet):
            loss = diffusion_loss(run.parts, run.null_ids, batch)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(run.weights, args.max_grad_norm)
            run.optimizer.step()
            run.schedule.step()
            run.optimizer.zero_grad()
        if not accelerator.sync_gradients:
            continue
        step += 1
        if run.ema is not None:
            run.ema.step(accelerator.unwrap_model(run.parts.unet).parameters())
        progress.update()
        progress.set_postfix(loss=f"{loss.item():.4f}", lr=f"{run.schedule.get_last_lr()[0]:.1e}")
        accelerator.log({"loss": loss.item(), "learning_rate": run.schedule.get_last_lr()[0]}, step)
        if step % args.checkpointing_steps == 0 or step == steps:
            checkpoints.save(accelerator, args.output_dir, step, args.checkpoints_total_limit)
            if held_out is not None and accelerator.is_main_process:
                validate(run, held_out, step, args)


def diffusion_loss(parts: model.Parts, null_ids: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Mean squared error of the UNet's prediction, a scalar. Latents are (B, C, H, W), token ids (B, T)."""
    scheduler, scale = parts.noise_scheduler, parts.vae.config.scaling_factor
    token_ids = torch.where(batch["keep_text"][:, None], batch["token_ids"], null_ids)
    clean = scale * batch["edited"]
    noisy = scheduler.add_noise(clean, batch["noise"], batch["timestep"])
    condition = batch["original"] * batch["keep_image"][:, None, None, None]
    text = parts.text_encoder(token_ids)[0]
    prediction = parts.unet(torch.cat([noisy, condition], dim=1), batch["timestep"], text).sample
    if scheduler.config.prediction_type == "v_prediction":
        wanted = scheduler.get_velocity(clean, batch["noise"], batch["timestep"])
    else:
        wanted = batch["noise"]
    return nn.functional.mse_loss(prediction.float(), wanted.float())


@torch.no_grad()
def validate(run: Run, held_out: HeldOut, step: int, args: argparse.Namespace) -> None:
    """Log the held-out loss at fixed noise and timesteps, and paint a few held-out records."""
    parts = unwrapped_parts(run)
    if run.ema is not None:
        run.ema.store(parts.unet.parameters())
        run.ema.copy_to(parts.unet.parameters())
    loader = DataLoader(Subset(held_out.examples, range(len(held_out.records))), args.train_batch_size)
    batches = ({name: value.to(run.accelerator.device) for name, value in batch.items()} for batch in loader)
    loss = float(np.mean([diffusion_loss(parts, run.null_ids, batch).item() for batch in batches]))
    run.accelerator.log({"held_out_loss": loss}, step)
    tqdm.write(f"step {step}: held-out loss {loss:.4f}")
    if args.num_validation_images > 0:
        records = held_out.records.select(range(min(args.num_validation_images, len(held_out.records))))
        paint_strip(run, parts, records, step, args)
    if run.ema is not None:
        run.ema.restore(parts.unet.parameters())


def paint_strip(run: Run, parts: model.Parts, records: datasets.Dataset, step: int, args: argparse.Namespace) -> None:
    """Write validation/step-STEP.png: a row a record, its input, what the model paints, and the target."""
    originals = records[args.original_image_column]
    prompts = [args.validation_prompt or prompt for prompt in records[args.edit_prompt_column]]
    names = [f"validation {number}" for number in range(len(prompts))]
    settings = choose_settings(run.facts, None, None, VALIDATION_STEPS, args.seed)
    painted = edit_images(model.pipeline_from_parts(parts), list(originals), prompts, names, settings)
    folder = report.make_folder(args.output_dir / "validation")
    rows = zip(originals, painted, records[args.edited_image_column], strict=True)
    report.picture_grid([list(row) for row in rows]).save(folder / f"step-{step}.png")


def resume(run: Run, args: argparse.Namespace) -> int:
    """Load the checkpoint that the flags name; returns the step to go on from, 0 if there is nothing to resume."""
    if args.resume_from_checkpoint is None:
        return 0
    folder = checkpoints.find(args.output_dir, args.resume_from_checkpoint)
    if folder is None:
        print(f"{args.output_dir} has no checkpoint yet: training starts anew")
        return 0
    run.accelerator.load_state(str(folder))
    if run.ema is not None:
        run.ema.to(run.accelerator.device)  # its weights were loaded on the CPU
    return checkpoints.step_of(folder)


def unwrapped_parts(run: Run) -> model.Parts:
    """The model's parts without accelerate's wrapping."""
    unwrap = run.accelerator.unwrap_model
    return replace(run.parts, unet=unwrap(run.parts.unet), text_encoder=unwrap(run.parts.text_encoder))


def save_model(run: Run, args: argparse.Namespace) -> None:
    """Write the model in diffusers' layout, with its facts, and upload it if asked to."""
    parts = unwrapped_parts(run)
    if run.ema is not None:
        run.ema.copy_to(parts.unet.parameters())
    pipeline = model.pipeline_from_parts(parts)
    if args.save_precision == "fp16":
        pipeline.to(torch.float16)
    pipeline.save_pretrained(args.output_dir)
    model.save_facts(args.output_dir, run.facts)
    print(f"saved {args.output_dir}")
    if args.push_to_hub:
        name = args.hub_model_id or args.output_dir.resolve().name
        aside = ["checkpoint-*", "latents-*", "logs/*", "validation/*"]
        print(f"uploaded to {hub.upload_folder(args.output_dir, name, 'model', token=args.hub_token, ignore=aside)}")


if __name__ == "__main__":
    run_script(main, parse_args())
