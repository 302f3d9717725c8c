import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from test_model import cached_model

from riffusion.diffusion import lora
from riffusion.diffusion.model_files import check_model
from riffusion.util.errors import UserError

ROOT = Path(__file__).parents[2]
CODE = """
import sys, {script}
from riffusion.util.errors import UserError
try:
    {script}.main({script}.parse_args(sys.argv[1:]))
except UserError as error:
    print(error, [name for name in ("torch", "diffusers", "transformers", "datasets") if name in sys.modules])
"""


def test_what_is_no_model_is_refused_by_what_it_is(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "file.ckpt").write_text("weights")
    other = shutil.copytree(tiny_base, tmp_path / "other")
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline", "unet": [None, None]}))
    (tmp_path / "updates").mkdir()
    (tmp_path / "updates" / lora.BASE_FILE).write_text('{"base": "/no/base"}')
    for name, said in {
        "/no/where": "/no/where: no such folder",
        "./where": "./where: no such folder",
        "in/three/parts": "in/three/parts: no such folder",
        "notes.txt": "notes.txt: is neither a model's folder nor a .safetensors or .ckpt file",
        "missing.safetensors": "missing.safetensors: no such file",
        "empty": "empty: not a model in diffusers' layout",
        "other": "other: is a FluxPipeline; what is needed",
        "updates": "/no/base: no such folder",
        "models/small": "model 'models/small' is not a folder here and the Hub can't be reached",
    }.items():
        with pytest.raises(UserError) as refused:
            check_model(name)
        assert str(refused.value).startswith(said)
    with pytest.raises(UserError, match="no such folder; the settings of file.ckpt"):
        check_model("file.ckpt", config="nowhere")


def test_what_may_be_a_model_is_not_refused(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    check_model(str(tiny_base))
    cached_model(tiny_base, tmp_path, revision="old")
    check_model("some/model", revision="old", cache_dir=tmp_path)
    with pytest.raises(UserError, match="the Hub can't be reached"):
        check_model("some/model", cache_dir=tmp_path)
    (tmp_path / "file.ckpt").write_text("weights")
    check_model(str(tmp_path / "file.ckpt"), config=str(tiny_base))
    (tmp_path / lora.BASE_FILE).write_text(json.dumps({"base": str(tiny_base)}))
    check_model(str(tmp_path))


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("inference_instruct_pix2pix", "--model_id"),
        ("train_instruct_pix2pix", "--pretrained_model_name_or_path"),
    ],
)
def test_a_wrong_path_is_told_before_what_takes_seconds_to_import(script, flag):
    command = [sys.executable, "-c", CODE.format(script=script), flag, "/no/where"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.stdout == "/no/where: no such folder []\n", run.stderr
