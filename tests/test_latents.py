import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL import Image

from riffusion import latents, model
from riffusion.cache import Cache

COLUMNS = latents.Columns()


@pytest.fixture
def parts(tiny_base) -> model.Parts:
    return model.load_parts(str(tiny_base), None, None, None)


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path, Accelerator(cpu=True))


def pairs(count: int = 3) -> Dataset:
    """Pairs that share one original."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (512, 64), dtype=np.uint8)) for _ in range(count + 1)]
    edits = {"edited_image": pictures[1:], "edit_prompt": [f"add a {number}" for number in range(count)]}
    return Dataset.from_dict({"original_image": pictures[:1] * count, **edits})


def test_cached_latents_are_the_autoencoders(parts, cache, tmp_path):
    data = pairs()
    originals, edits = latents.picture_sources(data, COLUMNS, parts.vae, None, cache)
    pixels = latents.picture_pixels(data[1]["edited_image"])[None]
    with torch.no_grad():
        posterior = parts.vae.encode(pixels / 127.5 - 1).latent_dist
    assert originals[2]["original"].shape == (4, 64, 8) == latents.latent_shape(parts.vae, data[0]["original_image"])
    assert edits[1]["edited_mean"].numpy() == pytest.approx(posterior.mean[0].numpy(), abs=2e-3)
    assert edits[1]["edited_std"].numpy() == pytest.approx(posterior.std[0].numpy(), abs=2e-3)
    assert len(np.load(next(tmp_path.glob("originals-*/*/original.npy")))) == 1  # the pairs share it


def test_texts_are_encoded_once_each(parts, cache, tmp_path):
    token_ids = latents.tokenize(parts, ["add a dog", "", "add a dog"])
    (texts,) = latents.text_sources(token_ids, parts.text_encoder, cache)
    with torch.no_grad():
        expected = parts.text_encoder(latents.tokenize(parts, ["add a dog"]))[0][0]
    for place in (0, 2):
        assert texts[place]["text"].numpy() == pytest.approx(expected.numpy(), abs=2e-3)
    assert len(np.load(next(tmp_path.glob("texts-*/*/text.npy")))) == 2


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
    assert latents.encode_changes(batch, target, factor=8)["changed"].flatten().tolist() == changed
