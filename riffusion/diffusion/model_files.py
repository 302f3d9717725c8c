"""Where the files of a model lie, and what is no model at all. Nothing here imports what takes long."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from riffusion.diffusion import lora
from riffusion.util import files, hub
from riffusion.util.errors import UserError

ENDINGS = (".safetensors", ".ckpt")
INDEX_FILE = "model_index.json"
KINDS = {  # of the parts in it
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": None,
}


def is_single_file(name: str) -> bool:
    """Whether a model's name is that of a checkpoint file."""
    return Path(name).suffix in ENDINGS


def find_file(model_id: str, name: str, revision: str | None = None, cache_dir: Path | None = None) -> Path | None:
    """A file of a model, beside it if that is a single file; None if there is none.

    Raises UserError if there is no such model.
    """
    model_id = str(Path(model_id).parent) if is_single_file(model_id) else model_id
    path = Path(model_id) / name
    if not Path(model_id).is_dir():
        hub.go_offline_without_network()
        try:
            path = Path(hf_hub_download(model_id, name, revision=revision, cache_dir=cache_dir))
        except EntryNotFoundError:  # the repository, or its cached copy, has no such file
            return None
        except hub.HUB_ERRORS as error:
            raise unavailable(model_id) from error
    return path if path.is_file() else None


def check_model(
    name: str, revision: str | None = None, cache_dir: Path | None = None, config: str | None = None
) -> None:
    """Raise UserError for what can't be a model, as far as it is known without its weights: in a tenth of the time
    that it takes to import what reads them. `config` is as in `load_single_file`."""
    if is_single_file(name):
        check_single_file(Path(name), config)
    elif lora.is_lora(name):
        check_model(lora.base_of(Path(name)), cache_dir=cache_dir, config=config)
    else:
        check_folder(name)
        if not Path(name).is_dir() and find_file(name, INDEX_FILE, revision, cache_dir) is None:
            raise unavailable(name)


def check_single_file(path: Path, config: str | None) -> None:
    """Raise UserError if a checkpoint file isn't there, or its settings aren't."""
    if config is not None and not Path(config).is_dir():
        raise UserError(f"{config}: no such folder; the settings of {path} are looked for there")
    if not path.is_file():
        raise UserError(f"{path}: no such file")


def check_folder(name: str) -> None:
    """Raise UserError for a folder that isn't there or holds no model; a name that the Hub may have is left alone."""
    folder = Path(name)
    if not folder.is_dir():
        if folder.exists():
            raise UserError(f"{name}: is neither a model's folder nor a {' or '.join(ENDINGS)} file")
        if folder.is_absolute() or name.startswith((".", "~")) or len(folder.parts) > 2:  # no name of the Hub's
            raise UserError(f"{name}: no such folder")
        return
    if not (folder / "tokenizer").is_dir():  # from_pretrained would make one up
        raise UserError(f"{name}: not a model in diffusers' layout (it has no folder named tokenizer)")
    if (folder / INDEX_FILE).is_file():
        refuse_other_kinds(name, files.load_json(folder / INDEX_FILE))


def refuse_other_kinds(name: str, index: dict[str, Any]) -> None:
    """Raise UserError unless model_index.json is that of a Stable Diffusion 1 or 2."""
    others = [part for part, kind in KINDS.items() if index.get(part, [None, None])[1] != kind]
    if others:
        kind = index.get("_class_name", "model of an unknown kind")
        raise UserError(f"{name}: is a {kind}; what is needed is a checkpoint of Stable Diffusion 1 or 2")


def unavailable(name: str) -> UserError:
    """What to say of a model that is neither here nor on the Hub, as far as that can be reached."""
    return UserError(
        f"model {name!r} is not a folder here and the Hub can't be reached or doesn't have it; "
        "pass a folder, such as checkpoints/small"
    )
