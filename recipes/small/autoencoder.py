"""The small model's autoencoder: it starts as the best linear one, by principal components, and learns on from there.

A start at random takes hours to get where the components are at once. Diffusers' layers can hold them exactly: the
residual branches begin at zero, each halving is a projection of 2 x 2 neighbours, each doubling a least squares fit of
what was projected, and the last normalisations divide by constants that are louder than the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm


@dataclass(frozen=True)
class Layout:
    """Principal components kept at each size, from the picture down to its latents, and the layers' channels there."""

    components: tuple[int, ...]
    widths: tuple[int, ...]


LAYOUTS = {  # by how many pixels a latent is wide and high; all keep one number of eight pixels
    8: Layout((1, 4, 16, 8), (16, 16, 48, 64)),
    16: Layout((1, 4, 16, 48, 32), (16, 16, 48, 96, 128)),
}
GROUPS = 4  # of each normalisation
LOUD = 12.0  # several times what components reach
LOG_VARIANCE = -6.0  # of the posterior to begin with: at 0 its noise drowns the latents
KL_WEIGHT = 1e-6
START_PICTURES = 32  # that components are computed from
SAVE_STEPS = 50  # the most that a killed run loses
SMALL_CROPS = 0.75  # share of the training that sees them; then larger ones, with statistics nearer a picture's


def make_autoencoder(sample_size: int, factor: int) -> AutoencoderKL:
    """Pictures to latents `factor` times smaller a side: (3, 512, 512) -> (8, 64, 64) by 8, (32, 32, 32) by 16."""
    layout = LAYOUTS[factor]
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(layout.widths),
        up_block_types=("UpDecoderBlock2D",) * len(layout.widths),
        block_out_channels=layout.widths,
        layers_per_block=1,
        latent_channels=layout.components[-1],
        norm_num_groups=GROUPS,
        mid_block_add_attention=False,
        sample_size=sample_size,
        scaling_factor=1.0,
    )


@torch.no_grad()
def start_from_components(vae: AutoencoderKL, pictures: np.ndarray) -> None:
    """Make the autoencoder linear: the principal components of the pictures, uint8 (pictures, height, width)."""
    chosen = pictures[:: max(1, len(pictures) // START_PICTURES)]
    grey = torch.from_numpy(chosen.astype(np.float32))[:, None] / 127.5 - 1
    for block in vae.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
    features = start_encoder(vae, grey)
    start_decoder(vae, features)


def start_encoder(vae: AutoencoderKL, grey: Tensor) -> list[Tensor]:
    """Project pictures (B, 1, height, width) size by size; return what becomes of them, (B, components, h, w) each."""
    encoder = vae.encoder
    set_outputs(encoder.conv_in, [0], [0, 1, 2], torch.full((1, 3), 1 / 3))
    components = LAYOUTS[2 ** (len(encoder.down_blocks) - 1)].components
    features, values, scale = [grey], grey, torch.ones(1)  # as the layers hold them, and as orthonormal components
    for place, (block, kept) in enumerate(zip(encoder.down_blocks, components[1:], strict=False), start=1):
        shortcut, down = block.resnets[0].conv_shortcut, block.downsamplers[0].conv
        if shortcut is not None:
            set_outputs(shortcut, range(len(scale)), range(len(scale)), torch.eye(len(scale)))
        neighbours = functional.pixel_unshuffle(values, 2)  # (B, 4 components, h / 2, w / 2)
        vectors, mean, spread = principal_components(neighbours, kept)
        values = torch.einsum("ki,bihw->bkhw", vectors, neighbours - mean[:, None, None])
        louder = spread**-0.5  # between components as they are and all equally spread
        if place == len(components) - 1:
            louder = louder / spread.mean().sqrt()
        down.weight[:kept] = 0
        kernel = vectors.reshape(kept, len(scale), 2, 2) / scale[:, None, None]
        down.weight[:kept, : len(scale), :2, :2] = louder[:, None, None, None] * kernel
        down.bias[:kept] = -louder * (vectors @ mean)
        features.append(louder[:, None, None] * values)
        scale = louder
    start_latents(vae, float(features[-1].var(dim=(0, 2, 3)).mean()))
    return features


def start_latents(vae: AutoencoderKL, power: float) -> None:
    """Pass components of this mean square on, through the encoder's last layers, as the posterior's mean."""
    encoder, latents = vae.encoder, vae.config.latent_channels
    shortcut = encoder.down_blocks[-1].resnets[0].conv_shortcut
    nn.init.zeros_(shortcut.weight)
    nn.init.zeros_(shortcut.bias)
    each, group = latents // GROUPS, vae.config.block_out_channels[-1] // GROUPS
    plus = [place + group * part for part in range(GROUPS) for place in range(each)]
    minus = [place + each for place in plus]
    set_outputs(shortcut, plus, range(latents), torch.eye(latents))
    set_outputs(shortcut, minus, range(latents), -torch.eye(latents))
    loud = [2 * each + group * part for part in range(GROUPS)]
    hold_scale(encoder.mid_block.resnets[-1], encoder.conv_norm_out, loud, 2 * each * power)
    pass_pairs(encoder.conv_out, plus, minus, torch.cat([torch.eye(latents), torch.zeros(latents, latents)]))
    encoder.conv_out.bias[latents:] = LOG_VARIANCE
    set_outputs(vae.quant_conv, range(2 * latents), range(2 * latents), torch.eye(2 * latents))


def start_decoder(vae: AutoencoderKL, features: list[Tensor]) -> None:
    """Fit every doubling to what the encoder has made of the same pictures one size up."""
    decoder, latents = vae.decoder, vae.config.latent_channels
    for layer in (vae.post_quant_conv, decoder.conv_in):
        set_outputs(layer, range(latents), range(latents), torch.eye(latents))
    found = features[-1]
    for block, wanted in zip(decoder.up_blocks, reversed(features[:-1]), strict=False):
        shortcut, conv = block.resnets[0].conv_shortcut, block.upsamplers[0].conv
        there, finer = found.shape[1], wanted.shape[1]
        if shortcut is not None:
            set_outputs(shortcut, range(there), range(there), torch.eye(there))
        doubled = functional.interpolate(found, scale_factor=2.0, mode="nearest")
        weight, bias = fit_convolution(doubled, wanted)
        conv.weight[:finer] = 0
        conv.weight[:finer, :there], conv.bias[:finer] = weight, bias
        found = functional.conv2d(doubled, weight, bias, padding=1)
    grey, negative, loud = 0, 1, 2
    conv.weight[negative], conv.bias[negative] = -conv.weight[grey], -conv.bias[grey]
    conv.weight[loud : loud + 2], conv.bias[loud : loud + 2] = 0, 0
    hold_scale(decoder.up_blocks[-1].resnets[-1], decoder.conv_norm_out, [loud], 2 * float(found.var()))
    pass_pairs(decoder.conv_out, [grey], [negative], torch.ones(3, 1))


def principal_components(values: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of (B, channels, h, w): directions (kept, channels) that vary most, the mean, and their standard deviation."""
    flat = values.transpose(0, 1).flatten(1)
    variances, vectors = torch.linalg.eigh(torch.cov(flat))
    return vectors.flip(1)[:, :kept].T, flat.mean(dim=1), variances.flip(0)[:kept].clamp(min=1e-8).sqrt()


def set_outputs(layer: nn.Conv2d, outputs: Sequence[int], inputs: Sequence[int], matrix: Tensor) -> None:
    """Make some outputs of a convolution a matrix (outputs, inputs) times some inputs, at the same place."""
    centre = layer.kernel_size[0] // 2
    layer.weight[list(outputs)] = 0
    assert layer.bias is not None
    layer.bias[list(outputs)] = 0
    layer.weight[torch.tensor(outputs)[:, None], torch.tensor(inputs), centre, centre] = matrix


def hold_scale(block: ResnetBlock2D, norm: nn.GroupNorm, loud: list[int], power: float) -> None:
    """Let a normalisation divide by nearly the same, whatever a picture shows, and multiply by that again.

    Constants of both signs go into the channels `loud` and those after them. `power` is the rest's in a group.
    """
    for channel in loud:
        block.conv2.bias[channel], block.conv2.bias[channel + 1] = LOUD, -LOUD
    size = norm.num_channels // norm.num_groups
    nn.init.constant_(norm.weight, ((power + 2 * LOUD**2) / size) ** 0.5)


def pass_pairs(layer: nn.Conv2d, plus: list[int], minus: list[int], matrix: Tensor) -> None:
    """A convolution after a SiLU as if there were none: silu(x) - silu(-x) is x. `matrix` is (outputs, pairs)."""
    outputs = range(len(matrix))
    set_outputs(layer, outputs, [*plus, *minus], torch.cat([matrix, -matrix], dim=1))


def fit_convolution(inputs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (k, n, 3, 3) and bias (k,) that take (B, n, h, w) nearest to (B, k, h, w) in least squares."""
    count = 9 * inputs.shape[1] + 1
    gram = torch.zeros(count, count, dtype=torch.float64)
    products = torch.zeros(count, wanted.shape[1], dtype=torch.float64)
    for seen, answer in zip(inputs, wanted, strict=True):
        patches = functional.unfold(seen[None], 3, padding=1)[0]
        patches = torch.cat([patches, torch.ones(1, patches.shape[1])])
        gram += patches @ patches.T
        products += patches @ answer.flatten(1).T
    gram += 1e-4 * gram.diagonal().mean() * torch.eye(count, dtype=torch.float64)
    solution = torch.linalg.solve(gram, products).T.float()
    return solution[:, :-1].reshape(-1, inputs.shape[1], 3, 3), solution[:, -1]


@dataclass(frozen=True)
class Training:
    """How the autoencoder is trained."""

    steps: int
    crop: int  # pixels
    batch_size: int  # crops
    learning_rate: float  # peak of a one-cycle schedule
    seed: int
    state: Path  # file of the weights so far, from which a killed run resumes


def train_autoencoder(vae: AutoencoderKL, pictures: np.ndarray, training: Training) -> None:
    """Mean squared error on random crops, with a slight pull of the posterior to a unit normal.

    It resumes from `training.state` if an earlier run has left that; everything random about a step follows from the
    seed and its number, so the result is the same.
    """
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=training.learning_rate, weight_decay=0, betas=(0.9, 0.99), fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.steps, pct_start=0.04
    )
    learning, done = {"vae": vae, "optimizer": optimizer, "schedule": schedule}, 0
    if training.state.is_file():
        state = torch.load(training.state, weights_only=True)
        done = state.pop("done")
        for name, values in state.items():
            learning[name].load_state_dict(values)
    with tqdm(total=training.steps, initial=done, desc="autoencoder", unit="step") as progress:
        for step in range(done, training.steps):
            larger = 2 if step >= SMALL_CROPS * training.steps else 1
            rng, generator = np.random.default_rng([training.seed, step]), torch.Generator().manual_seed(step)
            crops = random_crops(pictures, max(1, training.batch_size // larger**2), training.crop * larger, rng)
            posterior = vae.encode(crops).latent_dist
            error = nn.functional.mse_loss(vae.decode(posterior.sample(generator)).sample, crops)
            kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
            (error + KL_WEIGHT * kl).backward()
            nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            progress.set_postfix(grey_levels=f"{127.5 * error.item() ** 0.5:.2f}", kl=f"{kl.item():.2f}", refresh=False)
            progress.update()
            if (step + 1) % SAVE_STEPS == 0:
                save_state(learning, step + 1, training.state)


def save_state(learning: dict, done: int, path: Path) -> None:
    """Save the state after so many steps, completely or not at all."""
    part = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: one.state_dict() for name, one in learning.items()} | {"done": done}, part)
    part.replace(path)


def random_crops(pictures: np.ndarray, count: int, crop: int, rng: np.random.Generator) -> Tensor:
    """Crops of random pictures as the autoencoder takes them: float32 (count, 3, crop, crop) in [-1, 1]."""
    _, height, width = pictures.shape
    crop_height, crop_width = min(crop, height), min(crop, width)
    crops = []
    for picture in rng.integers(len(pictures), size=count):
        top, left = rng.integers(height - crop_height + 1), rng.integers(width - crop_width + 1)
        crops.append(pictures[picture, top : top + crop_height, left : left + crop_width])
    grey = torch.from_numpy(np.stack(crops).astype(np.float32)) / 127.5 - 1
    return grey[:, None].expand(-1, 3, -1, -1)


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, pictures: np.ndarray, evenness: float) -> None:
    """Fold means and spreads of the latents into the layers around, so that they have mean 0 and spread 1 together.

    Each channel is divided by its own spread to the power `evenness`. At 0 channels keep their shares: strong ones
    are seen through more noise, weak ones at hardly any noise level. At 1 all are equally strong, the noise among
    them, too. The autoencoder stays the same function. InstructPix2Pix's condition, which is never scaled, then has
    the size of the noise.
    """
    latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in whole_pictures(pictures, 64)])
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3), correction=0)
    divisor = spread**evenness
    divisor *= (spread / divisor).square().mean().sqrt()
    moments, back = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    back.bias += torch.einsum("oi,i->o", back.weight[:, :, 0, 0], mean)
    back.weight *= divisor[:, None, None]
    moments.bias[:channels] = (moments.bias[:channels] - mean) / divisor
    moments.weight[:channels] /= divisor[:, None, None, None]
    moments.bias[channels:] -= 2 * divisor.log()  # the other half is the log of the variance


def whole_pictures(pictures: np.ndarray, count: int) -> list[Tensor]:
    """The first pictures, one a batch."""
    return [
        random_crops(picture[None], 1, max(picture.shape), np.random.default_rng(0)) for picture in pictures[:count]
    ]


@torch.no_grad()
def round_trip_error(vae: AutoencoderKL, pictures: np.ndarray) -> float:
    """Root mean square error of whole pictures through the autoencoder, in grey levels."""
    batches = whole_pictures(pictures, 32)
    errors = [(vae.decode(vae.encode(batch).latent_dist.mode()).sample - batch).square().mean() for batch in batches]
    return 127.5 * float(torch.stack(errors).mean().sqrt())
