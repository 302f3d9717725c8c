import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import SlicedAttnProcessor

from riffusion.diffusion import model
from riffusion.diffusion.sampling import Denoiser, Settings, branch_weights, guided_prediction, sample_generator
from riffusion.diffusion.schedulers import SCHEDULERS
from riffusion.diffusion.windows import tile
from riffusion.util.errors import UserError

CANVAS = tile(20, 8)
SETTINGS = Settings(guidance_scale=3.0, image_guidance_scale=1.5, num_inference_steps=4, seed=0)


@pytest.fixture
def pipeline(tiny_base, cores):
    parts = model.load_parts(str(tiny_base))
    model.widen_conv_in(parts.unet, 4)
    torch.manual_seed(0)
    torch.nn.init.normal_(parts.unet.conv_in.weight, std=0.1)  # the condition counts
    return model.pipeline_from_parts(parts)


@pytest.fixture
def cores():
    """One, whatever this machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def paint(pipeline, settings: Settings, names: tuple[str, ...] = ("a",), batch_size: int = 4, prompt: str = "a vocal"):
    """Latents of canvases that show the same noise, and the rows of every call of the UNet."""
    conditions = torch.randn(len(CANVAS.starts), 4, 16, CANVAS.width, generator=torch.Generator().manual_seed(1))
    rows = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    denoiser = Denoiser(pipeline, settings, CANVAS, batch_size)
    latents = denoiser.sample(conditions.repeat(len(names), 1, 1, 1), [prompt] * len(names), list(names))
    hook.remove()
    return latents.numpy(), rows


def three_branches(pipeline, settings: Settings) -> np.ndarray:
    """Equation 3 of InstructPix2Pix as it stands, by adding so little to the scales that no branch falls away."""
    return paint(pipeline, replace(settings, image_guidance_scale=settings.image_guidance_scale + 1e-6))[0]


@pytest.mark.parametrize(("text", "image", "branches"), [(1.0, 1.0, 1), (3.0, 1.0, 2), (2.0, 2.0, 2), (3.0, 1.5, 3)])
def test_branches_that_do_not_count_are_not_computed(pipeline, text, image, branches):
    settings = replace(SETTINGS, guidance_scale=text, image_guidance_scale=image)
    latents, rows = paint(pipeline, settings)
    assert rows == [branches * len(CANVAS.starts)] * settings.num_inference_steps
    assert latents == pytest.approx(three_branches(pipeline, settings), abs=1e-4)


@pytest.mark.parametrize(
    ("count", "batch_size", "rows"), [(2, 4, [3, 6]), (2, 1, [3, 3, 3]), (4, 3, [3, 3, 3]), (2, 2, [3, 3, 3])]
)
def test_cores_share_the_windows_of_a_batch(pipeline, count, batch_size, rows):
    wanted = paint(pipeline, SETTINGS)[0]
    torch.set_num_threads(count)
    latents, shared = paint(pipeline, SETTINGS, batch_size=batch_size)
    assert sorted(shared) == sorted(rows * SETTINGS.num_inference_steps)
    assert latents == pytest.approx(wanted, abs=1e-4)


def test_guidance_counts_within_its_interval_alone(pipeline):
    none, rows = paint(pipeline, replace(SETTINGS, guidance_interval=(0.5, 1.0)))
    windows = len(CANVAS.starts)
    assert rows == [windows, windows, 3 * windows, 3 * windows]
    assert not np.allclose(none, paint(pipeline, SETTINGS)[0], atol=1e-3)
    off = paint(pipeline, replace(SETTINGS, guidance_scale=1.0, image_guidance_scale=1.0))[0]
    assert paint(pipeline, replace(SETTINGS, guidance_interval=(0.99, 1.0)))[0] == pytest.approx(off, abs=1e-5)


def test_rescaled_guidance_has_the_spread_of_the_first_branch(pipeline):
    generator = torch.Generator().manual_seed(2)
    noisy, condition = (torch.randn(2, 4, 16, 8, generator=generator) for _ in range(2))
    states = torch.randn(3, 16, 16, generator=generator)

    def spread(weights: list[float], rescale: float) -> torch.Tensor:
        with torch.no_grad():
            args = (pipeline.unet, noisy, torch.tensor(500), condition, (states[:2], states[2]), weights, rescale)
            return guided_prediction(*args).std(dim=(1, 2, 3))

    branches = branch_weights(replace(SETTINGS, guidance_scale=9.0), 0)
    first, plain, half, whole = (
        spread([1.0, 0.0, 0.0], 0),
        spread(branches, 0),
        spread(branches, 0.5),
        spread(branches, 1),
    )
    assert whole.numpy() == pytest.approx(first.numpy(), rel=1e-4)
    assert half.numpy() == pytest.approx((plain + first).numpy() / 2, rel=1e-4)


def test_a_negative_prompt_takes_the_place_of_the_empty_one(pipeline):
    plain = paint(pipeline, SETTINGS)[0]
    assert not np.allclose(paint(pipeline, replace(SETTINGS, negative_prompt="fox"))[0], plain, atol=1e-3)
    same, rows = paint(pipeline, replace(SETTINGS, negative_prompt="a vocal", image_guidance_scale=1.0))
    unguided = paint(pipeline, replace(SETTINGS, guidance_scale=1.0, image_guidance_scale=1.0))[0]
    assert same == pytest.approx(unguided, abs=1e-4)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_name_chooses_the_noise_whatever_is_sampled_beside_it(pipeline, scheduler):
    settings = replace(SETTINGS, scheduler=scheduler)
    both, _ = paint(pipeline, settings, ("a", "b"), batch_size=2)
    swapped, _ = paint(pipeline, settings, ("b", "a"), batch_size=5)
    alone, _ = paint(pipeline, settings, ("a",), batch_size=1)
    assert np.isfinite(both).all()
    assert both == pytest.approx(swapped[::-1], abs=1e-4)
    assert both[:1] == pytest.approx(alone, abs=1e-4)
    assert not np.allclose(both[0], both[1], atol=1e-2)


def test_a_seed_chooses_the_noise_too():
    noise = {
        (seed, name): torch.randn(1000, generator=sample_generator(seed, name)).numpy()
        for seed in (0, 1, 2**31 - 1)
        for name in ("a", "b")
    }
    for one, other in itertools.combinations(noise.values(), 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.15
    again = torch.randn(1000, generator=sample_generator(1, "b")).numpy()
    assert (noise[1, "b"] == again).all()


def test_solvers_come_to_the_same_picture_with_many_steps(pipeline):
    many = replace(SETTINGS, num_inference_steps=60)
    ddim, *others = (paint(pipeline, replace(many, scheduler=name))[0] for name in ("ddim", "dpm++", "unipc"))
    for other in others:
        assert np.linalg.norm(other - ddim) < 0.1 * np.linalg.norm(ddim)


class Memory:
    """A device that holds so many rows of the UNet's input, or slices of attention."""

    def __init__(self, unet, rows: int, sliced_rows: int = 0):
        self.unet, self.rows, self.sliced_rows, self.seen = unet, rows, sliced_rows, []
        self.hook = unet.register_forward_pre_hook(self.look)

    def look(self, _, inputs) -> None:
        sliced = any(isinstance(one, SlicedAttnProcessor) for one in self.unet.attn_processors.values())
        if len(inputs[0]) > (self.sliced_rows if sliced else self.rows):
            raise torch.OutOfMemoryError("too many")
        self.seen.append(len(inputs[0]))


def test_what_memory_cannot_hold_is_sampled_in_smaller_parts(pipeline):
    wanted = paint(pipeline, SETTINGS)[0]
    memory = Memory(pipeline.unet, rows=6)
    assert paint(pipeline, SETTINGS)[0] == pytest.approx(wanted, abs=1e-4)
    assert set(memory.seen) == {3}  # of three windows, one at a time
    memory.hook.remove()
    memory = Memory(pipeline.unet, rows=2, sliced_rows=3)
    assert paint(pipeline, SETTINGS)[0] == pytest.approx(wanted, abs=1e-4)
    assert set(memory.seen) == {3}
    memory.hook.remove()
    Memory(pipeline.unet, rows=2, sliced_rows=2)
    with pytest.raises(UserError, match="too little memory"):
        paint(pipeline, SETTINGS)
