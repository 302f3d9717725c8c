import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.utils.import_utils import is_xformers_available

from riffusion.diffusion import model
from riffusion.util.errors import UserError


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


def test_xformers_that_is_missing_is_one_line_that_says_what_to_install(tiny_base):
    unet = UNet2DConditionModel.from_pretrained(tiny_base, subfolder="unet")
    if is_xformers_available():
        pytest.skip("it is installed")
    with pytest.raises(UserError, match="pip install -r requirements-gpu.txt"):
        model.use_xformers(unet)
