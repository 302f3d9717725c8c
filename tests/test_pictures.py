import numpy as np
import pytest
from conftest import RATE, tone

from riffusion.clips import Clip
from riffusion.edits import Edit
from riffusion.pictures import draw_pictures
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams

CONVERTER = SpectrogramConverter(SpectrogramParams(num_frames=64))
BACKING = frozenset({"bass"})


def draw(vocals: np.ndarray, target: str, edit: Edit):
    samples = CONVERTER.params.clip_samples
    stems = {"vocals": vocals[0, :samples], "bass": tone(110, 1.0)[0, :samples]}
    clip = Clip(0, 0.0, 0, RATE, stems, dict.fromkeys(stems, 1.0))
    backing = BACKING if edit.task == "add" else BACKING | {"vocals"}
    (pictures,) = draw_pictures(clip, [(backing, [edit])], target, CONVERTER)
    return pictures


def test_a_silent_stem_leaves_the_mix_as_it_is(tmp_path):
    pictures = draw(np.zeros((1, RATE), np.float32), "mix", Edit("add", "vocals"))
    record = pictures.save(Edit("add", "vocals"), tmp_path / "clip", with_wav=True)
    files = [(tmp_path / name).read_bytes() for name in record.values()]
    assert files[0] == files[1]
    assert pictures.changed_share(Edit("add", "vocals")) == 0
    assert len(list(tmp_path.glob("*.wav"))) == 2


@pytest.mark.parametrize("task", ["add", "remove", "extract"])
def test_both_targets_change_about_the_same_pixels(task):
    edit = Edit(task, "vocals")
    shares = [draw(tone(660, 1.0), target, edit).changed_share(edit) for target in ("mix", "stem")]
    assert min(shares) > 0.02
    if task != "extract":  # which in a mix changes everything but the stem
        assert shares[0] == pytest.approx(shares[1], rel=0.35)


def test_no_signal_clips_and_all_have_one_scale():
    pictures = draw(tone(660, 1.0, level=1.5), "mix", Edit("add", "vocals"))
    assert 0.2 < pictures.gain < 1
    tops = {image.getexif()[11080] for image in pictures.images.values()}
    assert list(tops) == pytest.approx([pictures.max_value], rel=1e-6)
