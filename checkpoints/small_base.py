"""Make the base of the small model: a text-to-picture checkpoint in diffusers' layout, small enough for two cores.

    python checkpoints/small_base.py --train_data_dir build/pairs/train --output_dir build/small-base

The tokenizer learns its vocabulary from the instructions, the autoencoder from crops of the pictures. The text encoder
and the UNet start at random: train_instruct_pix2pix.py trains them.
"""

import argparse
import random
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from riffusion import instructions, model, report
from riffusion.errors import UserError
from riffusion.pair import METADATA
from riffusion.runtime import run_script

LATENT_CHANNELS = 16
GUIDANCE, IMAGE_GUIDANCE = 2.0, 2.5  # what the trained model is to be sampled with
KL_WEIGHT = 1e-5
FIRST_LOG_VARIANCE = -6.0  # at 0 the posterior's noise drowns the latents, and the decoder learns to do without them


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_data_dir", type=Path, required=True, help="folder with pairs, at any depth")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--autoencoder_steps", type=int, default=2800, help="training steps (default: 2800)")
    parser.add_argument("--crop", type=int, default=128, help="width and height of a crop in pixels (default: 128)")
    parser.add_argument("--batch_size", type=int, default=4, help="crops a step (default: 4)")
    parser.add_argument("--learning_rate", type=float, default=2e-3, help="peak of a one-cycle schedule")
    parser.add_argument("--max_pictures", type=int, default=3000, help="pictures held in memory (default: 3000)")
    parser.add_argument("--vocabulary", type=int, default=1000, help="tokens of the tokenizer (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the crops (default: 0)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    torch.manual_seed(args.seed)
    pictures = load_pictures(args)
    tokenizer = make_tokenizer(args)
    text_encoder = make_text_encoder(tokenizer)
    vae = make_autoencoder(pictures.shape[-1])
    train_autoencoder(vae, pictures, args)
    standardise_latents(vae, pictures)
    print(f"autoencoder: {round_trip_error(vae, pictures):.2f} grey levels rms on pictures it was trained on")
    pipeline = StableDiffusionPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        unet=make_unet(vae, text_encoder),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(args.output_dir)
    model.save_facts(args.output_dir, model.ModelFacts(guidance_scale=GUIDANCE, image_guidance_scale=IMAGE_GUIDANCE))
    report.save_json(args.output_dir / "small_base.json", vars(args))
    return 0


def load_pictures(args: argparse.Namespace) -> np.ndarray:
    """A random choice of the folder's pictures, uint8 (pictures, height, width)."""
    paths = sorted(args.train_data_dir.rglob("*.png"))
    if not paths:
        raise UserError(f"{args.train_data_dir}: holds no pictures; make them with preprocess_musdb.py")
    chosen = random.Random(args.seed).sample(paths, min(len(paths), args.max_pictures))
    return np.stack([np.asarray(Image.open(path).convert("L")) for path in tqdm(chosen, desc="reading pictures")])


def make_tokenizer(args: argparse.Namespace) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer with a vocabulary of the dataset's instructions; unknown words are spelt."""
    specials = ["<|startoftext|>", "<|endoftext|>"]
    bpe = Tokenizer(models.BPE(unk_token=specials[1], end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=args.vocabulary,
        special_tokens=specials,
        end_of_word_suffix="</w>",
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(instruction_texts(args.train_data_dir), trainer)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = bpe.model.save(str(args.output_dir))
    tokenizer = CLIPTokenizer(vocabulary, merges, model_max_length=77)
    for path in (vocabulary, merges):
        Path(path).unlink()
    return tokenizer


def instruction_texts(folder: Path) -> list[str]:
    """Everything written in the folder's records, and every word that our own labels and templates can write."""
    records = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob(METADATA))]
    own = [path.read_text(encoding="utf-8") for path in sorted(instructions.PROMPTS.iterdir())]
    return [*records, *own]


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text encoder of two layers, 256 wide."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def make_autoencoder(sample_size: int) -> AutoencoderKL:
    """Pictures to latents 16 times smaller a side: (3, 512, 512) -> (16, 32, 32)."""
    widths = (16, 16, 48, 96, 128)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=sample_size,
        scaling_factor=1.0,
    )
    nn.init.constant_(vae.quant_conv.bias[LATENT_CHANNELS:], FIRST_LOG_VARIANCE)
    return vae


def make_unet(vae: AutoencoderKL, text_encoder: CLIPTextModel) -> UNet2DConditionModel:
    """A UNet of 17 M parameters on the autoencoder's latents, attention at half and a quarter of their size."""
    return UNet2DConditionModel(
        sample_size=vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1),
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 256),
        layers_per_block=1,
        cross_attention_dim=text_encoder.config.hidden_size,
        norm_num_groups=16,
    )


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's betas down to zero signal (arXiv 2305.08891), predicting velocity (arXiv 2202.00512)."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )


def train_autoencoder(vae: AutoencoderKL, pictures: np.ndarray, args: argparse.Namespace) -> None:
    """Mean squared error on random crops, with a slight pull of the posterior to a unit normal."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=args.learning_rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.learning_rate, total_steps=args.autoencoder_steps, pct_start=0.1
    )
    rng = np.random.default_rng(args.seed)
    with tqdm(range(args.autoencoder_steps), desc="autoencoder", unit="step") as progress:
        for _ in progress:
            crops = random_crops(pictures, args.batch_size, args.crop, rng)
            posterior = vae.encode(crops).latent_dist
            error = nn.functional.mse_loss(vae.decode(posterior.sample()).sample, crops)
            kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
            (error + KL_WEIGHT * kl).backward()
            nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            progress.set_postfix(grey_levels=f"{127.5 * error.item() ** 0.5:.2f}", kl=f"{kl.item():.2f}")


def random_crops(pictures: np.ndarray, count: int, crop: int, rng: np.random.Generator) -> Tensor:
    """Crops of random pictures as the autoencoder takes them: float32 (count, 3, crop, crop) in [-1, 1]."""
    _, height, width = pictures.shape
    crop_height, crop_width = min(crop, height), min(crop, width)
    crops = []
    for picture in rng.integers(len(pictures), size=count):
        top, left = rng.integers(height - crop_height + 1), rng.integers(width - crop_width + 1)
        crops.append(pictures[picture, top : top + crop_height, left : left + crop_width])
    grey = torch.from_numpy(np.stack(crops).astype(np.float32)) / 127.5 - 1
    return grey[:, None].expand(-1, 3, -1, -1)


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, pictures: np.ndarray) -> None:
    """Fold each latent channel's mean and spread into the layers around it, so that latents have mean 0 and spread 1.

    The autoencoder stays the same function. Diffusion wants unit spread, and InstructPix2Pix's condition, which is
    never scaled, then has the size of the noise.
    """
    latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in whole_pictures(pictures, 64)])
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    moments, back = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    back.bias += torch.einsum("oi,i->o", back.weight[:, :, 0, 0], mean)
    back.weight *= spread[None, :, None, None]
    moments.bias[:channels] = (moments.bias[:channels] - mean) / spread
    moments.weight[:channels] /= spread[:, None, None, None]
    moments.bias[channels:] -= 2 * spread.log()  # the other half is the log of the variance


def whole_pictures(pictures: np.ndarray, count: int) -> list[Tensor]:
    """The first pictures, one a batch."""
    return [
        random_crops(picture[None], 1, max(picture.shape), np.random.default_rng(0)) for picture in pictures[:count]
    ]


@torch.no_grad()
def round_trip_error(vae: AutoencoderKL, pictures: np.ndarray) -> float:
    """Root mean square error of whole pictures through the autoencoder, in grey levels."""
    batches = whole_pictures(pictures, 32)
    errors = [(vae.decode(vae.encode(batch).latent_dist.mode()).sample - batch).square().mean() for batch in batches]
    return 127.5 * float(torch.stack(errors).mean().sqrt())


if __name__ == "__main__":
    run_script(main, parse_args())
