"""Fine-tune a text-to-picture checkpoint to follow instructions (InstructPix2Pix, arXiv 2211.09800).

    accelerate launch train_instruct_pix2pix.py --train_data_dir /data/musdb18-pix2pix/train \\
        --output_dir /data/pix2pix-riff-ckpt --max_train_steps 300000 --train_batch_size 4

Writes checkpoint-STEP folders as it goes and, at the end, a model that StableDiffusionInstructPix2PixPipeline loads.
"""

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, InitProcessGroupKwargs, ProjectConfiguration, set_seed
from diffusers.optimization import SchedulerType, get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from riffusion.diffusion import encode, model
from riffusion.diffusion.loss import Objective, diffusion_loss
from riffusion.pairs.dataset import dataset_target, held_out_split, read_pair_picture
from riffusion.pairs.dataset_check import open_pairs
from riffusion.spectrogram import SpectrogramParams
from riffusion.training import checkpoints, sources, validation
from riffusion.training.cache import Cache
from riffusion.training.examples import Draws, TrainingExamples, crop_columns
from riffusion.util import files, hub
from riffusion.util.distributed import PATIENCE, any_process, catch_sigterm, ignore_sigterm
from riffusion.util.errors import UserError
from riffusion.util.flags import Help, at_least, probability
from riffusion.util.runtime import run_script

SCHEDULES = [kind.value for kind in SchedulerType if kind is not SchedulerType.PIECEWISE_CONSTANT]
UNSHARED = ["training.json", "checkpoint-*", "originals-*", "edits-*", "changes-*", "texts-*", "logs/*", "validation/*"]
LOG_STEPS = 10  # steps between two looks at the loss: every look makes a GPU wait


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    count, add = at_least(1), parser.add_argument_group("model").add_argument
    start = "riffusion/riffusion-model-v1"
    add("--pretrained_model_name_or_path", default=start, help="folder or Hub name to start from")
    add("--revision", help="revision of that Hub model (default: its main branch)")
    add("--variant", help='variant of its weight files, such as "fp16" (default: the plain ones)')
    add("--cache_dir", type=Path, help="where downloads are kept (default: the Hub's own cache)")
    add("--train_text_encoder", action="store_true", help="train the text encoder too; for small models")
    add(
        "--lora_rank",
        type=count,
        help="train low-rank updates of the attention only, then merge (default: all weights)",
    )
    add("--prediction_type", choices=["epsilon", "v_prediction"], help="what the UNet predicts (default: as before)")
    add("--rescale_betas_zero_snr", action="store_true", help="noise that ends in pure noise (zero terminal SNR)")
    add("--use_ema", action="store_true", help="save a moving average of the UNet's weights")
    add("--ema_decay", type=float, default=0.9999, help="maximum EMA decay; (1 + t) / (10 + t) at step t until then")

    add = parser.add_argument_group("data").add_argument
    add("--dataset_name", default="zachary-shah/musdb18-spec-pix2pix", help="dataset on the Hub, or a folder")
    add("--train_data_dir", type=Path, help="preprocess_musdb.py's output; overrides --dataset_name (default: none)")
    add("--original_image_column", default="original_image", help="column of the input picture")
    add("--edited_image_column", default="edited_image", help="column of the target picture")
    add("--edit_prompt_column", default="edit_prompt", help="column of the instruction")
    add("--max_train_samples", type=count, help="use only this many pairs, chosen at random (default: all)")
    add("--resolution", type=int, default=512, help="height of the pictures in pixels; they are never resized")
    add("--dataloader_num_workers", type=int, default=0, help="worker processes per GPU")
    add("--no_cache", action="store_true", help="encode pictures and instructions at every step instead of once")
    add("--latents_dir", type=Path, help="folder of the encoded pairs, to share between runs (default: --output_dir)")

    add = parser.add_argument_group("training").add_argument
    add("--output_dir", type=Path, default=Path("pix2pix-riff-ckpt"), help="where checkpoints and the model go")
    add("--seed", type=at_least(0), default=0, help="seed of everything random")
    add("--train_batch_size", type=count, default=4, help="batch size per process")
    add("--num_train_epochs", type=count, default=100, help="passes over the pairs, unless --max_train_steps is given")
    add("--max_train_steps", type=count, help="optimizer steps (default: as many as --num_train_epochs takes)")
    add("--gradient_accumulation_steps", type=count, default=1, help="batches per optimizer step")
    add("--gradient_checkpointing", action="store_true", help="less memory, more time")
    add("--learning_rate", type=float, default=1e-4, help="peak learning rate")
    add("--scale_lr", action="store_true", help="multiply the learning rate by batch size, accumulation and processes")
    add("--lr_scheduler", choices=SCHEDULES, default="constant", help="learning rate schedule")
    add("--lr_warmup_steps", type=int, default=500, help="warm-up steps, of schedules that have one")
    add("--conditioning_dropout_prob", type=float, default=0.05, help="chance to drop text, picture or both, each")
    add("--image_dropout_prob", type=probability, help="chance to drop the picture alone (default: as above)")
    add("--snr_gamma", type=float, help="weigh noise levels by min-SNR-gamma; 5 in the paper (default: no weights)")
    add("--timestep_shift", type=float, default=1.0, help="above 1 noise is stronger, where text decides; 3 is SD3's")
    add("--timestep_shift_share", type=probability, default=1.0, help="share of the examples whose noise is shifted")
    add("--stratified_timesteps", action="store_true", help="spread the timesteps of a batch evenly")
    add("--crop_frames", type=count, help="train on this many frames of each picture, cut at random (default: all)")
    add("--offset_noise", type=float, default=0.0, help="strength of noise that is constant per latent channel")
    add("--changed_region_weight", type=float, default=1.0, help="weight of errors where the pair differs")
    add("--use_8bit_adam", action="store_true", help="8-bit Adam of bitsandbytes")
    add("--adam_beta1", type=float, default=0.9, help="Adam's first decay")
    add("--adam_beta2", type=float, default=0.999, help="Adam's second decay")
    add("--adam_weight_decay", type=float, default=1e-2, help="Adam's weight decay")
    add("--adam_epsilon", type=float, default=1e-8, help="Adam's epsilon")
    add("--max_grad_norm", type=float, default=1.0, help="gradients are clipped to this norm")
    add("--mixed_precision", choices=["no", "fp16", "bf16"], help="default: what `accelerate config` says")
    add("--allow_tf32", action="store_true", help="TF32 matrix products on Ampere and newer GPUs")
    add("--compile", action="store_true", help="torch.compile the UNet: a slow first step, then faster ones")
    add("--enable_xformers_memory_efficient_attention", action="store_true", help="xformers, not torch's own SDPA")

    add = parser.add_argument_group("checkpoints and reports").add_argument
    add("--checkpointing_steps", type=count, default=500, help="steps between checkpoints")
    add("--checkpoints_total_limit", type=count, help="keep only the N newest complete checkpoints (default: all)")
    add("--resume_from_checkpoint", help='checkpoint folder in --output_dir, or "latest" (default: start from scratch)')
    add("--save_precision", choices=["fp32", "fp16"], default="fp32", help="precision of the saved model")
    add("--report_to", choices=["tensorboard", "wandb", "none"], default="tensorboard", help="logging backend")
    add("--logging_dir", type=Path, default=Path("logs"), help="folder of its logs inside --output_dir")
    add("--validation_steps", type=count, help="steps between validation runs (default: --checkpointing_steps)")
    add(
        "--early_stopping_patience", type=count, help="stop after so many validation runs without gain (default: never)"
    )
    add("--validation_prompt", help="paint the held-out pictures by this instruction (default: their own)")
    add("--num_validation_images", type=int, default=4, help="held-out pictures painted in each validation run")
    add("--push_to_hub", action="store_true", help="upload the model when training is done")
    add("--hub_token", help="access token (default: the one that huggingface_hub knows)")
    add("--hub_model_id", help="repository to upload to (default: the output folder's name)")
    args = parser.parse_args(argv)
    args.hub_model_id = args.hub_model_id or args.output_dir.resolve().name
    if not 0 <= args.conditioning_dropout_prob <= 1 / 3:
        parser.error("--conditioning_dropout_prob must be between 0 and 1/3: three conditions are dropped by it")
    for name in ("changed_region_weight", "snr_gamma", "timestep_shift"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            parser.error(f"--{name} must be above 0")
    return args


@dataclass
class Run:
    """What a training step needs, and what a checkpoint holds."""

    accelerator: Accelerator
    parts: model.Parts
    facts: model.ModelFacts
    columns: sources.Columns
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    weights: list[nn.Parameter]  # what is trained
    null: dict[str, Tensor]  # the empty instruction: `text` (1, tokens, width), or `token_ids` where those are trained
    ema: EMAModel | None
    progress: validation.Progress = field(default_factory=validation.Progress)


def main(args: argparse.Namespace) -> int:
    accelerator = make_accelerator(args)
    name, pictures = (
        str(args.train_data_dir or args.dataset_name),
        (args.original_image_column, args.edited_image_column),
    )
    splits = open_pairs(name, args.cache_dir, pictures, [args.edit_prompt_column], accelerator.print)
    pairs = training_pairs(splits, args)
    parts = load_parts(args)
    epochs = args.num_train_epochs * len(pairs) // examples_a_step(accelerator, args)
    steps = args.max_train_steps or max(1, epochs)
    run = make_run(parts, model_facts(pairs, args), steps, accelerator, args)
    first = resume(run, args)
    if args.push_to_hub and accelerator.is_main_process:
        hub.prepare_upload(args.hub_model_id, "model", args.hub_token)
    announce(accelerator, args)  # everything that the user may have got wrong is behind us
    started = time.perf_counter()
    examples = make_examples(pairs, run, args)
    watched = make_watched(splits, pairs, run, args)
    figures = {"seconds_to_encode": time.perf_counter() - started}
    figures |= train(run, examples, watched, range(first, steps), args)
    if accelerator.is_main_process:
        files.save_json(args.output_dir / "result.json", figures)
        if figures["finished"]:
            save_model(run, figures, args)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    if accelerator.is_main_process and figures["finished"] and args.push_to_hub:
        url = hub.upload_folder(args.output_dir, args.hub_model_id, "model", token=args.hub_token, ignore=UNSHARED)
        print(f"uploaded to {url}")
    return 0


def make_accelerator(args: argparse.Namespace) -> Accelerator:
    """Accelerate's context, and the switches of the whole process."""
    set_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.allow_tf32
    folders = ProjectConfiguration(project_dir=args.output_dir, logging_dir=args.output_dir / args.logging_dir)
    accelerator = Accelerator(
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=folders,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    checkpoints.share_between_layouts(accelerator)
    if args.report_to != "none" and not accelerator.log_with:
        raise UserError(f"--report_to {args.report_to}: that package isn't installed")
    return accelerator


def announce(accelerator: Accelerator, args: argparse.Namespace) -> None:
    """Print the settings, save them as training.json, and open the trackers."""
    settings = public_settings(args)
    if accelerator.is_main_process:
        files.make_folder(args.output_dir)
        files.save_json(args.output_dir / "training.json", settings)
        print("\n".join(f"{name}: {value}" for name, value in settings.items()))
    accelerator.init_trackers(Path(__file__).stem, {name: str(value) for name, value in settings.items()})


def public_settings(args: argparse.Namespace) -> dict[str, object]:
    """The settings to show and to publish, without those that another one overrides."""
    unused = {"hub_token": True, "dataset_name": args.train_data_dir, "num_train_epochs": args.max_train_steps}
    return {name: value for name, value in vars(args).items() if not unused.get(name)}


def training_pairs(splits: datasets.DatasetDict, args: argparse.Namespace) -> datasets.Dataset:
    """The pairs to learn from: the train split, or the only one."""
    pairs = splits["train"] if "train" in splits else next(iter(splits.values()))
    height = read_pair_picture(pairs, 0, args.original_image_column).height
    if height != args.resolution:
        raise UserError(
            f"pictures are {height} pixels high and --resolution says {args.resolution}: resizing a spectrogram "
            "would change its pitch; pass its own height"
        )
    for flag in ("validation_prompt", "early_stopping_patience"):
        if getattr(args, flag) and held_out_split(splits) is None:
            raise UserError(f"--{flag} needs held-out pairs, and the dataset has no valid or test split")
    count = min(args.max_train_samples or len(pairs), len(pairs))
    return pairs if count == len(pairs) else pairs.shuffle(seed=args.seed).select(range(count))


def load_parts(args: argparse.Namespace) -> model.Parts:
    """The checkpoint to start from, its UNet widened for the second picture unless it already is."""
    parts = model.load_parts(args.pretrained_model_name_or_path, args.revision, args.variant, args.cache_dir)
    model.take_condition(parts)
    model.change_schedule(parts, args.prediction_type, args.rescale_betas_zero_snr)
    parts.vae.requires_grad_(False)
    parts.text_encoder.requires_grad_(args.train_text_encoder)
    if args.lora_rank is not None:
        model.add_lora(parts.unet, args.lora_rank)
    if args.gradient_checkpointing:
        parts.unet.enable_gradient_checkpointing()
    if args.enable_xformers_memory_efficient_attention:
        model.use_xformers(parts.unet)
    return parts


def examples_a_step(accelerator: Accelerator, args: argparse.Namespace) -> int:
    return args.train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes


def model_facts(pairs: datasets.Dataset, args: argparse.Namespace) -> model.ModelFacts:
    """What inference has to know: the pairs' target and params, and the guidance of the model we start from."""
    picture = read_pair_picture(pairs, 0, args.original_image_column)
    params = replace(SpectrogramParams.from_exif(picture.getexif()), num_frames=picture.width)
    base = model.load_facts(args.pretrained_model_name_or_path, args.revision, args.cache_dir)
    return replace(base, target=dataset_target(pairs), params=params)


def make_run(
    parts: model.Parts, facts: model.ModelFacts, steps: int, accelerator: Accelerator, args: argparse.Namespace
) -> Run:
    """Optimizer, learning rate schedule and moving average, placed by accelerate."""
    weights = [w for part in (parts.unet, parts.text_encoder) for w in part.parameters() if w.requires_grad]
    rate = args.learning_rate * (examples_a_step(accelerator, args) if args.scale_lr else 1)
    betas = args.adam_beta1, args.adam_beta2
    settings = {"lr": rate, "betas": betas, "eps": args.adam_epsilon, "weight_decay": args.adam_weight_decay}
    optimizer = model.make_optimizer(weights, settings, args.use_8bit_adam)
    schedule = get_scheduler(args.lr_scheduler, optimizer, None, args.lr_warmup_steps, steps)
    if accelerator.device.type == "cuda":
        parts.unet.to(memory_format=torch.channels_last)
    ema = EMAModel(parts.unet.parameters(), decay=args.ema_decay, foreach=True) if args.use_ema else None
    if args.compile:
        parts.unet.compile()
    parts.unet, optimizer, schedule = accelerator.prepare(parts.unet, optimizer, schedule)
    parts.text_encoder.to(accelerator.device)
    null = {"token_ids": encode.tokenize(parts, [""]).to(accelerator.device)}
    if not args.train_text_encoder:
        with torch.no_grad():
            null |= encode.encode_texts(parts.text_encoder, null["token_ids"])
    else:
        parts.text_encoder = accelerator.prepare(parts.text_encoder)
    objective = Objective(facts.target, args.snr_gamma, args.offset_noise, args.changed_region_weight)
    columns = sources.Columns(args.original_image_column, args.edited_image_column, args.edit_prompt_column)
    run = Run(accelerator, parts, facts, columns, objective, optimizer, schedule, weights, null, ema)
    accelerator.register_for_checkpointing(run.progress)
    if ema is not None:
        ema.to(accelerator.device)
        accelerator.register_for_checkpointing(ema)
    return run


def make_examples(pairs: datasets.Dataset, run: Run, args: argparse.Namespace) -> TrainingExamples:
    """What the frozen parts make of the pairs, encoded once or to be encoded at each step; examples without end."""
    parts, cache = run.parts, None
    if not args.no_cache:
        cache = Cache(args.latents_dir or args.output_dir, run.accelerator, args.dataloader_num_workers)
    changes = run.facts.target if run.objective.changed_region_weight != 1 else None
    parts.vae.to(run.accelerator.device)
    columns = sources.picture_sources(pairs, run.columns, parts.vae, changes, cache)
    token_ids = encode.tokenize(parts, list(pairs[run.columns.prompt]))
    columns += sources.text_sources(token_ids, parts.text_encoder, None if args.train_text_encoder else cache)
    if cache is not None:
        parts.vae.to("cpu")
    shape = encode.latent_shape(parts.vae, read_pair_picture(pairs, 0, run.columns.original))
    timesteps = parts.noise_scheduler.config.num_train_timesteps
    draws = make_draws(shape[2], encode.latent_factor(parts.vae), args)
    return TrainingExamples(columns, shape, timesteps, args.seed, draws)


def make_draws(columns: int, factor: int, args: argparse.Namespace) -> Draws:
    """How examples are drawn from latents of so many columns, `factor` frames each. Raises UserError on a bad crop."""
    dropout = args.conditioning_dropout_prob
    return Draws(
        text_dropout=dropout,
        image_dropout=dropout if args.image_dropout_prob is None else args.image_dropout_prob,
        both_dropout=dropout,
        shift=args.timestep_shift,
        shift_share=args.timestep_shift_share,
        strata=args.train_batch_size if args.stratified_timesteps else 1,
        crop=crop_columns(args.crop_frames, factor, columns),
    )


def make_watched(
    splits: datasets.DatasetDict, pairs: datasets.Dataset, run: Run, args: argparse.Namespace
) -> validation.Watched | None:
    """A few held-out and training pairs with noise and timesteps for good; None if nothing is held out."""
    records = held_out_split(splits)
    if records is None:
        return None
    chosen = [validation.watched_pairs(part) for part in (records, pairs)]
    return validation.Watched(*(make_examples(part, run, args) for part in chosen), chosen[0], run.columns)


def train(
    run: Run, examples: TrainingExamples, watched: validation.Watched | None, steps: range, args: argparse.Namespace
) -> dict[str, object]:
    """Take the steps, with a look at held-out pairs and a checkpoint now and then.

    Returns what came of it, in the main process; `finished` is false if SIGTERM ended it.
    """
    accelerator, terminated = run.accelerator, catch_sigterm()
    step, stale = steps.start, False
    meter = validation.Meter(accelerator, args.train_batch_size)
    with tqdm(initial=steps.start, total=steps.stop, unit="step", disable=not accelerator.is_main_process) as bar:
        for batch in make_loader(examples, steps, accelerator, args):
            meter.add(train_on_batch(run, batch, args))
            if not accelerator.sync_gradients:
                continue
            step += 1
            bar.update()
            last = step == steps.stop
            if step % LOG_STEPS == 0 or last:
                figures = meter.read() | {"learning_rate": run.schedule.get_last_lr()[0]}
                bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()})
                accelerator.log(figures, step)
            if watched is not None and (step % (args.validation_steps or args.checkpointing_steps) == 0 or last):
                stale = validate(run, watched, step, args)
            stopping = any_process(accelerator, terminated.is_set() or stale)
            if step % args.checkpointing_steps == 0 or last or stopping:
                checkpoints.save(accelerator, args.output_dir, step, args.checkpoints_total_limit)
            if stopping:
                break
    finished = stale or step >= steps.stop
    if not finished:
        accelerator.print(f"SIGTERM: stopped after step {step}; go on with --resume_from_checkpoint latest")
    return {"step": step, "finished": finished, **meter.figures(), **run.progress.state_dict()}


def make_loader(
    examples: TrainingExamples, steps: range, accelerator: Accelerator, args: argparse.Namespace
) -> DataLoader:
    """The batches of these steps, in order, each process its own."""
    size, workers = examples_a_step(accelerator, args), args.dataloader_num_workers
    chosen = Subset(examples, range(steps.start * size, steps.stop * size))
    options = {"num_workers": workers, "worker_init_fn": ignore_sigterm, "pin_memory": torch.cuda.is_available()}
    return accelerator.prepare(DataLoader(chosen, args.train_batch_size, **options))


def train_on_batch(run: Run, batch: dict[str, Tensor], args: argparse.Namespace) -> Tensor:
    """One batch's gradients, and an optimizer step where enough of them are gathered; returns the loss."""
    accelerator = run.accelerator
    with accelerator.accumulate(run.parts.unet, run.parts.text_encoder):
        with accelerator.autocast():
            loss = diffusion_loss(run.parts, run.null, batch, run.objective)
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(run.weights, args.max_grad_norm)
        run.optimizer.step()
        if accelerator.sync_gradients:
            run.schedule.step()
        run.optimizer.zero_grad()
    if accelerator.sync_gradients and run.ema is not None:
        run.ema.step(accelerator.unwrap_model(run.parts.unet).parameters())
    return loss.detach()


def validate(run: Run, watched: validation.Watched, step: int, args: argparse.Namespace) -> bool:
    """Log losses at fixed noise and timesteps, and paint a few held-out pairs; returns whether to stop early.

    The main process does it and decides; the others go on to where they meet.
    """
    accelerator = run.accelerator
    if not accelerator.is_main_process:
        return False
    parts = unwrapped_parts(run)
    with model.averaged_weights(parts.unet, run.ema):
        held_out, training = (
            validation.fixed_losses(parts, run.null, examples, args.train_batch_size)
            for examples in (watched.held_out, watched.training)
        )
        for line in run.progress.look(step, held_out, training):
            tqdm.write(line)
        accelerator.log(run.progress.figures(), step)
        if args.num_validation_images > 0:
            settings = (args.validation_prompt, args.num_validation_images, args.seed)
            rows = validation.paint_records(parts, run.facts, watched, *settings)
            validation.show_records(rows, run.facts, args.output_dir / "validation", step, accelerator)
    patience = args.early_stopping_patience
    stale = patience is not None and run.progress.looks_since_best >= patience
    if stale:
        tqdm.write(f"stopping early, {patience} looks after the best held-out loss")
    return stale


def resume(run: Run, args: argparse.Namespace) -> int:
    """Load the checkpoint that the flags name; returns the step to go on from, 0 if there is nothing to resume."""
    folder = checkpoints.find(args.output_dir, args.resume_from_checkpoint)
    if folder is None:
        return 0
    checkpoints.load(run.accelerator, folder)
    if run.ema is not None:
        run.ema.to(run.accelerator.device)  # its weights were loaded on the CPU
    return checkpoints.step_of(folder)


def unwrapped_parts(run: Run) -> model.Parts:
    """The model's parts without accelerate's wrapping."""
    unwrap = run.accelerator.unwrap_model
    return replace(run.parts, unet=unwrap(run.parts.unet), text_encoder=unwrap(run.parts.text_encoder))


def save_model(run: Run, figures: dict[str, object], args: argparse.Namespace) -> None:
    """Write the model in diffusers' layout, with its facts and a card."""
    parts = unwrapped_parts(run)
    with model.averaged_weights(parts.unet, run.ema):
        model.save(parts, run.facts, args.output_dir, half=args.save_precision == "fp16")
    model.save_card(args.output_dir, args.hub_model_id, run.facts, public_settings(args), figures)
    print(f"saved {args.output_dir}")


if __name__ == "__main__":
    run_script(main, parse_args())
