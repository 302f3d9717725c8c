"""A training run, from its options to a model."""

import time
from contextlib import nullcontext
from dataclasses import replace

import datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from riffusion.diffusion import model
from riffusion.diffusion.batch import Batch
from riffusion.diffusion.knowledge import Knowledge, save_knowledge
from riffusion.diffusion.loss import diffusion_loss
from riffusion.training import checkpoints, outputs, setup, validation
from riffusion.training.examples import TrainingExamples
from riffusion.training.meter import Meter, Speed
from riffusion.training.options import TrainOptions
from riffusion.training.outputs import TrainingResult
from riffusion.training.setup import Run
from riffusion.training.validation import ValidationSet
from riffusion.util import files, hub
from riffusion.util.devices import warn_of_unusable_gpu
from riffusion.util.distributed import any_process, catch_sigterm, ignore_sigterm
from riffusion.util.runtime import only_run, telling_what_is_kept

PROJECT = "train_instruct_pix2pix"  # the run's name for logging backends
LOG_STEPS = 10  # steps between readings of the loss: each makes a GPU wait


def train(options: TrainOptions) -> TrainingResult:
    """Fine-tune a model on pairs; the output folder gets checkpoints, reports and at the end the model.

    Raises UserError if data, model and options don't fit together, if another run is at work in the output folder, or
    if something can't be written.
    """
    warn_of_unusable_gpu()
    accelerator = setup.make_accelerator(options)
    splits = setup.open_splits(options, accelerator)
    pairs = setup.training_pairs(splits, options)
    parts = setup.load_parts(options)
    epochs = options.num_train_epochs * len(pairs) // setup.examples_per_step(options, accelerator)
    steps = options.max_train_steps or max(1, epochs)
    run = setup.make_run(options, accelerator, parts, setup.model_facts(pairs, options), steps)
    before = setup.base_knowledge(options)  # at the end of a long run the Hub may be out of reach
    with only_run(options.output_dir / outputs.LOCK) if accelerator.is_main_process else nullcontext():
        first = resume(run)
        prepare_outputs(run)  # everything that the user may have got wrong is behind us
        started = time.perf_counter()
        examples = setup.make_examples(pairs, run)
        validation_set = setup.make_validation_set(splits, pairs, run)
        seconds_to_encode = time.perf_counter() - started
        with telling_what_is_kept(lambda: checkpoints.kept(options.output_dir)):
            step, finished, speed = take_steps(run, examples, validation_set, range(first, steps))
        result = TrainingResult(seconds_to_encode, step, finished, speed, run.progress)
        if accelerator.is_main_process:
            save_result(run, result, pairs, before)
        accelerator.wait_for_everyone()
        accelerator.end_training()
        if accelerator.is_main_process and finished and options.push_to_hub:
            upload(options)
    return result


def take_steps(
    run: Run, examples: TrainingExamples, validation_set: ValidationSet | None, steps: range
) -> tuple[int, bool, Speed]:
    """Train on these steps, with validation runs and checkpoints in between.

    Returns the last step, whether training is finished (not so after SIGTERM), and in the main process the speed.
    """
    options, accelerator, terminated = run.options, run.accelerator, catch_sigterm()
    step, stale = steps.start, False
    meter = Meter(accelerator, options.train_batch_size)
    with tqdm(initial=steps.start, total=steps.stop, unit="step", disable=not accelerator.is_main_process) as bar:
        for batch in make_loader(run, examples, steps):
            meter.add(train_on_batch(run, batch))
            if not accelerator.sync_gradients:
                continue
            step += 1
            bar.update()
            last = step == steps.stop
            if step % LOG_STEPS == 0 or last:
                scalars = meter.read() | {"learning_rate": run.schedule.get_last_lr()[0]}
                bar.set_postfix({name: f"{value:.3g}" for name, value in scalars.items()})
                accelerator.log(scalars, step)
            if validation_set is not None and (step % options.steps_between_validations == 0 or last):
                stale = validate(run, validation_set, step)
            stopping = any_process(accelerator, terminated.is_set() or stale)
            if step % options.checkpointing_steps == 0 or last or stopping:
                checkpoints.save(accelerator, options.output_dir, step, options.checkpoints_total_limit)
            if stopping:
                break
    finished = stale or step >= steps.stop
    if not finished:
        accelerator.print(f"SIGTERM: stopped after step {step}; resume with --resume_from_checkpoint latest")
    return step, finished, meter.summary()


def train_on_batch(run: Run, batch: Batch) -> Tensor:
    """Add one batch's gradients, and take an optimizer step when enough are accumulated; returns the loss, a scalar."""
    accelerator = run.accelerator
    with accelerator.accumulate(run.parts.unet, run.parts.text_encoder):
        with accelerator.autocast():
            loss = diffusion_loss(run.parts, run.uncond, batch, run.objective)
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(run.weights, run.options.max_grad_norm)
        run.optimizer.step()
        if accelerator.sync_gradients:
            run.schedule.step()
        run.optimizer.zero_grad()
    if accelerator.sync_gradients and run.ema is not None:
        run.ema.step(accelerator.unwrap_model(run.parts.unet).parameters())
    return loss.detach()


def make_loader(run: Run, examples: TrainingExamples, steps: range) -> DataLoader[Batch]:
    """The batches of these steps, in order; each process gets its own."""
    size = setup.examples_per_step(run.options, run.accelerator)
    loader: DataLoader[Batch] = DataLoader(
        Subset(examples, range(steps.start * size, steps.stop * size)),
        run.options.train_batch_size,
        num_workers=run.options.dataloader_num_workers,
        worker_init_fn=ignore_sigterm,
        pin_memory=torch.cuda.is_available(),
    )
    return run.accelerator.prepare(loader)


def validate(run: Run, validation_set: ValidationSet, step: int) -> bool:
    """Log losses at fixed noise and timesteps, and paint a few held-out pairs; returns whether to stop early.

    The main process does it and decides; the others go on until they have to wait for it.
    """
    options, accelerator = run.options, run.accelerator
    if not accelerator.is_main_process:
        return False
    parts = unwrapped_parts(run)
    with model.averaged_weights(parts.unet, run.ema):
        held_out, training = (
            validation.fixed_losses(parts, run.uncond, examples, options.train_batch_size)
            for examples in (validation_set.held_out, validation_set.training)
        )
        for line in run.progress.update(step, held_out, training):
            tqdm.write(line)
        accelerator.log(run.progress.scalars(), step)
        if options.num_validation_images > 0:
            how = (options.validation_prompt, options.num_validation_images, options.seed)
            rows = validation.paint_pairs(parts, run.facts, validation_set, *how)
            folder = options.output_dir / outputs.VALIDATION
            validation.save_paintings(rows, run.facts, folder, step, accelerator)
    patience = options.early_stopping_patience
    stale = patience is not None and run.progress.looks_since_best >= patience
    if stale:
        tqdm.write(f"stopping early: validation runs since the best held-out loss: {patience}")
    return stale


def unwrapped_parts(run: Run) -> model.Parts:
    """The model's parts without accelerate's wrapping."""
    unwrap = run.accelerator.unwrap_model
    return replace(run.parts, unet=unwrap(run.parts.unet), text_encoder=unwrap(run.parts.text_encoder))


def resume(run: Run) -> int:
    """Load the checkpoint that the options name; returns its step, 0 if there is nothing to resume from."""
    folder = run.options.output_dir
    checkpoint = checkpoints.find(folder, run.options.resume_from_checkpoint)
    if run.accelerator.is_main_process:
        checkpoints.remove_unfinished(folder)
    if checkpoint is None:
        return 0
    checkpoints.load(run.accelerator, checkpoint)
    run.accelerator.print(f"resumed from {checkpoint}")
    if run.ema is not None:
        run.ema.to(run.accelerator.device)  # its weights were loaded on the CPU
    return checkpoints.step_of(checkpoint)


def prepare_outputs(run: Run) -> None:
    """Print the settings that were chosen, save all as training.json, and open the repository and the trackers."""
    options, settings = run.options, run.options.public()
    if run.accelerator.is_main_process:
        if options.push_to_hub:
            hub.prepare_upload(options.model_name, "model", options.hub_token)
        files.make_folder(options.output_dir)
        files.save_json(options.output_dir / outputs.SETTINGS, settings)
        print("\n".join(f"{name}: {value}" for name, value in options.chosen().items()))
        print(f"all other settings are the defaults; {options.output_dir / outputs.SETTINGS} has all")
    run.accelerator.init_trackers(PROJECT, {name: str(value) for name, value in settings.items()})


def save_result(run: Run, result: TrainingResult, pairs: datasets.Dataset, before: Knowledge | None) -> None:
    """Write result.json and, if training is finished, the model in diffusers' layout with its facts and a card."""
    options, record = run.options, result.as_json()
    files.save_json(options.output_dir / outputs.RESULT, record)
    if not result.finished:
        return
    parts = unwrapped_parts(run)
    with model.averaged_weights(parts.unet, run.ema):
        half, base = options.save_precision == "fp16", options.pretrained_model_name_or_path
        model.save(parts, run.facts, options.output_dir, half, base)
    save_knowledge(options.output_dir, setup.knowledge(pairs, options, before))
    model.save_card(options.output_dir, options.model_name, run.facts, options.public(), record)
    print(f"saved {options.output_dir}")


def upload(options: TrainOptions) -> None:
    """Upload the model to its repository."""
    ignore = outputs.not_uploaded(options)
    url = hub.upload_folder(options.output_dir, options.model_name, "model", token=options.hub_token, ignore=ignore)
    print(f"uploaded to {url}")
