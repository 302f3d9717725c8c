import numpy as np
import pytest
import torch
from conftest import cut, tone, write_original_folder, write_pair_folder
from PIL import Image

from riffusion.diffusion.encode import picture_pixels
from riffusion.image import grey_levels, image_from_spectrogram
from riffusion.painting.dataset_items import Item, ItemAudio, read_items
from riffusion.pairs.dataset import load_splits
from riffusion.pairs.tasks import ADD
from riffusion.spectrogram import SpectrogramConverter
from riffusion.spectrogram_params import INT16_SCALE, SpectrogramParams
from riffusion.util.errors import UserError

PARAMS = SpectrogramParams(num_frames=64)


@pytest.mark.parametrize("level", [1.0, 0.001])
def test_riffusions_scale_of_integers_is_no_louder(level):
    converter = SpectrogramConverter(PARAMS)
    waveform = torch.from_numpy(tone(220, 0.64, level))
    mel = converter.mel_amplitudes_from_waveform(waveform).numpy()
    pictures = [image_from_spectrogram(mel * scale, PARAMS) for scale in (1, INT16_SCALE)]
    items = [Item("a", "a", picture, picture, "add a vocal", ADD, "mix") for picture in pictures]
    ours, theirs = (item.mel(item.original).numpy() for item in items)
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)
    sounds = [float(ItemAudio(item, converter).backing.square().mean().sqrt()) for item in items]
    assert sounds[0] == pytest.approx(float(waveform.square().mean().sqrt()), rel=0.2)
    assert sounds[1] == pytest.approx(sounds[0], rel=1e-3)


def test_items_of_the_original_project(tmp_path):
    records = load_splits(str(write_original_folder(tmp_path / "set")), tmp_path / "cache")["train"]
    items = read_items(records)
    assert [(item.task, item.target) for item in items] == [(ADD, "mix")] * 3
    assert {item.max_value for item in items} == {22182148.0 / INT16_SCALE}


def test_a_damaged_picture_is_named(tmp_path):
    picture = write_pair_folder(tmp_path / "set") / "1_out.png"
    records = load_splits(str(tmp_path / "set"), tmp_path / "cache")["train"]
    cut(picture)
    with pytest.raises(UserError, match=f"^{picture}: can't read this picture"):
        read_items(records)
    assert len(read_items(records.select([0, 2]))) == 2


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_a_picture_of_any_mode_is_trained_on_as_it_sounds(mode):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(grey).convert(mode)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(np.tril(np.full((16, 16), 255, np.uint8))))
        grey = np.where(np.tril(np.ones((16, 16), bool)), grey, 255)
    pixels = picture_pixels(image).numpy()
    assert (pixels == grey_levels(image)).all()
    assert mode == "1" or (pixels == grey).all()
