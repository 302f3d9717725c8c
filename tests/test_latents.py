import numpy as np
import pytest
import torch
from datasets import Dataset
from diffusers import AutoencoderKL
from PIL import Image

from riffusion.latents import TrainingExamples, cache_latents, pixels_to_tensor

COLUMNS = ("original_image", "edited_image")


@pytest.fixture
def vae(tiny_base) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(tiny_base, subfolder="vae")


def pairs(count: int = 3) -> Dataset:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (512, 64), dtype=np.uint8)) for _ in range(2 * count)]
    return Dataset.from_dict({"original_image": pictures[:count], "edited_image": pictures[count:]})


def examples(**changed) -> TrainingExamples:
    rng = np.random.default_rng(0)
    latents = {name: rng.standard_normal((10, 4, 8, 8)) for name in ("original", "edited_mean", "edited_std")}
    settings = {"timesteps": 1000, "dropout": 0.1, "seed": 0} | changed
    return TrainingExamples(latents, torch.arange(10)[:, None], **settings)


def test_cached_latents_are_the_autoencoders_and_are_kept(vae, tmp_path):
    data = pairs()
    latents = cache_latents(data, COLUMNS, vae, tmp_path)
    with torch.no_grad():
        posterior = vae.encode(pixels_to_tensor(data[1]["edited_image"])[None]).latent_dist
    assert {name: array.shape for name, array in latents.items()} == {
        name: (3, 4, 64, 8) for name in ("original", "edited_mean", "edited_std")
    }
    assert latents["edited_mean"][1] == pytest.approx(posterior.mean[0].numpy(), abs=2e-3)
    assert latents["edited_std"][1] == pytest.approx(posterior.std[0].numpy(), abs=2e-3)
    folder = next(tmp_path.iterdir())
    written = folder.stat().st_mtime_ns
    cache_latents(data, COLUMNS, vae, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert folder.stat().st_mtime_ns == written
    torch.nn.init.zeros_(vae.encoder.conv_in.bias)
    cache_latents(data, COLUMNS, vae, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_example_follows_from_seed_and_position_alone():
    first, second = examples(), examples()
    for position in (0, 7, 23):
        for name, value in first[position].items():
            assert torch.equal(value, second[position][name])
    second[999]
    assert torch.equal(first[5]["noise"], second[5]["noise"])
    assert not torch.equal(first[5]["noise"], examples(seed=1)[5]["noise"])


def test_every_epoch_holds_every_pair_once_in_its_own_order():
    orders = [[examples().pair_at(10 * epoch + place) for place in range(10)] for epoch in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(map(tuple, orders))) == 3


def test_dropout_is_three_way():
    drawn = [examples(dropout=0.1)[position] for position in range(4000)]
    kept = [(bool(example["keep_text"]), bool(example["keep_image"])) for example in drawn]
    for case in ((False, True), (False, False), (True, False)):
        assert kept.count(case) / len(kept) == pytest.approx(0.1, abs=0.02)
    assert all(bool(examples(dropout=0.0)[position]["keep_text"]) for position in range(50))
