import math
import subprocess
import sys
from pathlib import Path

import pytest

from riffusion.painting.options import LIMITS, PaintOptions
from riffusion.util.errors import UserError


@pytest.mark.parametrize("name", LIMITS)
def test_a_number_beyond_its_limits_is_refused(name):
    low, high = LIMITS[name]
    assert getattr(PaintOptions(**{name: low}), name) == low
    with pytest.raises(UserError, match=f"^{name} must be from {low} to {high}, not {low - 1}$"):
        PaintOptions(**{name: low - 1})
    if math.isfinite(high):
        with pytest.raises(UserError, match=f"not {high + 1}$"):
            PaintOptions(**{name: high + 1})


def test_a_search_has_every_pair_of_scales_once_each_with_a_folder():
    options = PaintOptions(base_save_path=Path("out"), guidance_scale=(5.0, 10.0, 5.0), image_guidance_scale=(1.5,))
    assert options.is_search
    assert options.guidance_grid() == [(5.0, 1.5), (10.0, 1.5)]
    folders = [options.guidance_folder(*scales) for scales in options.guidance_grid()]
    assert folders == [Path("out/text-5-image-1.5"), Path("out/text-10-image-1.5")]
    assert PaintOptions(guidance_scale=(5.0, 2.5)).guidance_folder(2.5, None) == Path("outputs/text-2.5")


def test_one_guidance_or_none_is_no_search():
    assert PaintOptions().guidance_grid() == [(None, None)]
    for options in (PaintOptions(), PaintOptions(guidance_scale=(5.0,)), PaintOptions(guidance_scale=(5.0, 5.0))):
        assert not options.is_search
        assert options.guidance_folder(*options.guidance_grid()[0]) == Path("outputs")


def test_a_song_from_standard_input_is_piped():
    assert PaintOptions(audio=("-",)).is_piped
    assert not PaintOptions(audio=("-", "song.wav")).is_piped
    assert not PaintOptions().is_piped


def test_options_import_nothing_heavy():
    code = (
        "import sys, riffusion.painting.options; print({'torch', 'numpy', 'diffusers', 'datasets'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
