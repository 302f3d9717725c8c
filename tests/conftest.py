"""Songs made of tones, pairs of noise, and a model small enough to train in a second."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from whole_songs import load_stems

from riffusion import audio
from riffusion.diffusion import model
from riffusion.pairs import stems
from riffusion.pairs.pair import METADATA
from riffusion.spectrogram import SpectrogramParams

# Threads that wait for each other cost tiny models more than they bring, here and in the processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

RATE = 44100
TINY_CLIP = ["--frame_len_seconds", "0.63"]  # 64 frames: pictures of 512 x 64


def tone(frequency: float, seconds: float, level: float = 0.2) -> np.ndarray:
    """A harmonic tone (1, samples) that swells twice a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    harmonics = sum(np.sin(2 * np.pi * frequency * k * time) / k for k in range(1, 6))
    return (level * harmonics * (0.6 + 0.4 * np.sin(4 * np.pi * time)))[None].astype(np.float32)


def write_song(folder: Path, seconds: float = 3.0, **replaced: np.ndarray) -> Path:
    """A song folder of four wav stems; a keyword replaces the stem of that name."""
    folder.mkdir(parents=True)
    parts = {"vocals": 330.0, "bass": 82.4, "drums": 1200.0, "other": 220.0}
    for name, frequency in parts.items():
        signal = replaced.get(name, tone(frequency, seconds))
        audio.save_wav(folder / f"{name}.wav", signal, RATE)
    return folder


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder of two songs."""
    for name in ("Band - First", "Band - Second"):
        write_song(tmp_path / "songs" / name)
    return tmp_path / "songs"


@pytest.fixture(scope="session")
def excerpt() -> dict[str, np.ndarray]:
    """The stems of the MUSDB18 excerpt that stempeg carries, read as MUSDB18 is."""
    return load_stems(stems.example_song())


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-picture checkpoint of a few thousand random weights, in diffusers' layout."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-base")
    tokenizer = tiny_tokenizer(folder)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=512,
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
    )
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(config),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with letters alone."""
    specials = ["<|startoftext|>", "<|endoftext|>"]
    letters = Tokenizer(models.BPE(unk_token=specials[1], end_of_word_suffix="</w>", continuing_subword_prefix=""))
    letters.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(special_tokens=specials, end_of_word_suffix="</w>", show_progress=False)
    letters.train_from_iterator(["add a vocal to the quick brown fox jumping over lazy dogs"], trainer)
    vocabulary, merges = letters.model.save(str(folder))
    return CLIPTokenizer(vocabulary, merges, model_max_length=16)


@pytest.fixture(scope="session")
def tiny_models(tiny_base, tmp_path_factory) -> dict[str, Path]:
    """Untrained InstructPix2Pix models with clips of 0.63 s, one for each target."""
    parts = model.load_parts(str(tiny_base))
    torch.manual_seed(0)
    model.widen_conv_in(parts.unet, 4)
    folders = {target: tmp_path_factory.mktemp(f"tiny-{target}") for target in ("stem", "mix")}
    for target, folder in folders.items():
        model.pipeline_from_parts(parts).save_pretrained(folder)
        model.save_facts(folder, model.ModelFacts(target, SpectrogramParams(num_frames=64), 2.0, 1.2))
    return folders


def write_picture(path: Path, seed: int = 0, width: int = 64, tags: dict | None = None, mode: str = "L") -> Path:
    """A picture of noise, 512 pixels high, in the format of the name's ending; without `tags` it has Riffusion's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(seed).integers(100, 256, (512, width), dtype=np.uint8)
    image = Image.fromarray(grey).convert(mode)
    exif = Image.Exif()
    exif.update(SpectrogramParams().to_exif(100.0) if tags is None else tags)
    image.save(path, **({"exif": exif} if exif else {}))
    return path


def write_pair_folder(folder: Path, count: int = 3, width: int = 64, **facts: object) -> Path:
    """A song's folder as preprocessing writes it: metadata.jsonl, and two PNGs a pair."""
    records = []
    for number in range(count):
        names = f"{number}_in.png", f"{number}_out.png"
        for seed, name in enumerate(names):
            write_picture(folder / name, 2 * number + seed, width)
        record = {"original_image_file_name": names[0], "edited_image_file_name": names[1], "original_prompt": "a song"}
        record |= {"edit_prompt": f"add a vocal {number}", "edited_prompt": "a song with vocals", "song": folder.name}
        records.append(record | {"task": "add", "painted_stem": "vocals", "target": "stem"} | facts)
    (folder / METADATA).write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def write_original_folder(folder: Path, count: int = 3, width: int = 64, ending: str = "jpg") -> Path:
    """What the original project's preprocessing writes: JPEGs in two folders, tags on the scale of int16, one file."""
    tags = SpectrogramParams().to_exif(22182148.0) if ending == "jpg" else {}
    records = []
    for number in range(count):
        names = [f"{kind}/s{number}_f0_e0.{ending}" for kind in ("input_image", "edited_image")]
        for seed, name in enumerate(names):
            write_picture(folder / name, 2 * number + seed, width, tags, "RGB" if ending == "jpg" else "L")
        prompt = f"add a male vocal soft rock melody, number {number}."
        records.append(dict(zip(("input_file_path", "edited_file_path", "edit_prompt"), (*names, prompt), strict=True)))
    (folder / METADATA).write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def pair_dataset(count: int = 3) -> Dataset:
    """Pairs that share one original."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (512, 64), dtype=np.uint8)) for _ in range(count + 1)]
    edits = {"edited_image": pictures[1:], "edit_prompt": [f"add a {number}" for number in range(count)]}
    return Dataset.from_dict({"original_image": pictures[:1] * count, **edits})


def cut(path: Path, share: float = 0.5) -> Path:
    """Cut a file short."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
