import base64
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone
from PIL import Image

import inference_instruct_pix2pix
import riffusion
from riffusion.painting.result import read_result
from riffusion.util.errors import UserError


def test_the_door_paints_the_same_samples_as_the_script(tiny_models, tmp_path):
    song = np.concatenate([tone(220, 1.5), tone(330, 1.5)])
    soundfile.write(tmp_path / "audio.wav", song.T, RATE, subtype="FLOAT")
    flags = ["--model_id", str(tiny_models["stem"]), "--base_save_path", str(tmp_path / "out"), "--seed", "3"]
    flags += ["--audio", str(tmp_path / "audio.wav"), "--prompt", "add a vocal", "--start", "0.5", "--pan", "-0.5"]
    flags += ["--num_inference_steps", "2", "--num_candidates", "2", "--guidance_scale", "3"]
    assert inference_instruct_pix2pix.main(inference_instruct_pix2pix.parse_args(flags)) == 0
    options = {"start": 0.5, "pan": -0.5, "num_inference_steps": 2, "num_candidates": 2, "guidance_scale": 3.0}
    painting = riffusion.paint(song, RATE, "add a vocal", str(tiny_models["stem"]), seed=3, **options)
    folder = tmp_path / "out" / "audio"
    for name, ours in (("painted", painting.painted), ("stem", painting.stem)):
        samples, rate = soundfile.read(folder / f"{name}.wav", dtype="float32", always_2d=True)
        assert (ours.dtype, ours.shape, painting.sample_rate) == (np.float32, song.shape, rate)
        assert (ours == samples.T).all()
    assert painting.stem.any()
    script = read_result(folder)
    assert painting.measurements is painting.result.measured
    for result in (painting.result, script):
        result.settings["input_sha256"] = "of two files with the same samples"
    ours, theirs = (json.dumps(result.to_json()) for result in (painting.result, script))
    assert ours == theirs  # as text, where NaN equals NaN


def test_one_channel_may_be_a_row_of_samples(tiny_models):
    options = {"model": str(tiny_models["mix"]), "seed": 0, "num_inference_steps": 1}
    row, column = (
        riffusion.paint(audio, RATE, "add a vocal", **options) for audio in (tone(220, 1.0)[0], tone(220, 1.0))
    )
    assert row.painted.shape == row.stem.shape == (1, RATE)
    assert (row.painted == column.painted).all()
    assert np.abs(row.painted - row.stem - tone(220, 1.0)).max() <= 2**-23


def test_a_notebook_shows_pictures_players_and_measurements(tiny_models):
    song = np.concatenate([tone(220, 1.0), tone(330, 1.0)])
    painting = riffusion.paint(song, RATE, "add <a> vocal", str(tiny_models["stem"]), seed=0, num_inference_steps=1)
    html = painting._repr_html_()
    assert "add &lt;a&gt; vocal" in html and ">edit performed</th>" in html
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]*)"', html)
    for encoded, sound in zip(sounds, (painting.painted, painting.stem), strict=True):
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)))
        assert (samples.shape, rate) == (song.T.shape, RATE)
        assert np.abs(samples.T - sound).max() <= 2**-15
    pictures = [Image.open(io.BytesIO(base64.b64decode(one))) for one in re.findall(r"image/png;base64,([^\"]*)", html)]
    assert [picture.size for picture in pictures] == [(101, 512)] * 2


def test_a_model_may_be_loaded_once_for_many_paintings(tiny_models, capfd):
    song, name = tone(220, 1.0), str(tiny_models["stem"])
    model = riffusion.load(name, device="cpu")
    pipeline = model.painter.pipeline
    for prompt in ("add a vocal", "remove the bass"):
        options = {"seed": 1, "num_inference_steps": 1, "batch_size": 2}
        again = riffusion.paint(song, RATE, prompt, model, **options)
        anew = riffusion.paint(song, RATE, prompt, name, device="cpu", **options)
        assert (again.painted == anew.painted).all()
        assert again.result.settings == anew.result.settings
    assert model.painter.pipeline is pipeline
    assert capfd.readouterr().err == ""
    with pytest.raises(UserError, match="precision: must be given when the model is loaded"):
        riffusion.paint(song, RATE, "add a vocal", model, precision="bf16")
    with pytest.raises(UserError, match="seed: must be given when something is painted"):
        riffusion.load(name, seed=1)


def test_what_cannot_be_painted_into_is_one_clear_line(tiny_models):
    model = str(tiny_models["stem"])
    for audio, options, reason in (
        (np.zeros((1, 2, RATE)), {}, r"must be \(channels, samples\)"),
        (np.full((1, RATE), np.nan), {}, "NaN"),
        (tone(220, 0.2), {}, "0.200 s is too short"),
        (tone(220, 1.0), {"pan": 2.0}, "pan must be from -1 to 1, not 2.0"),
        (tone(220, 1.0), {"start": 3.0}, "beyond its end"),
        (tone(220, 1.0), {"task": "replace"}, "'replace' is not one of the tasks"),
    ):
        with pytest.raises(UserError, match=reason):
            riffusion.paint(audio, RATE, "add a vocal", model, **options)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, riffusion; print([name for name in ('torch', 'numpy', 'diffusers') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
