import pytest
import torch

from riffusion.diffusion import encode


@pytest.mark.parametrize(("target", "changed"), [("mix", [0.0, 1.0, 0.5, 0.0]), ("stem", [1.0, 1.0, 0.5, 0.0])])
def test_changes_are_counted_by_latent_cell(target, changed):
    original = torch.full((1, 3, 8, 32), 255, dtype=torch.uint8)
    edited = original.clone()
    original[..., :8] = 100
    edited[..., :8] = 100  # the same in both: nothing changed in a mix, all of it is painted in a stem
    edited[..., 8:16] = 100
    edited[..., :4, 16:24] = 100
    edited[..., 24:] = 255 - 7  # less than counts as a change
    batch = {"original_pixels": original, "edited_pixels": edited}
    assert encode.encode_changes(batch, target, factor=8)["changed"].flatten().tolist() == changed
