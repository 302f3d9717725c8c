import copy

import pytest
import torch
from diffusers import UNet2DConditionModel

from riffusion import model
from riffusion.errors import UserError
from riffusion.spectrogram import SpectrogramParams


def test_the_widened_unet_equals_the_old_one_whatever_the_condition(tiny_base):
    old = UNet2DConditionModel.from_pretrained(tiny_base, subfolder="unet")
    torch.nn.init.normal_(old.conv_in.bias)
    wide = copy.deepcopy(old)
    model.widen_conv_in(wide, condition_channels=4)
    noisy, condition, text = torch.randn(2, 4, 64, 8), torch.randn(2, 4, 64, 8), torch.randn(2, 16, 16)
    with torch.no_grad():
        expected = old(noisy, 7, text).sample
        for picture in (torch.zeros_like(condition), condition):
            assert torch.equal(wide(torch.cat([noisy, picture], dim=1), 7, text).sample, expected)
    assert wide.config.in_channels == 8
    assert torch.equal(wide.conv_in.bias, old.conv_in.bias)


def test_facts_come_back_and_default_to_the_originals(tmp_path):
    assert model.load_facts(str(tmp_path)) == model.ModelFacts("mix", SpectrogramParams(), 15.0, 1.5)
    facts = model.ModelFacts("stem", SpectrogramParams(num_frames=64), guidance_scale=3.0)
    model.save_facts(tmp_path, facts)
    assert model.load_facts(str(tmp_path)) == facts


def test_a_folder_without_a_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="not a model in diffusers' layout"):
        model.load_parts(str(tmp_path), None, None, None)
    with pytest.raises(UserError, match="not a model in diffusers' layout"):
        model.load_pipeline(str(tmp_path), "cpu", torch.float32)
    with pytest.raises(UserError, match="no such folder"):
        model.load_pipeline(str(tmp_path / "nowhere"), "cpu", torch.float32)
