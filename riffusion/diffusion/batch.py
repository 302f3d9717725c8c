"""The record that training passes from a dataset to the loss."""

from typing import TypedDict

from torch import Tensor


class Batch(TypedDict, total=False):
    """A batch of B training examples; a single example has the same keys without B.

    Latents have C channels and h x w cells, pictures H x W pixels, instructions T tokens of D values.

    Drawn for each example (`riffusion.training.examples`), always there:
        sample_noise     Tensor[B x C x h x w]  draws the target's latents from their posterior
        noise            Tensor[B x C x h x w]  added to the latents; what the UNet has to find
        offset           Tensor[B x C x 1 x 1]  the same for a whole channel, for offset noise
        timestep         Tensor[B]              int64, 0 has the least noise
        keep_text        Tensor[B]              bool, false where the instruction is dropped
        keep_image       Tensor[B]              bool, false where the input picture is dropped

    The two pictures, encoded once (`riffusion.diffusion.encode`):
        original         Tensor[B x C x h x w]  the input's latents: the posterior's mode, not scaled
        edited_mean      Tensor[B x C x h x w]  of the target's posterior
        edited_std       Tensor[B x C x h x w]  of the target's posterior
        changed          Tensor[B x h x w]      share of each cell's pixels that the edit changes; only if it is weighed
    or as they are:
        original_pixels  Tensor[B x 3 x H x W]  uint8
        edited_pixels    Tensor[B x 3 x H x W]  uint8

    The instruction, encoded once:
        text             Tensor[B x T x D]      the text encoder's states
    or as it is:
        token_ids        Tensor[B x T]          int64
    """

    sample_noise: Tensor
    noise: Tensor
    offset: Tensor
    timestep: Tensor
    keep_text: Tensor
    keep_image: Tensor
    original: Tensor
    edited_mean: Tensor
    edited_std: Tensor
    changed: Tensor
    original_pixels: Tensor
    edited_pixels: Tensor
    text: Tensor
    token_ids: Tensor
