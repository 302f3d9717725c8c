import pytest
import torch
from accelerate import Accelerator
from conftest import pair_dataset

from riffusion.diffusion import encode, model
from riffusion.diffusion.batch import Batch
from riffusion.diffusion.loss import Objective, diffusion_loss, snr_weight
from riffusion.training import sources
from riffusion.training.cache import Cache
from riffusion.training.examples import TrainingExamples


@pytest.fixture
def parts(tiny_base) -> model.Parts:
    parts = model.load_parts(str(tiny_base))
    model.take_condition(parts)
    torch.nn.init.normal_(parts.unet.conv_in.weight, std=0.1)
    return parts


@pytest.fixture
def batch() -> Batch:
    shape = (2, 4, 64, 8)
    names = ("original", "edited_mean", "edited_std", "sample_noise", "noise")
    drawn = {name: torch.randn(shape, generator=torch.manual_seed(place)) for place, name in enumerate(names)}
    drawn["offset"] = torch.tensor([[1.0, -1.0, 2.0, 0.5]] * 2)[:, :, None, None]
    drawn["timestep"] = torch.tensor([20, 700])
    drawn["keep_text"] = torch.tensor([True, False])
    drawn["keep_image"] = torch.tensor([True, True])
    return drawn | {"text": torch.randn(2, 16, 16, generator=torch.manual_seed(9))}


UNCOND = {"text": torch.zeros(1, 16, 16)}


def prediction_error(parts: model.Parts, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
    """Squared error of each value, written down from the equations of arXiv 2006.11239 and 2202.00512."""
    keep = parts.noise_scheduler.alphas_cumprod[batch["timestep"]].reshape(2, 1, 1, 1)
    clean = parts.vae.config.scaling_factor * (batch["edited_mean"] + batch["edited_std"] * batch["sample_noise"])
    noisy = keep.sqrt() * clean + (1 - keep).sqrt() * noise
    text = torch.stack([batch["text"][0], UNCOND["text"][0]])
    prediction = parts.unet(torch.cat([noisy, batch["original"]], dim=1), batch["timestep"], text).sample
    return (prediction - (keep.sqrt() * noise - (1 - keep).sqrt() * clean)) ** 2


def test_the_plain_loss_is_the_mean_square_of_the_velocitys_error(parts, batch):
    expected = prediction_error(parts, batch, batch["noise"]).mean()
    assert diffusion_loss(parts, UNCOND, batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_dropped_picture_is_not_seen(parts, batch):
    batch["keep_image"] = torch.tensor([False, False])
    dropped = diffusion_loss(parts, UNCOND, batch)
    batch["original"] = torch.randn_like(batch["original"])
    assert torch.equal(diffusion_loss(parts, UNCOND, batch), dropped)


def test_offset_noise_moves_whole_channels(parts, batch):
    noise = batch["noise"] + 0.1 * batch["offset"]
    expected = prediction_error(parts, batch, noise).mean()
    assert diffusion_loss(parts, UNCOND, batch, Objective(offset_noise=0.1)).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_changed_regions_weigh_more(parts, batch):
    changed = torch.zeros(2, 64, 8)
    changed[0, :32] = 1
    error = prediction_error(parts, batch, batch["noise"]).mean(dim=1)
    first = (3 * error[0, :32].mean() + error[0, 32:].mean()) / 4
    expected = (first + error[1].mean()) / 2
    loss = diffusion_loss(parts, UNCOND, batch | {"changed": changed}, Objective(changed_region_weight=3.0))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_min_snr_weights_are_those_of_the_paper(parts):
    timestep = torch.tensor([1, 300, 999])
    keep = parts.noise_scheduler.alphas_cumprod[timestep]
    snr = keep / (1 - keep)
    assert snr[0] > 5 > snr[2]
    expected = torch.minimum(snr, torch.tensor(5.0)) / (snr + 1)
    assert snr_weight(parts.noise_scheduler, timestep, 5.0).tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    model.change_schedule(parts, "epsilon", zero_terminal_snr=False)
    expected = torch.minimum(snr, torch.tensor(5.0)) / snr
    assert snr_weight(parts.noise_scheduler, timestep, 5.0).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_latents_on_the_fly_give_the_loss_of_cached_ones(parts, tmp_path):
    data, weighed = pair_dataset(2), Objective(changed_region_weight=4.0)
    losses = []
    for cache in (None, Cache(tmp_path, Accelerator(cpu=True))):
        parts_of_pairs = sources.picture_sources(data, sources.Columns(), parts.vae, cache, "stem")
        token_ids = encode.tokenize(parts.tokenizer, list(data["edit_prompt"]))
        parts_of_pairs += sources.text_sources(token_ids, parts.text_encoder, cache)
        examples = TrainingExamples(parts_of_pairs, (4, 64, 8), 1000)
        batch = torch.utils.data.default_collate([examples[0], examples[1]])
        uncond = Batch(token_ids=encode.tokenize(parts.tokenizer, [""]))
        uncond |= encode.encode_texts(parts.text_encoder, uncond["token_ids"])
        losses.append(diffusion_loss(parts, uncond, batch, weighed).item())
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert losses[0] != losses[1]
