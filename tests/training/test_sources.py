import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import pair_dataset

from riffusion.diffusion import encode, model
from riffusion.training import sources
from riffusion.training.cache import Cache

COLUMNS = sources.Columns()


@pytest.fixture
def parts(tiny_base) -> model.Parts:
    return model.load_parts(str(tiny_base))


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path, Accelerator(cpu=True))


def test_cached_latents_are_the_autoencoders(parts, cache, tmp_path):
    data = pair_dataset()
    originals, edits = sources.picture_sources(data, COLUMNS, parts.vae, cache)
    pixels = encode.picture_pixels(data[1]["edited_image"])[None]
    with torch.no_grad():
        posterior = parts.vae.encode(pixels / 127.5 - 1).latent_dist
    assert originals[2]["original"].shape == (4, 64, 8) == encode.latent_shape(parts.vae, data[0]["original_image"])
    assert edits[1]["edited_mean"].numpy() == pytest.approx(posterior.mean[0].numpy(), abs=2e-3)
    assert edits[1]["edited_std"].numpy() == pytest.approx(posterior.std[0].numpy(), abs=2e-3)
    assert len(np.load(next(tmp_path.glob("originals-*/*/original.npy")))) == 1  # the pairs share it


def test_texts_are_encoded_once_each(parts, cache, tmp_path):
    token_ids = encode.tokenize(parts.tokenizer, ["add a dog", "", "add a dog"])
    (texts,) = sources.text_sources(token_ids, parts.text_encoder, cache)
    with torch.no_grad():
        expected = parts.text_encoder(encode.tokenize(parts.tokenizer, ["add a dog"]))[0][0]
    for place in (0, 2):
        assert texts[place]["text"].numpy() == pytest.approx(expected.numpy(), abs=2e-3)
    assert len(np.load(next(tmp_path.glob("texts-*/*/text.npy")))) == 2
