import json
import shutil
from pathlib import Path

import huggingface_hub
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


def cached_model(folder: Path, cache: Path, revision: str = "main") -> Path:
    """A folder as the Hub's client keeps the model some/model in a cache."""
    snapshot = cache / "models--some--model" / "snapshots" / ("0123456789" * 4)
    shutil.copytree(folder, snapshot)
    reference = snapshot.parents[1] / "refs" / revision
    reference.parent.mkdir()
    reference.write_text(snapshot.name)
    return snapshot


def test_a_cached_model_is_found_in_its_cache_and_by_its_revision(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached_model(tiny_base, tmp_path, revision="old")
    parts = model.load_parts("some/model", revision="old", cache_dir=tmp_path)
    assert parts.unet.config.in_channels == 4
    with pytest.raises(UserError, match="the Hub can't be reached"):
        model.load_parts("some/model", cache_dir=tmp_path)


def test_a_hub_model_of_another_kind_is_refused_by_what_it_is(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    index = cached_model(tiny_base, tmp_path) / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "FluxPipeline", "unet": [None, None]}))
    with pytest.raises(UserError, match="^some/model: is a FluxPipeline; what is needed"):
        model.load_parts("some/model", cache_dir=tmp_path)
