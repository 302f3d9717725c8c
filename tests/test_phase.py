import distances
import numpy as np
import pytest
import torch
from whole_songs import sum_stems

from riffusion.image import mel_from_pixels, pixels_from_mel
from riffusion.painting import metrics
from riffusion.phase import change_from_mix_images, continued, stem_by_mask, stem_from_image
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams

CONVERTER = SpectrogramConverter()
SI_SDR_GAIN, LSD = 2.0, 3.0  # dB, of this clip; medians over many clips: benchmarks/phase.py


@pytest.fixture(scope="module")
def clip(excerpt) -> dict[str, torch.Tensor]:
    """One clip of real music, mono: backing, vocals and mix (1, samples)."""
    samples = SpectrogramParams().clip_samples
    cut = {"backing": sum_stems(excerpt, without="vocals"), "vocals": excerpt["vocals"]}
    cut = {name: torch.from_numpy(part[:, :samples].mean(axis=0, keepdims=True)) for name, part in cut.items()}
    return cut | {"mix": cut["backing"] + cut["vocals"]}


def mel(signal: torch.Tensor) -> torch.Tensor:
    return CONVERTER.mel_amplitudes_from_waveform(signal)


def test_equal_pictures_add_exactly_nothing(clip):
    backing = mel(clip["backing"])
    stem = change_from_mix_images(CONVERTER, clip["backing"], backing, backing)
    assert not stem.any()


def test_a_mix_picture_brings_the_output_nearer_to_the_true_mix(clip):
    stem = change_from_mix_images(CONVERTER, clip["backing"], mel(clip["backing"]), mel(clip["mix"]))
    backing, mix, painted = (part.numpy()[0] for part in (clip["backing"], clip["mix"], clip["backing"] + stem))
    assert stem.shape == clip["backing"].shape
    assert distances.si_sdr(painted, mix) - distances.si_sdr(backing, mix) > SI_SDR_GAIN
    assert distances.log_spectral_distance(painted, mix, 44100) < LSD


def test_noise_in_both_pictures_adds_next_to_nothing(clip):
    backing = mel(clip["backing"])
    noisy = []
    for seed in (0, 1):
        pixels = pixels_from_mel(backing.numpy(), 2 * float(backing.max()))
        pixels = pixels + np.random.default_rng(seed).normal(0, 4, pixels.shape)
        noisy.append(torch.from_numpy(mel_from_pixels(np.clip(np.rint(pixels), 0, 255), 2 * float(backing.max()))))
    stem = change_from_mix_images(CONVERTER, clip["backing"], *noisy)
    assert distances.si_sdr((clip["backing"] + stem).numpy(), clip["backing"].numpy()) > 45


def test_a_stem_continues_its_beginning(clip):
    """A window of which the first second is known goes on without a step, and keeps that second."""
    before = stem_from_image(CONVERTER, clip["backing"], mel(clip["vocals"]))
    start, known = 200 * 441, 44100
    rest = {name: clip[name][:, start:] for name in ("backing", "vocals")}
    prior = before[:, start : start + known]
    backing, mix = rest["backing"], mel(rest["backing"] + rest["vocals"])
    for after in (
        stem_from_image(CONVERTER, backing, mel(rest["vocals"]), prior),
        change_from_mix_images(CONVERTER, backing, mel(backing), mix, prior),
        stem_by_mask(CONVERTER, backing + rest["vocals"], mel(rest["vocals"]), prior),
    ):
        kept = slice(0, known - 1000)  # 20 ms of it go over into what continues it
        assert (after[:, kept] - prior[:, kept]).norm() < 0.02 * prior.norm()
        steps = (after[:, 1:] - after[:, :-1]).abs()
        assert steps[:, known - 1500 : known + 500].max() < steps.max()
        assert (mel(after) - mel(rest["vocals"])).norm() < 0.5 * mel(rest["vocals"]).norm()


def test_a_stem_sounds_where_the_input_is_silent(clip):
    backing = clip["backing"].clone()
    backing[:, 44100 : 3 * 44100] = 0
    stem = stem_from_image(CONVERTER, backing, mel(clip["vocals"]))
    gap = slice(120, 280)
    assert (mel(stem) - mel(clip["vocals"]))[..., gap].norm() < 0.25 * mel(clip["vocals"])[..., gap].norm()


def test_a_stem_picture_sounds_like_the_stem(clip):
    vocals = mel(clip["vocals"])
    stem = stem_from_image(CONVERTER, clip["backing"], vocals)
    again = mel(stem)
    assert stem.shape == clip["backing"].shape
    assert (again - vocals).norm() / vocals.norm() < 0.2
    true = metrics.measure_voicing(clip["vocals"][0].numpy(), 44100)
    heard = metrics.measure_voicing(stem[0].numpy(), 44100)
    assert heard.voiced_share > 0.5 * true.voiced_share
    assert heard.median_f0_hz == pytest.approx(true.median_f0_hz, rel=0.06)


def test_a_stem_of_the_input_is_taken_out_of_it(clip):
    original, edited = mel(clip["mix"]), mel(clip["vocals"])
    pixels = pixels_from_mel(edited.numpy(), float(original.max()))
    pixels = pixels + np.random.default_rng(0).normal(0, 6, pixels.shape)
    noisy = torch.from_numpy(mel_from_pixels(np.clip(np.rint(pixels), 0, 255), float(original.max()))).float()
    stem = stem_by_mask(CONVERTER, clip["mix"], noisy).numpy()[0]
    mix, vocals, backing = (clip[name].numpy()[0] for name in ("mix", "vocals", "backing"))
    assert distances.si_sdr(stem, vocals) > distances.si_sdr(mix, vocals) + 8
    assert distances.si_sdr(mix - stem, backing) > distances.si_sdr(mix, backing) + 4


def test_nothing_is_extracted_that_the_input_does_not_hold(clip):
    mix = clip["mix"].clone()
    mix[:, 44100 : 3 * 44100] = 0
    stem = stem_by_mask(CONVERTER, mix, mel(clip["vocals"]))
    assert stem[:, 44100 + 9000 : 3 * 44100 - 9000].abs().max() < 1e-4 < stem.abs().max()


def test_a_silent_stem_picture_is_silent(clip):
    stem = stem_from_image(CONVERTER, clip["backing"], torch.zeros_like(mel(clip["backing"])))
    assert np.abs(stem.numpy()).max() == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_a_cpu_gives(clip):
    gpu, backing = SpectrogramConverter(device="cuda"), clip["backing"]
    vocals, mixes = mel(clip["vocals"]), (mel(backing), mel(clip["mix"]))
    for expected, stem in (
        (stem_from_image(CONVERTER, backing, vocals), stem_from_image(gpu, backing, vocals)),
        (change_from_mix_images(CONVERTER, backing, *mixes), change_from_mix_images(gpu, backing, *mixes)),
        (stem_by_mask(CONVERTER, clip["mix"], vocals), stem_by_mask(gpu, clip["mix"], vocals)),
    ):
        assert (mel(stem.cpu()) - mel(expected)).norm() / mel(expected).norm() < 0.05


@pytest.mark.parametrize("rate", [24000, 44100])
def test_a_continued_stem_crossfades_within_20_ms_at_any_rate(rate):
    waveform, beginning = torch.zeros(1, rate), torch.ones(1, rate // 2)
    joined = continued(waveform, beginning, rate)[0].numpy()
    fading = (joined > 0) & (joined < 1)
    assert fading.sum() / rate == pytest.approx(0.02, abs=2.5 / rate)
    assert (joined[: rate // 2 - round(0.02 * rate)] == 1).all()
    assert (joined[rate // 2 :] == 0).all()
