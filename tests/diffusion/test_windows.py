import numpy as np
import pytest

from riffusion.diffusion.windows import OVERLAP, Canvas, LevelBlend, tile, triangular_window


def blend_levels(canvas: Canvas, levels: list[float]) -> np.ndarray:
    blend = LevelBlend(canvas)
    for start, level in zip(canvas.starts, levels, strict=True):
        blend.add(start, level)
    return blend.levels()


@pytest.mark.parametrize("total", [40, 64, 65, 100, 113, 160, 700])
def test_windows_cover_a_canvas_evenly_and_overlap(total):
    canvas = tile(total, 64)
    steps = np.diff(canvas.starts)
    assert canvas.starts[0] == 0
    assert canvas.total == max(total, 64)
    assert (steps <= 64 * (1 - OVERLAP)).all()
    assert np.ptp(steps) <= 1 if len(steps) else total <= 64


def test_every_place_belongs_to_one_window_that_shows_it():
    canvas = tile(700, 64)
    seams = canvas.seams()
    assert (seams[0], seams[-1]) == (0, 700)
    for start, first, end in zip(canvas.starts, seams, seams[1:], strict=False):
        assert start <= first < end <= start + 64


def test_a_canvas_in_frames_lies_where_it_lies_in_columns():
    canvas = Canvas((0, 45, 91), 64)
    assert canvas.scaled(8) == Canvas((0, 360, 728), 512)


def test_levels_fade_into_one_another_and_never_below_what_a_window_needs():
    canvas = tile(112, 64)  # two windows that share 16
    assert canvas.starts == (0, 48)
    blend = blend_levels(canvas, [1.0, 3.0])
    assert (blend[:48] == 1).all()
    assert (blend[64:] == 3).all()
    assert np.diff(blend[47:65]) == pytest.approx(2 / 17, rel=1e-5)
    loudness = np.random.default_rng(0).exponential(size=700)
    canvas = tile(700, 64)
    blend = blend_levels(canvas, [loudness[start : start + 64].max() for start in canvas.starts])
    assert (blend >= loudness * (1 - 1e-6)).all()


def test_a_window_alone_has_its_own_level_and_every_place_some_weight():
    assert (blend_levels(Canvas((0,), 64), [0.3]) == np.float32(0.3)).all()
    assert triangular_window(5).tolist() == [1, 2, 3, 2, 1]


def test_a_windows_levels_are_final_once_all_that_overlap_it_are_known():
    canvas = tile(700, 64)
    levels = np.random.default_rng(0).exponential(size=len(canvas.starts)).tolist()
    whole, blend, shown = blend_levels(canvas, levels), LevelBlend(canvas), []
    for start, level, following in zip(canvas.starts, levels, [*canvas.starts[1:], canvas.total], strict=True):
        blend.add(start, level)
        shown += [
            (first, blend.levels(first, first + 64))
            for first in canvas.starts[len(shown) :]
            if first + 64 <= following and first <= start
        ]
    assert [first for first, _ in shown] == list(canvas.starts)
    assert all((part == whole[first : first + 64]).all() for first, part in shown)
