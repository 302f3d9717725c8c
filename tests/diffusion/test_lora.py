import shutil

import pytest
import torch

from riffusion.diffusion import lora, model
from riffusion.spectrogram import SpectrogramParams
from riffusion.util.errors import UserError


@pytest.fixture
def trained(tiny_base, tmp_path):
    """The output of training low-rank updates over the tiny base, which was itself moved beside it."""
    shutil.copytree(tiny_base, tmp_path / "base")
    parts = model.load_parts(str(tmp_path / "base"))
    model.take_condition(parts)
    lora.add_lora(parts.unet, rank=2)
    torch.manual_seed(0)
    for weight in parts.unet.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    facts = model.ModelFacts("stem", SpectrogramParams(num_frames=64))
    model.save(parts, facts, tmp_path / "trained", half=False, base=str(tmp_path / "base"))
    return tmp_path / "trained"


def test_the_updates_over_their_base_are_the_merged_model(trained):
    merged = model.load_pipeline(str(trained), "cpu", torch.float32)
    updated = model.load_pipeline(str(trained / "lora"), "cpu", torch.float32)
    noisy, text = torch.randn(1, 8, 64, 8), torch.randn(1, 16, 16)
    with torch.no_grad():
        expected, found = (pipeline.unet(noisy, 7, text).sample for pipeline in (merged, updated))
        plain = model.load_parts(str(trained.parent / "base"))
        model.take_condition(plain)
        other = plain.unet(noisy, 7, text).sample
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(other, expected, atol=1e-2)
    assert model.load_facts(str(trained / "lora")) == model.load_facts(str(trained))
    assert model.digest(str(trained / "lora")) not in (None, model.digest(str(trained)))


def test_the_updates_are_small_and_say_no_path_of_this_machine(trained):
    said = (trained / "lora" / lora.BASE_FILE).read_text()
    assert str(trained.parent) not in said
    assert "base" in said
    size = sum(path.stat().st_size for path in (trained / "lora").iterdir())
    assert size < (trained / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size / 2


def test_updates_without_their_base_or_over_another_one_are_refused(trained, tiny_models, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (trained.parent / "base").rename(trained.parent / "moved")
    with pytest.raises(UserError, match="base"):
        model.load_pipeline(str(trained / "lora"), "cpu", torch.float32)
    (trained / "lora" / lora.BASE_FILE).write_text("{}")
    with pytest.raises(UserError, match="not of the form"):
        model.load_parts(str(trained / "lora"))
