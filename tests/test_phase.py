import numpy as np
import pytest
import torch

from riffusion import metrics, stems
from riffusion.phase import painted_stem
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams

CONVERTER = SpectrogramConverter()


@pytest.fixture(scope="module")
def clip(excerpt) -> dict[str, torch.Tensor]:
    """One clip of real music, mono: backing, vocals and mix (1, samples)."""
    samples = SpectrogramParams().clip_samples
    cut = {"backing": stems.sum_stems(excerpt, without="vocals"), "vocals": excerpt["vocals"]}
    cut = {name: torch.from_numpy(part[:, :samples].mean(axis=0, keepdims=True)) for name, part in cut.items()}
    return cut | {"mix": cut["backing"] + cut["vocals"]}


def si_sdr(estimate: torch.Tensor, reference: torch.Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019)."""
    estimate, reference = estimate.double().ravel(), reference.double().ravel()
    target = reference * (estimate @ reference) / (reference @ reference)
    return float(10 * torch.log10(target.square().sum() / (estimate - target).square().sum()))


def mel(signal: torch.Tensor) -> torch.Tensor:
    return CONVERTER.mel_amplitudes_from_waveform(signal)


def test_equal_pictures_add_exactly_nothing(clip):
    backing = mel(clip["backing"])
    stem = painted_stem(CONVERTER, clip["backing"], backing, backing, target="mix")
    assert not stem.any()


def test_a_mix_picture_brings_the_output_nearer_to_the_true_mix(clip):
    stem = painted_stem(CONVERTER, clip["backing"], mel(clip["backing"]), mel(clip["mix"]), target="mix")
    gain = si_sdr(clip["backing"] + stem, clip["mix"]) - si_sdr(clip["backing"], clip["mix"])
    assert stem.shape == clip["backing"].shape
    assert gain > 0.3


def test_a_stem_picture_sounds_like_the_stem(clip):
    backing, vocals = mel(clip["backing"]), mel(clip["vocals"])
    stem = painted_stem(CONVERTER, clip["backing"], backing, vocals, target="stem")
    again = mel(stem)
    assert stem.shape == clip["backing"].shape
    assert (again - vocals).norm() / vocals.norm() < 0.2
    true = metrics.measure_voicing(clip["vocals"][0].numpy(), 44100)
    heard = metrics.measure_voicing(stem[0].numpy(), 44100)
    assert heard.voiced_share > 0.5 * true.voiced_share
    assert heard.median_f0_hz == pytest.approx(true.median_f0_hz, rel=0.06)


def test_a_silent_stem_picture_is_silent(clip):
    backing = mel(clip["backing"])
    stem = painted_stem(CONVERTER, clip["backing"], backing, torch.zeros_like(backing), target="stem")
    assert np.abs(stem.numpy()).max() == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("target", ["stem", "mix"])
def test_a_gpu_gives_what_a_cpu_gives(clip, target):
    pictures = (mel(clip["backing"]), mel(clip["mix"] if target == "mix" else clip["vocals"]))
    expected = painted_stem(CONVERTER, clip["backing"], *pictures, target)
    stem = painted_stem(SpectrogramConverter(device="cuda"), clip["backing"], *pictures, target).cpu()
    assert (mel(stem) - mel(expected)).norm() / mel(expected).norm() < 0.05
