"""Fine-tune a text-to-image checkpoint to follow instructions (InstructPix2Pix, arXiv 2211.09800).

    accelerate launch train_instruct_pix2pix.py --train_data_dir /data/musdb18-pix2pix/train \\
        --output_dir /data/pix2pix-riff-ckpt --max_train_steps 300000 --train_batch_size 4

Writes checkpoint-STEP folders as it goes and, at the end, a model that StableDiffusionInstructPix2PixPipeline loads.
"""

import argparse
from pathlib import Path

from riffusion.training.options import LR_SCHEDULES, TrainOptions
from riffusion.util.flags import CONFIG_HELP, MODEL_HELP, Help, at_least, probability
from riffusion.util.runtime import run_script


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked; their defaults are those of `TrainOptions`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    count, add = at_least(1), parser.add_argument_group("model").add_argument
    add("--pretrained_model_name_or_path", help=f"what to start from: {MODEL_HELP}")
    add("--model_config", metavar="FOLDER", help=CONFIG_HELP)
    add("--revision", help="revision of that Hub model (default: its main branch)")
    add("--variant", help='variant of its weight files, such as "fp16" (default: the plain ones)')
    add("--cache_dir", type=Path, help="where downloads are kept (default: the Hub's own cache)")
    add("--train_text_encoder", action="store_true", help="train the text encoder too; for small models")
    add(
        "--lora_rank",
        type=count,
        help="train low-rank updates of the attention only, then merge (default: all weights)",
    )
    add(
        "--prediction_type",
        choices=["epsilon", "v_prediction"],
        help="what the UNet predicts (default: the model's own)",
    )
    add("--rescale_betas_zero_snr", action="store_true", help="rescale the noise schedule to zero terminal SNR")
    add("--use_ema", action="store_true", help="save a moving average of the UNet's weights")
    add("--ema_decay", type=float, help="maximum EMA decay; (1 + t) / (10 + t) at step t until then")

    add = parser.add_argument_group("data").add_argument
    add("--dataset_name", help="dataset on the Hub, or a folder")
    add("--train_data_dir", type=Path, help="preprocess_musdb.py's output; overrides --dataset_name (default: none)")
    add("--original_image_column", help="column of the input picture")
    add("--edited_image_column", help="column of the target picture")
    add("--edit_prompt_column", help="column of the instruction")
    add("--max_train_samples", type=count, help="train on only this many pairs, chosen at random (default: all)")
    add("--resolution", type=int, help="height of the pictures in pixels; they are never resized")
    add("--dataloader_num_workers", type=int, help="worker processes per GPU")
    add("--no_cache", action="store_true", help="encode pictures and instructions at every step instead of once")
    add("--latents_dir", type=Path, help="folder of the encoded pairs, to share between runs (default: --output_dir)")

    add = parser.add_argument_group("training").add_argument
    add("--output_dir", type=Path, help="where checkpoints and the model go")
    add("--seed", type=at_least(0), help="seed of everything random")
    add("--train_batch_size", type=count, help="batch size per process")
    add("--num_train_epochs", type=count, help="passes over the pairs, unless --max_train_steps is given")
    add("--max_train_steps", type=count, help="optimizer steps (default: as many as --num_train_epochs takes)")
    add("--gradient_accumulation_steps", type=count, help="batches per optimizer step")
    add("--gradient_checkpointing", action="store_true", help="use less memory and more time")
    add("--learning_rate", type=float, help="peak learning rate")
    add("--scale_lr", action="store_true", help="multiply the learning rate by batch size, accumulation and processes")
    add("--lr_scheduler", choices=LR_SCHEDULES, help="learning rate schedule")
    add("--lr_warmup_steps", type=int, help="warm-up steps, for schedules that have them")
    add("--conditioning_dropout_prob", type=float, help="probability of dropping the text, the image, or both, each")
    add(
        "--image_dropout_prob",
        type=probability,
        help="probability of dropping the image alone (default: --conditioning_dropout_prob)",
    )
    add("--snr_gamma", type=float, help="weigh noise levels by min-SNR-gamma; 5 in the paper (default: no weights)")
    add(
        "--timestep_shift",
        type=float,
        help="shift towards noisier timesteps, where the text decides; 1 shifts nothing, SD3 uses 3",
    )
    add("--timestep_shift_share", type=probability, help="share of the examples whose noise is shifted")
    add("--stratified_timesteps", action="store_true", help="spread the timesteps of a batch evenly")
    add("--crop_frames", type=count, help="train on this many frames of each picture, cut at random (default: all)")
    add("--offset_noise", type=float, help="strength of noise that is constant per latent channel")
    add("--changed_region_weight", type=float, help="weight of errors where the pair differs")
    add("--use_8bit_adam", action="store_true", help="use the 8-bit Adam of bitsandbytes")
    add("--adam_beta1", type=float, help="Adam's first decay")
    add("--adam_beta2", type=float, help="Adam's second decay")
    add("--adam_weight_decay", type=float, help="Adam's weight decay")
    add("--adam_epsilon", type=float, help="Adam's epsilon")
    add("--max_grad_norm", type=float, help="gradients are clipped to this norm")
    add(
        "--mixed_precision",
        choices=["no", "fp16", "bf16"],
        help="default: what `accelerate config` says; without a launcher bf16 on a CPU that computes in it",
    )
    add("--allow_tf32", action="store_true", help="TF32 matrix products on Ampere and newer GPUs")
    add("--compile", action="store_true", help="torch.compile the UNet: a slow first step, then faster ones")
    add(
        "--enable_xformers_memory_efficient_attention",
        action="store_true",
        help="use xformers instead of torch's own attention; it comes with requirements-gpu.txt",
    )

    add = parser.add_argument_group("checkpoints and reports").add_argument
    add("--checkpointing_steps", type=count, help="steps between checkpoints")
    add("--checkpoints_total_limit", type=count, help="keep only the N newest complete checkpoints (default: all)")
    add("--resume_from_checkpoint", help='checkpoint folder in --output_dir, or "latest" (default: start from scratch)')
    add("--save_precision", choices=["fp32", "fp16"], help="precision of the saved model")
    add("--report_to", choices=["tensorboard", "wandb", "none"], help="logging backend")
    add("--logging_dir", type=Path, help="folder of its logs inside --output_dir")
    add("--validation_steps", type=count, help="steps between validation runs (default: --checkpointing_steps)")
    add(
        "--early_stopping_patience",
        type=count,
        help="stop after this many validation runs without improvement (default: never)",
    )
    add("--validation_prompt", help="edit the held-out images with this instruction (default: their own)")
    add("--num_validation_images", type=int, help="held-out images painted in each validation run")
    add("--push_to_hub", action="store_true", help="upload the model when training is done")
    add("--hub_token", help="access token (default: the one that huggingface_hub knows)")
    add("--hub_model_id", help="repository to upload to (default: the output folder's name)")
    parser.set_defaults(**vars(TrainOptions()))
    args = parser.parse_args(argv)
    if not 0 <= args.conditioning_dropout_prob <= 1 / 3:
        parser.error("--conditioning_dropout_prob must be between 0 and 1/3: it drops the text, the image, or both")
    for name in ("changed_region_weight", "snr_gamma", "timestep_shift"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            parser.error(f"--{name} must be above 0")
    return args


def main(args: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    from riffusion.diffusion.model_files import check_model

    options = TrainOptions(**vars(args))
    base, config = options.pretrained_model_name_or_path, options.model_config
    check_model(base, options.revision, options.cache_dir, config)  # before what takes seconds to import
    from riffusion.training.loop import train

    train(options)
    return 0


if __name__ == "__main__":
    run_script(main, parse_args())
