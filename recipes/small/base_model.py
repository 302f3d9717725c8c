"""Make the base of the small model: a text-to-picture checkpoint in diffusers' layout, small enough for two cores.

    python recipes/small/base_model.py --train_data_dir build/pairs/train --output_dir build/base

The tokenizer learns its vocabulary from the instructions, the autoencoder from crops of the pictures. The text encoder
and the UNet start at random: train_instruct_pix2pix.py trains them.
"""

import argparse
import random
import sys
from pathlib import Path

import autoencoder
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from riffusion.diffusion import model
from riffusion.diffusion.encode import latent_factor
from riffusion.pairs import instructions
from riffusion.pairs.pair import METADATA
from riffusion.util import files
from riffusion.util.errors import UserError
from riffusion.util.flags import Help
from riffusion.util.runtime import run_script

UNETS = {8: (2, (64, 128, 192, 256)), 16: (1, (96, 160, 256))}  # by latent factor: levels without attention, widths
GUIDANCE, IMAGE_GUIDANCE = 3.0, 1.5  # what the trained model is to be sampled with


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("--train_data_dir", type=Path, required=True, help="folder with pairs, at any depth")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument(
        "--latent_factor",
        type=int,
        choices=autoencoder.LAYOUTS,
        default=8,
        help="pixels that a latent is wide and high (default: 8)",
    )
    parser.add_argument(
        "--latent_evenness",
        type=float,
        default=0.5,
        help="power of its own spread that each latent channel is divided by, from 0 to 1 (default: 0.5)",
    )
    parser.add_argument("--autoencoder_steps", type=int, default=2400, help="training steps (default: 2400)")
    parser.add_argument("--crop", type=int, default=128, help="width and height of a crop in pixels (default: 128)")
    parser.add_argument("--batch_size", type=int, default=4, help="crops a step (default: 4)")
    parser.add_argument("--learning_rate", type=float, default=3e-4, help="peak of a one-cycle schedule")
    parser.add_argument("--max_pictures", type=int, default=3000, help="pictures held in memory (default: 3000)")
    parser.add_argument("--vocabulary", type=int, default=1000, help="tokens of the tokenizer (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the crops (default: 0)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Make the checkpoint; returns the exit code."""
    torch.manual_seed(args.seed)
    pictures = load_pictures(args.train_data_dir, args.max_pictures, args.seed)
    tokenizer = make_tokenizer(args.train_data_dir, args.vocabulary, args.output_dir)
    training = autoencoder.Training(
        steps=args.autoencoder_steps,
        crop=args.crop,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        seed=args.seed,
        state=args.output_dir / "autoencoder.pt",
    )
    text_encoder = make_text_encoder(tokenizer)
    vae = autoencoder.make_autoencoder(pictures.shape[-1], args.latent_factor)
    autoencoder.start_from_components(vae, pictures)
    autoencoder.train_autoencoder(vae, pictures, training)
    autoencoder.standardise_latents(vae, pictures, args.latent_evenness)
    error = autoencoder.round_trip_error(vae, pictures)
    print(f"autoencoder: {error:.2f} grey levels rms on pictures it was trained on")
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
    files.save_json(args.output_dir / "base_model.json", vars(args))
    training.state.unlink(missing_ok=True)
    return 0


def load_pictures(folder: Path, most: int, seed: int) -> np.ndarray:
    """A random choice of at most so many of the folder's pictures, uint8 (pictures, height, width)."""
    paths = sorted(folder.rglob("*.png"))
    if not paths:
        raise UserError(f"{folder}: contains no pictures; make them with preprocess_musdb.py")
    chosen = random.Random(seed).sample(paths, min(len(paths), most))
    return np.stack([np.asarray(Image.open(path).convert("L")) for path in tqdm(chosen, desc="reading pictures")])


def make_tokenizer(pairs: Path, tokens: int, output_dir: Path) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer with so many tokens, from the pairs' instructions; unknown words are spelt."""
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
        vocab_size=tokens,
        special_tokens=specials,
        end_of_word_suffix="</w>",
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(instruction_texts(pairs), trainer)
    output_dir.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = bpe.model.save(str(output_dir))
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


def make_unet(vae: AutoencoderKL, text_encoder: CLIPTextModel) -> UNet2DConditionModel:
    """A UNet of about 20 M parameters on the autoencoder's latents, attention where they are 16 and 8 wide."""
    factor = latent_factor(vae)
    plain, widths = UNETS[factor]
    attending = len(widths) - plain
    return UNet2DConditionModel(
        sample_size=vae.config.sample_size // factor,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * attending,
        up_block_types=("CrossAttnUpBlock2D",) * attending + ("UpBlock2D",) * plain,
        block_out_channels=widths,
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


if __name__ == "__main__":
    run_script(main, parse_args())
