"""What a training run needs, made from its options: data, model, optimizer, examples."""

import os
from dataclasses import dataclass, field, replace

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, InitProcessGroupKwargs, ProjectConfiguration, set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import nn

from riffusion.diffusion import encode, lora, model
from riffusion.diffusion.batch import Batch
from riffusion.diffusion.knowledge import Knowledge, knowledge_of, load_knowledge
from riffusion.diffusion.loss import Objective
from riffusion.pairs.dataset import dataset_target, held_out_split, read_pair_picture
from riffusion.pairs.dataset_check import open_pairs
from riffusion.spectrogram import SpectrogramParams
from riffusion.training import checkpoints, sources
from riffusion.training.cache import Cache
from riffusion.training.examples import Draws, TrainingExamples, crop_columns
from riffusion.training.options import TrainOptions
from riffusion.training.validation import Progress, ValidationSet, choose_pairs
from riffusion.util.devices import has_bf16
from riffusion.util.distributed import PATIENCE
from riffusion.util.errors import UserError

LAUNCHED_PRECISION = "ACCELERATE_MIXED_PRECISION"  # set by `accelerate launch`, to "no" too


@dataclass
class Run:
    """What a training step needs, and what a checkpoint holds."""

    options: TrainOptions
    accelerator: Accelerator
    parts: model.Parts
    facts: model.ModelFacts
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    weights: list[nn.Parameter]  # the trained ones
    uncond: Batch  # the empty instruction (1, ...): its states, or its token ids if the text encoder is trained
    ema: EMAModel | None
    progress: Progress = field(default_factory=Progress)


def make_accelerator(options: TrainOptions) -> Accelerator:
    """Accelerate's context, the seed and the switches of the whole process."""
    set_seed(options.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.allow_tf32
    logs = options.output_dir / options.logging_dir
    accelerator = Accelerator(
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        mixed_precision=mixed_precision(options),
        log_with=None if options.report_to == "none" else options.report_to,
        project_config=ProjectConfiguration(project_dir=options.output_dir, logging_dir=logs),
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    checkpoints.share_between_layouts(accelerator)
    if options.report_to != "none" and not accelerator.log_with:
        raise UserError(f"--report_to {options.report_to}: that package isn't installed")
    return accelerator


def mixed_precision(options: TrainOptions) -> str | None:
    """The options' or else that of accelerate's launcher (None); without one bf16 on a CPU that computes in it."""
    if options.mixed_precision or LAUNCHED_PRECISION in os.environ or torch.cuda.is_available():
        return options.mixed_precision
    return "bf16" if has_bf16(torch.device("cpu")) else None


def open_splits(options: TrainOptions, accelerator: Accelerator) -> datasets.DatasetDict:
    """The dataset's splits, checked. Raises UserError if it can't be had or lacks a column."""
    pictures = (options.original_image_column, options.edited_image_column)
    return open_pairs(options.dataset, options.cache_dir, pictures, [options.edit_prompt_column], accelerator.print)


def training_pairs(splits: datasets.DatasetDict, options: TrainOptions) -> datasets.Dataset:
    """The pairs to train on: the train split, or the only one. Raises UserError if the options don't fit them."""
    pairs = splits["train"] if "train" in splits else next(iter(splits.values()))
    height = read_pair_picture(pairs, 0, options.original_image_column).height
    if height != options.resolution:
        raise UserError(
            f"pictures are {height} pixels high and --resolution says {options.resolution}: resizing a spectrogram "
            "would change its pitch; pass its own height"
        )
    for flag in ("validation_prompt", "early_stopping_patience"):
        if getattr(options, flag) and held_out_split(splits) is None:
            raise UserError(f"--{flag} needs held-out pairs, and the dataset has no valid or test split")
    count = min(options.max_train_samples or len(pairs), len(pairs))
    return pairs if count == len(pairs) else pairs.shuffle(seed=options.seed).select(range(count))


def load_parts(options: TrainOptions) -> model.Parts:
    """The checkpoint to start from, its UNet widened for the second picture unless it already is."""
    name = options.pretrained_model_name_or_path
    parts = model.load_parts(name, options.revision, options.variant, options.cache_dir, options.model_config)
    model.take_condition(parts)
    model.change_schedule(parts, options.prediction_type, options.rescale_betas_zero_snr)
    parts.vae.requires_grad_(False)
    parts.text_encoder.requires_grad_(options.train_text_encoder)
    if options.lora_rank is not None:
        lora.add_lora(parts.unet, options.lora_rank)
    if options.gradient_checkpointing:
        parts.unet.enable_gradient_checkpointing()
    if options.enable_xformers_memory_efficient_attention:
        model.use_xformers(parts.unet)
    return parts


def model_facts(pairs: datasets.Dataset, options: TrainOptions) -> model.ModelFacts:
    """What inference has to know: the pairs' target and params, and the guidance of the model we start from."""
    picture = read_pair_picture(pairs, 0, options.original_image_column)
    params = replace(SpectrogramParams.from_exif(picture.getexif()), num_frames=picture.width)
    name, revision = options.pretrained_model_name_or_path, options.revision
    base = model.load_facts(name, revision, options.cache_dir, options.model_config)
    return replace(base, target=dataset_target(pairs), params=params)


def base_knowledge(options: TrainOptions) -> Knowledge | None:
    """What the model that we start from was trained on, as far as it says so."""
    return load_knowledge(options.pretrained_model_name_or_path, options.revision, options.cache_dir)


def knowledge(pairs: datasets.Dataset, options: TrainOptions, before: Knowledge | None) -> Knowledge:
    """What the model will have been trained on: the pairs, and what it knew before."""
    learnt = knowledge_of(pairs, list(pairs[options.edit_prompt_column]))
    return learnt if before is None else learnt.with_more(before)


def examples_per_step(options: TrainOptions, accelerator: Accelerator) -> int:
    """Examples per optimizer step, of all processes."""
    return options.train_batch_size * options.gradient_accumulation_steps * accelerator.num_processes


def make_run(
    options: TrainOptions, accelerator: Accelerator, parts: model.Parts, facts: model.ModelFacts, steps: int
) -> Run:
    """The optimizer and all that goes with it over so many steps, on accelerate's device.

    The UNet gets its memory format and is compiled before accelerate wraps it; the empty instruction is encoded before
    a text encoder that is trained is wrapped too.
    """
    weights = [w for part in (parts.unet, parts.text_encoder) for w in part.parameters() if w.requires_grad]
    optimizer = make_optimizer(weights, options, accelerator)
    schedule = get_scheduler(
        options.lr_scheduler, optimizer, num_warmup_steps=options.lr_warmup_steps, num_training_steps=steps
    )
    if accelerator.device.type == "cuda":
        parts.unet.to(memory_format=torch.channels_last)
    ema = EMAModel(parts.unet.parameters(), decay=options.ema_decay, foreach=True) if options.use_ema else None
    if options.compile:
        parts.unet.compile()
    parts.unet, optimizer, schedule = accelerator.prepare(parts.unet, optimizer, schedule)
    uncond = place_text_encoder(parts, options, accelerator)
    objective = Objective(
        target=facts.target,
        snr_gamma=options.snr_gamma,
        offset_noise=options.offset_noise,
        changed_region_weight=options.changed_region_weight,
    )
    run = Run(options, accelerator, parts, facts, objective, optimizer, schedule, weights, uncond, ema)
    accelerator.register_for_checkpointing(run.progress)
    if ema is not None:
        ema.to(accelerator.device)
        accelerator.register_for_checkpointing(ema)
    return run


def make_optimizer(
    weights: list[nn.Parameter], options: TrainOptions, accelerator: Accelerator
) -> torch.optim.Optimizer:
    """AdamW as the options have it."""
    rate = options.learning_rate * (examples_per_step(options, accelerator) if options.scale_lr else 1)
    settings = {
        "lr": rate,
        "betas": (options.adam_beta1, options.adam_beta2),
        "eps": options.adam_epsilon,
        "weight_decay": options.adam_weight_decay,
    }
    return model.make_optimizer(weights, settings, options.use_8bit_adam)


def place_text_encoder(parts: model.Parts, options: TrainOptions, accelerator: Accelerator) -> Batch:
    """Move the text encoder to the device, wrapped if it is trained; returns the empty instruction."""
    parts.text_encoder.to(accelerator.device)
    uncond = Batch(token_ids=encode.tokenize(parts.tokenizer, [""]).to(accelerator.device))
    if options.train_text_encoder:
        parts.text_encoder = accelerator.prepare(parts.text_encoder)
        return uncond
    with torch.no_grad():
        return uncond | encode.encode_texts(parts.text_encoder, uncond["token_ids"])


def columns_of(options: TrainOptions) -> sources.Columns:
    """The dataset's columns."""
    return sources.Columns(options.original_image_column, options.edited_image_column, options.edit_prompt_column)


def make_examples(pairs: datasets.Dataset, run: Run) -> TrainingExamples:
    """Endless examples of the pairs; what the frozen parts make of them is encoded once, or at each step."""
    options, parts, columns = run.options, run.parts, columns_of(run.options)
    cache = None
    if not options.no_cache:
        folder = options.latents_dir or options.output_dir
        cache = Cache(folder, run.accelerator, options.dataloader_num_workers)
    changes = run.facts.target if run.objective.changed_region_weight != 1 else None
    parts.vae.to(run.accelerator.device)
    found = sources.picture_sources(pairs, columns, parts.vae, cache, changes)
    token_ids = encode.tokenize(parts.tokenizer, list(pairs[columns.prompt]))
    found += sources.text_sources(token_ids, parts.text_encoder, None if options.train_text_encoder else cache)
    if cache is not None:
        parts.vae.to("cpu")
    shape = encode.latent_shape(parts.vae, read_pair_picture(pairs, 0, columns.original))
    timesteps = parts.noise_scheduler.config.num_train_timesteps
    draws = make_draws(shape[2], encode.latent_factor(parts.vae), options)
    return TrainingExamples(found, shape, timesteps, options.seed, draws)


def make_draws(columns: int, factor: int, options: TrainOptions) -> Draws:
    """How examples are drawn from latents of so many columns, `factor` frames each. Raises UserError on a bad crop."""
    dropout = options.conditioning_dropout_prob
    return Draws(
        text_dropout=dropout,
        image_dropout=dropout if options.image_dropout_prob is None else options.image_dropout_prob,
        both_dropout=dropout,
        shift=options.timestep_shift,
        shift_share=options.timestep_shift_share,
        strata=options.train_batch_size if options.stratified_timesteps else 1,
        crop=crop_columns(options.crop_frames, factor, columns),
    )


def make_validation_set(splits: datasets.DatasetDict, pairs: datasets.Dataset, run: Run) -> ValidationSet | None:
    """A few held-out and a few training pairs, always with the same noise; None if nothing is held out."""
    held_out = held_out_split(splits)
    if held_out is None:
        return None
    chosen = choose_pairs(held_out)
    return ValidationSet(
        held_out=fixed_examples(chosen, run),
        training=fixed_examples(choose_pairs(pairs), run),
        pairs=chosen,
        columns=columns_of(run.options),
    )


def fixed_examples(pairs: datasets.Dataset, run: Run) -> TrainingExamples:
    """Whole examples of the pairs without dropout, whose timesteps are spread evenly; the options' seed is ignored."""
    examples = make_examples(pairs, run)
    return TrainingExamples(
        examples.sources, examples.shape, examples.timesteps, seed=0, draws=Draws(strata=len(pairs))
    )
