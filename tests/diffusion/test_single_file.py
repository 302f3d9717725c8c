import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from single_files import write_single_file

from riffusion.diffusion import model
from riffusion.diffusion.single_file import FIRST_LAYER
from riffusion.util.errors import UserError

ROOT = Path(__file__).parents[2]


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    weights = one.state_dict(), other.state_dict()
    return weights[0].keys() == weights[1].keys() and all(
        torch.equal(w, weights[1][name]) for name, w in weights[0].items()
    )


@pytest.mark.parametrize("ending", [".safetensors", ".ckpt"])
def test_a_file_has_the_weights_of_the_folder_that_it_was_made_from(tiny_base, tmp_path, ending):
    path = write_single_file(tiny_base, tmp_path / f"base{ending}")
    folder, file = model.load_parts(str(tiny_base)), model.load_parts(str(path), config=str(tiny_base))
    for part in ("unet", "vae", "text_encoder"):
        assert same_weights(getattr(folder, part), getattr(file, part)), part
    assert file.noise_scheduler.config.prediction_type == folder.noise_scheduler.config.prediction_type


def test_a_trained_model_in_one_file_paints_what_its_folder_paints(tiny_models, tmp_path):
    folder = tiny_models["stem"]
    path = write_single_file(folder, tmp_path / "trained.safetensors")
    pipelines = [
        model.load_pipeline(str(folder), "cpu", torch.float32),
        model.load_pipeline(str(path), "cpu", torch.float32, config=str(folder)),
    ]
    noisy, text = torch.randn(1, 8, 64, 8), torch.randn(1, 16, 16)
    with torch.no_grad():
        answers = [pipeline.unet(noisy, 7, text).sample for pipeline in pipelines]
    assert torch.allclose(*answers, atol=1e-5)
    assert model.load_facts(str(path), config=str(folder)) == model.load_facts(str(folder))
    assert model.digest(str(path)) != model.digest(str(folder))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": 4}, "holds SDXL"),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": 4}, "holds Flux"),
        ({"model.model.transformer.layers.0.norm.gamma": 4}, "1 tensors such as 'model.model.transformer"),
        ({"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": 4}, r"holds low-rank updates \(LoRA\)"),
        ({FIRST_LAYER: (320, 9, 3, 3)}, None),
    ],
)
def test_checkpoints_of_another_kind_are_refused_by_what_they_are(tmp_path, tiny_base, weights, said):
    path = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in weights.items()}, path)
    with pytest.raises(UserError, match=said) as refused:
        model.load_parts(str(path), config=str(tiny_base))
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_of_another_model_are_refused(tiny_base, tmp_path):
    path = write_single_file(tiny_base, tmp_path / "base.safetensors")
    with pytest.raises(UserError, match="weights don.t fit the settings"):
        model.load_parts(str(path), config=str(ROOT / "checkpoints" / "small"))


def test_files_that_cannot_be_read(tmp_path, tiny_base):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        model.load_parts(str(broken), config=str(tiny_base))
    with pytest.raises(UserError, match="no such file"):
        model.load_parts(str(tmp_path / "missing.ckpt"), config=str(tiny_base))
    with pytest.raises(UserError, match="no such folder"):
        model.load_parts(str(broken), config=str(tmp_path / "nowhere"))


def test_without_a_network_the_settings_have_to_be_given(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = write_single_file(tiny_base, tmp_path / "base.safetensors")
    with pytest.raises(UserError, match="pass --model_config FOLDER"):
        model.load_parts(str(path))


def test_folders_of_another_kind_are_refused_by_what_they_are(tiny_base, tmp_path):
    folder = tmp_path / "xl"
    (folder / "tokenizer").mkdir(parents=True)
    index = json.loads((tiny_base / "model_index.json").read_text())
    index |= {
        "_class_name": "StableDiffusionXLPipeline",
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="is a StableDiffusionXLPipeline; what is needed"):
        model.load_parts(str(folder))
    with pytest.raises(UserError, match="is a StableDiffusionXLPipeline; what is needed"):
        model.load_pipeline(str(folder), "cpu", torch.float32)
