"""The model's parts: loading them, widening the UNet for its second picture, and what the model says of itself."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from huggingface_hub import ModelCardData
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from riffusion.diffusion import lora
from riffusion.diffusion.lora import has_lora, is_lora
from riffusion.diffusion.model_files import (
    check_folder,
    check_single_file,
    find_file,
    is_single_file,
    refuse_other_kinds,
    unavailable,
)
from riffusion.diffusion.single_file import load_single_file
from riffusion.spectrogram import SpectrogramParams
from riffusion.util import files, hub, tables
from riffusion.util.disk_space import writing
from riffusion.util.errors import UserError
from riffusion.util.runtime import only_download_bars

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel

FACTS_FILE = "riffusion.json"  # beside model_index.json
KNOWLEDGE_FILE = "knowledge.json"  # beside it: what the model was trained on
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class ModelFacts:
    """What inference must know of a model beyond its weights; the defaults are the original's."""

    target: str = "mix"
    params: SpectrogramParams = SpectrogramParams()
    guidance_scale: float = 15.0
    image_guidance_scale: float = 1.5


@dataclass
class Parts:
    """The five parts of a latent diffusion checkpoint in diffusers' layout."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    noise_scheduler: DDPMScheduler


def save_facts(folder: Path, facts: ModelFacts) -> None:
    """Write the facts beside the model."""
    files.save_json(folder / FACTS_FILE, asdict(facts))


def load_facts(
    model_id: str, revision: str | None = None, cache_dir: Path | None = None, config: str | None = None
) -> ModelFacts:
    """The facts of a model; those of a single file lie in the folder of its settings, or beside it.

    A model without them is taken for one of the original's.
    """
    path = find_file(config or model_id if is_single_file(model_id) else model_id, FACTS_FILE, revision, cache_dir)
    if path is None:
        return ModelFacts()
    values = files.load_json(path)
    try:
        return ModelFacts(**values | {"params": SpectrogramParams(**values["params"])})
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a description of a model ({error})") from error


def digest(model_id: str) -> str | None:
    """SHA-256 of a model's weights and settings here; None of a model on the Hub, whose name says which one it is."""
    folder = Path(model_id)
    patterns = ["*/*.safetensors", "*/*.json", "*.json", *(["*.safetensors"] if is_lora(model_id) else [])]
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    files = [path for path in files if path != folder / KNOWLEDGE_FILE]  # which shapes no result
    if is_single_file(model_id) and folder.is_file():
        folder, files = folder.parent, [folder]
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)}".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_parts(
    name: str,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: Path | None = None,
    config: str | None = None,
) -> Parts:
    """Parts of a checkpoint, weights in float32. Raises UserError if one can't be had.

    A checkpoint is a folder, a Hub model, a single file (`config` as in `load_single_file`) or a folder of low-rank
    updates, which come merged into their base.
    """
    if is_single_file(name):
        return parts_of(_load_file(Path(name), config))
    if is_lora(name):
        parts = load_parts(lora.base_of(Path(name)), cache_dir=cache_dir, config=config)
        take_condition(parts)
        lora.apply_lora(pipeline_from_parts(parts), Path(name))
        return parts

    def load(kind: Any, folder: str, **options: object) -> Any:
        options |= {"subfolder": folder, "revision": revision, "cache_dir": cache_dir}
        return _load(name, lambda: kind.from_pretrained(name, **options), revision, cache_dir)

    return Parts(
        tokenizer=load(CLIPTokenizer, "tokenizer"),
        text_encoder=load(CLIPTextModel, "text_encoder", variant=variant, dtype=torch.float32),
        vae=load(AutoencoderKL, "vae", variant=variant).to(memory_format=torch.channels_last),  # a fifth faster
        unet=load(UNet2DConditionModel, "unet", variant=variant),
        noise_scheduler=load(DDPMScheduler, "scheduler"),
    )


def parts_of(pipeline: StableDiffusionInstructPix2PixPipeline) -> Parts:
    """A pipeline's parts, with the noise schedule that it was trained with."""
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    return Parts(pipeline.tokenizer, pipeline.text_encoder, pipeline.vae, pipeline.unet, schedule)


def pipeline_from_parts(parts: Parts) -> StableDiffusionInstructPix2PixPipeline:
    """The parts as a pipeline that samples by DDIM, which needs few steps and draws no noise of its own."""
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=DDIMScheduler.from_config(parts.noise_scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_pipeline(
    model_id: str, device: str, dtype: torch.dtype, config: str | None = None
) -> StableDiffusionInstructPix2PixPipeline:
    """An InstructPix2Pix pipeline ready to sample, of any checkpoint that `load_parts` takes.

    Raises UserError if the model can't be had.
    """
    if is_single_file(model_id) or is_lora(model_id):
        pipeline = pipeline_from_parts(load_parts(model_id, config=config)).to(dtype)
    else:
        pipeline = _load(
            model_id,
            lambda: StableDiffusionInstructPix2PixPipeline.from_pretrained(
                model_id, dtype=dtype, safety_checker=None, requires_safety_checker=False
            ),
        )
    needed, latents = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if needed != 2 * latents:
        raise UserError(
            f"{model_id}: its UNet takes {needed} channels where InstructPix2Pix has {2 * latents}; "
            "train it first with train_instruct_pix2pix.py"
        )
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)  # a sixth faster on a CPU, and what a GPU's convolutions want
    return pipeline.to(device)


def _load(name: str, load: Callable[[], Loaded], revision: str | None = None, cache_dir: Path | None = None) -> Loaded:
    check_folder(name)
    if not Path(name).is_dir():
        hub.go_offline_without_network()
    try:
        with warnings.catch_warnings(action="ignore"):  # of arguments that diffusers passes on to the Hub's client
            index = DiffusionPipeline.load_config(name, revision=revision, cache_dir=cache_dir)
        refuse_other_kinds(name, index)
        with only_download_bars():
            return load()
    except UserError:
        raise
    except hub.HUB_ERRORS as error:
        if Path(name).is_dir():
            raise UserError(f"{name}: not a model in diffusers' layout ({_first_line(error)})") from error
        raise unavailable(name) from error


def _load_file(path: Path, config: str | None) -> StableDiffusionInstructPix2PixPipeline:
    check_single_file(path, config)
    if config is None:
        hub.go_offline_without_network()
    try:
        with only_download_bars():
            return load_single_file(path, config)
    except UserError:
        raise
    except (*hub.HUB_ERRORS, NotImplementedError, RuntimeError) as error:  # the latter of weights that are missing
        if config is None:
            advice = "the settings of a model in one file come from the Hub; without it pass --model_config FOLDER"
        else:
            advice = f"its weights don't fit the settings in {config}"
        raise UserError(f"{path}: {advice} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def save(parts: Parts, facts: ModelFacts, folder: Path, half: bool, base: str = "") -> None:
    """Write a model in diffusers' layout with its facts, in half precision or as it is.

    Low-rank updates are written to a folder `lora` too, with the name of their base, and added to the weights that they
    update, so that the UNet loads like any other. Raises UserError if it can't be written, as on a full disk.
    """
    if has_lora(parts.unet):
        with writing(folder / lora.FOLDER):
            lora.save_lora(parts.unet, base, folder / lora.FOLDER)
        save_facts(folder / lora.FOLDER, facts)
        lora.merge_lora(parts.unet)
    pipeline = pipeline_from_parts(parts)
    if half:
        pipeline.to(torch.float16)
    for part in (parts.unet, parts.vae):
        base = part.config.get("_name_or_path", "")
        part.register_to_config(_name_or_path=files.without_folders(base))  # people publish what is saved
    try:
        with only_download_bars():
            pipeline.save_pretrained(folder)
        save_facts(folder, facts)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: the model can't be written ({_first_line(error)})") from error


def published(value: object) -> str:
    """A figure or setting as a card shows it: a loss has more digits than a measurement in a table."""
    is_figure = isinstance(value, float) and len(str(value)) > len(f"{value:.4g}")
    return f"{value:.4g}" if is_figure else files.without_folders(value)


def save_card(folder: Path, name: str, facts: ModelFacts, settings: dict, figures: dict) -> None:
    """Write README.md, the Hub's model card: what the model was made of, with which settings, and what came of it.

    `settings` are the training script's; `name` is the repository's or folder's.
    """
    base, dataset = settings["pretrained_model_name_or_path"], settings.get("dataset_name")
    card = ModelCardData(
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=["audio", "music", "spectrogram", "instruct-pix2pix", "riffusion"],
        base_model=None if Path(base).exists() else base,
        datasets=None if dataset is None or Path(dataset).exists() else [dataset],
    )
    known = {key: value for key, value in (figures | settings).items() if not tables.is_absent(value)}
    rows: list[dict[str, object]] = [{"setting": key, "value": published(value)} for key, value in known.items()]
    text = f"""---
{card.to_yaml()}
---

# {name}

Paints a part into music by instruction: an InstructPix2Pix model that reads the mel spectrogram of a clip of
{facts.params.clip_samples / facts.params.sample_rate:.2f} s and a sentence. Its edited pictures show the
{facts.target}.
`riffusion.json` holds the spectrogram's parameters and the guidance it is meant for.

    python inference_instruct_pix2pix.py --model_id {name} --audio song.mp3 --prompt "add a female vocal" --seed

{tables.markdown_table(rows)}
"""
    files.write_atomically(folder / "README.md", text)


def take_condition(parts: Parts) -> None:
    """Let the UNet take a second picture, unless it does already. Raises UserError if it takes something else."""
    channels, taken = parts.vae.config.latent_channels, parts.unet.config.in_channels
    if taken == channels:
        widen_conv_in(parts.unet, channels)
    elif taken != 2 * channels:
        raise UserError(f"the UNet takes {taken} channels, the autoencoder makes {channels}")


def widen_conv_in(unet: UNet2DConditionModel, condition_channels: int) -> None:
    """Let the UNet see a condition beside the noisy latents (InstructPix2Pix, section 3.2).

    The first layer keeps its weight and bias; the new channels start at zero, so that the widened UNet equals the
    old one whatever the condition.
    """
    old = unet.conv_in
    channels = old.in_channels + condition_channels
    new = nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        new.load_state_dict({"weight": new.weight, "bias": old.bias})
    unet.conv_in = new.to(old.weight)
    unet.register_to_config(in_channels=channels)


@contextmanager
def averaged_weights(unet: UNet2DConditionModel, average: "EMAModel | None") -> Iterator[None]:
    """The UNet with a moving average for weights, if there is one, and with its own again afterwards."""
    if average is None:
        yield
        return
    weights = list(unet.parameters())  # saving may leave the UNet with fewer
    average.store(weights)
    average.copy_to(weights)
    try:
        yield
    finally:
        average.restore(weights)


def use_xformers(unet: UNet2DConditionModel) -> None:
    """Let xformers compute the attention. Raises UserError if it isn't installed, or can't on this machine."""
    flag = "--enable_xformers_memory_efficient_attention"
    try:
        unet.enable_xformers_memory_efficient_attention()
    except (ImportError, NotImplementedError) as error:  # not there, or built for another torch
        raise UserError(
            f"{flag} needs xformers and the torch that it is built for: pip install -r requirements-gpu.txt; "
            "without the flag torch's own attention is used"
        ) from error
    except ValueError as error:
        raise UserError(f"{flag}: {_first_line(error)}") from error


def change_schedule(parts: Parts, prediction_type: str | None, zero_terminal_snr: bool) -> None:
    """Let the UNet learn another prediction, or from pure noise on (zero terminal SNR, arXiv 2305.08891).

    Raises UserError where a UNet predicting noise would start from nothing but noise: there it has nothing to learn.
    """
    config = parts.noise_scheduler.config
    changes: dict[str, object] = {"prediction_type": prediction_type or config.prediction_type}
    if zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    parts.noise_scheduler = DDPMScheduler.from_config(config, **changes)
    if parts.noise_scheduler.config.rescale_betas_zero_snr and changes["prediction_type"] == "epsilon":
        raise UserError(
            "zero terminal SNR needs --prediction_type v_prediction: predicting noise there teaches nothing"
        )


def make_optimizer(weights: list[nn.Parameter], settings: dict[str, Any], use_8bit_adam: bool) -> torch.optim.Optimizer:
    """AdamW with its `settings`, fused, or the 8-bit one of bitsandbytes. Raises UserError if that is missing."""
    if not use_8bit_adam:
        return torch.optim.AdamW(weights, fused=True, **settings)
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError("--use_8bit_adam needs bitsandbytes: pip install bitsandbytes") from error
    return bitsandbytes.optim.AdamW8bit(weights, **settings)
