from pathlib import Path

import autoencoder
import base_model
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image


@pytest.mark.parametrize("factor", [8, 16])
@pytest.mark.parametrize("evenness", [0.0, 0.5, 1.0])
def test_standardising_latents_changes_their_scale_and_nothing_else(factor: int, evenness: float):
    torch.manual_seed(0)
    vae = autoencoder.make_autoencoder(64, factor)
    pictures = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    batch = torch.cat(autoencoder.whole_pictures(pictures, 8))
    with torch.no_grad():
        before = vae.encode(batch).latent_dist
        decoded = vae.decode(before.mean).sample
        autoencoder.standardise_latents(vae, pictures, evenness)
        after = vae.encode(batch).latent_dist
        assert vae.decode(after.mean).sample == pytest.approx(decoded, abs=1e-3)
    assert after.mean.mean(dim=(0, 2, 3)) == pytest.approx(torch.zeros(vae.config.latent_channels), abs=1e-4)
    assert float(after.mean.square().mean()) == pytest.approx(1, abs=1e-3)
    shares = [one / one.norm() for one in (latents.mean.std(dim=(0, 2, 3)) for latents in (before, after))]
    expected = shares[0] ** (1 - evenness)
    assert shares[1] == pytest.approx(expected / expected.norm(), rel=1e-3)


@pytest.mark.parametrize("factor", [8, 16])
def test_the_autoencoder_starts_near_what_it_is_to_answer(factor: int):
    torch.manual_seed(0)
    steps = np.random.default_rng(0).normal(size=(8, 64, 64)).cumsum(axis=1).cumsum(axis=2)
    pictures = np.uint8(255 * (steps - steps.min()) / np.ptp(steps))
    vae = autoencoder.make_autoencoder(64, factor)
    at_random = autoencoder.round_trip_error(vae, pictures)
    autoencoder.start_from_components(vae, pictures)
    assert autoencoder.round_trip_error(vae, pictures) < at_random / 5


def test_a_killed_training_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(autoencoder, "SAVE_STEPS", 3)
    state = tmp_path / "new" / "autoencoder.pt"
    training = autoencoder.Training(steps=4, crop=32, batch_size=2, learning_rate=3e-4, seed=0, state=state)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    ends = []
    for _ in range(2):  # the second goes on from step 3 of the first
        torch.manual_seed(len(ends))
        vae = autoencoder.make_autoencoder(64, 8)
        autoencoder.train_autoencoder(vae, pictures, training)
        ends.append(vae.state_dict())
    for name, weight in ends[0].items():
        assert torch.equal(weight, ends[1][name]), name


@pytest.mark.parametrize(("factor", "channels"), [(8, 8), (16, 32)])
def test_the_script_makes_a_checkpoint_with_a_vocabulary_of_its_own(tmp_path: Path, factor: int, channels: int):
    pictures = tmp_path / "pairs"
    pictures.mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / f"{number}.png")
    flags = ["--train_data_dir", str(pictures), "--output_dir", str(tmp_path / "base"), "--autoencoder_steps", "2"]
    flags += ["--latent_factor", str(factor)]
    assert base_model.main(base_model.parse_args([*flags, "--crop", "64"])) == 0
    base = StableDiffusionPipeline.from_pretrained(tmp_path / "base")
    words = base.tokenizer.tokenize("Add a soft female vocal, long held notes")
    assert words == [f"{word}</w>" for word in ["add", "a", "soft", "female", "vocal", ",", "long", "held", "notes"]]
    assert base.unet.config.in_channels == base.vae.config.latent_channels == channels
