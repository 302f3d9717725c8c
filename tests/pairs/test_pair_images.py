from dataclasses import astuple

import numpy as np
import pytest
import torch
from conftest import RATE, tone

from riffusion.pairs.clips import Clip
from riffusion.pairs.pair_images import draw_images
from riffusion.pairs.tasks import ADD, EXTRACT, REMOVE, Edit
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams

CONVERTER = SpectrogramConverter(SpectrogramParams(num_frames=64))
BACKING = frozenset({"bass"})


def draw(vocals: np.ndarray, target: str, edit: Edit):
    samples = CONVERTER.params.clip_samples
    stems = {"vocals": vocals[0, :samples], "bass": tone(110, 1.0)[0, :samples]}
    clip = Clip(0, 0.0, 0, RATE, stems, dict.fromkeys(stems, 1.0))
    backing = BACKING if edit.task == ADD else BACKING | {"vocals"}
    (pictures,) = draw_images(clip, [(backing, [edit])], target, CONVERTER)
    return pictures


class CountingConverter(SpectrogramConverter):
    """Counts the waveforms that it transforms."""

    transformed = 0

    def mel_amplitudes_from_waveform(self, waveform, mixes=None):
        self.transformed += len(waveform)
        return super().mel_amplitudes_from_waveform(waveform, mixes)


def draw_many(number: int, painted: int) -> tuple[list, CountingConverter]:
    """Two backings of a clip of `number` stems, each asked for `painted` stems; and what it was transformed with."""
    converter = CountingConverter(CONVERTER.params)
    samples = converter.params.clip_samples
    stems = {f"part {part:02d}": tone(80 * 1.1**part, 1.0, 0.02)[0, :samples] for part in range(number)}
    names = sorted(stems)
    edits = [Edit(ADD, name) for name in names[:painted]]
    backings = [frozenset(names[painted:]), frozenset(names[painted + 1 :])]
    clip = Clip(0, 0.0, 0, RATE, stems, dict.fromkeys(stems, 1.0))
    return list(draw_images(clip, [(backing, edits) for backing in backings], "stem", converter)), converter


def test_many_stems_take_few_transforms():
    few, many, others = (draw_many(*numbers)[1].transformed for numbers in ((4, 2), (24, 2), (24, 4)))
    assert few == many == 4
    assert others == 6


def test_mixes_of_many_stems_look_as_if_each_was_transformed_alone():
    for number, painted in ((4, 2), (24, 2), (24, 4)):
        drawn, converter = draw_many(number, painted)
        for pictures in drawn:
            for names, mel in pictures.mels.items():
                waveform = torch.from_numpy(pictures.clip.mix(names))[None]
                alone = converter.mel_amplitudes_from_waveform(waveform)[0].numpy()
                np.testing.assert_allclose(mel, alone, rtol=1e-3, atol=1e-4 * alone.max())


def test_a_silent_stem_leaves_the_mix_as_it_is(tmp_path):
    pictures = draw(np.zeros((1, RATE), np.float32), "mix", Edit(ADD, "vocals"))
    images = pictures.save(Edit(ADD, "vocals"), tmp_path / "clip", with_wav=True)
    files = [(tmp_path / name).read_bytes() for name in astuple(images)]
    assert files[0] == files[1]
    assert pictures.changed_share(Edit(ADD, "vocals")) == 0
    assert len(list(tmp_path.glob("*.wav"))) == 2


@pytest.mark.parametrize("task", [ADD, REMOVE, EXTRACT], ids=str)
def test_both_targets_change_about_the_same_pixels(task):
    edit = Edit(task, "vocals")
    shares = [draw(tone(660, 1.0), target, edit).changed_share(edit) for target in ("mix", "stem")]
    assert min(shares) > 0.02
    if task != EXTRACT:  # which in a mix changes everything but the stem
        assert shares[0] == pytest.approx(shares[1], rel=0.35)


def test_no_signal_clips_and_all_have_one_scale():
    pictures = draw(tone(660, 1.0, level=1.5), "mix", Edit(ADD, "vocals"))
    assert 0.2 < pictures.gain < 1
    tops = {image.getexif()[11080] for image in pictures.images.values()}
    assert list(tops) == pytest.approx([pictures.max_value], rel=1e-6)
