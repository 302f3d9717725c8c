import pytest
import torch

from riffusion.diffusion import model
from riffusion.spectrogram import SpectrogramParams
from riffusion.util.errors import UserError


def test_facts_come_back_and_default_to_the_originals(tmp_path):
    assert model.load_facts(str(tmp_path)) == model.ModelFacts("mix", SpectrogramParams(), 15.0, 1.5)
    facts = model.ModelFacts("stem", SpectrogramParams(num_frames=64), guidance_scale=3.0)
    model.save_facts(tmp_path, facts)
    assert model.load_facts(str(tmp_path)) == facts


def test_a_folder_without_a_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="not a model in diffusers' layout"):
        model.load_parts(str(tmp_path))
    with pytest.raises(UserError, match="not a model in diffusers' layout"):
        model.load_pipeline(str(tmp_path), "cpu", torch.float32)
    with pytest.raises(UserError, match="no such folder"):
        model.load_pipeline(str(tmp_path / "nowhere"), "cpu", torch.float32)


def test_a_saved_model_does_not_say_where_its_base_lay(tiny_base, tmp_path):
    parts = model.load_parts(str(tiny_base))
    model.save(parts, model.ModelFacts(), tmp_path / "saved", half=False)
    said = [path.read_text() for path in (tmp_path / "saved").rglob("*.json")]
    assert said
    assert not any(str(tiny_base.parent) in text for text in said)
