import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from conftest import TINY_CLIP, write_song
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image
from safetensors.torch import load_file

import preprocess_musdb
import train_instruct_pix2pix
from riffusion.errors import UserError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of two songs, one of them held out."""
    folder = tmp_path_factory.mktemp("pairs")
    for split in ("train", "valid"):
        write_song(folder / "songs" / split / f"{split} song")
    flags = ["--root_data_dir", str(folder / "songs"), "--output_dir", str(folder / "pairs")]
    preprocess_musdb.main(preprocess_musdb.parse_args([*flags, "--num_proc", "1", "--silence", *TINY_CLIP]))
    return folder / "pairs"


def train(pairs: Path, base: Path, output: Path, *flags: str) -> Path:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    common = ["--train_data_dir", str(pairs), "--pretrained_model_name_or_path", str(base), "--output_dir", str(output)]
    small = ["--train_batch_size", "2", "--lr_warmup_steps", "0", "--learning_rate", "1e-3", "--report_to", "none"]
    quick = ["--num_validation_images", "0"]
    train_instruct_pix2pix.main(train_instruct_pix2pix.parse_args([*common, *small, *quick, *flags]))
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def test_the_seeds_command_line_trains_a_model_that_diffusers_loads(pairs, tiny_base, tmp_path):
    command = f"""-m accelerate.commands.launch --num_processes 1 --cpu train_instruct_pix2pix.py
        --output_dir {tmp_path}
        --resume_from_checkpoint latest --seed 0 --max_train_steps 2 --resolution 512 --train_batch_size 4
        --dataloader_num_workers 1 --checkpointing_steps 1 --checkpoints_total_limit 3
        --conditioning_dropout_prob=0.05 --gradient_checkpointing --num_validation_images 1
        --train_data_dir {pairs} --pretrained_model_name_or_path {tiny_base}"""
    run = subprocess.run([sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path)
    painted = pipeline("add a vocal", image=Image.new("RGB", (64, 512), "white"), num_inference_steps=2).images[0]
    assert painted.size == (64, 512)
    facts = json.loads((tmp_path / "riffusion.json").read_text())
    assert (facts["target"], facts["params"]["num_frames"]) == ("stem", 64)
    assert json.loads((tmp_path / "training.json").read_text())["max_train_steps"] == 2
    assert Image.open(tmp_path / "validation" / "step-2.png").height == 512
    assert "held-out loss" in run.stderr + run.stdout


def test_stopping_and_resuming_changes_no_bit(pairs, tiny_base, tmp_path):
    flags = ("--max_train_steps", "4", "--checkpointing_steps", "2", "--use_ema", "--train_text_encoder")
    straight = train(pairs, tiny_base, tmp_path / "straight", *flags)
    halves = tmp_path / "halves"
    train(pairs, tiny_base, halves, *flags[2:], "--max_train_steps", "2")
    train(pairs, tiny_base, halves, *flags, "--resume_from_checkpoint", "latest")
    for name, weight in weights(straight).items():
        assert torch.equal(weight, weights(halves)[name]), name
    text = [load_file(folder / "text_encoder" / "model.safetensors") for folder in (straight, halves)]
    assert all(torch.equal(text[0][name], text[1][name]) for name in text[0])


def test_training_moves_every_part_of_the_unet(pairs, tiny_base, tmp_path):
    trained = weights(train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "2"))
    before = weights(tiny_base)
    assert trained["conv_in.weight"].shape[1] == 2 * before["conv_in.weight"].shape[1]
    assert trained["conv_in.weight"][:, 4:].any()
    still = [name for name in before if name != "conv_in.weight" and torch.equal(trained[name], before[name])]
    assert still == []


def test_a_trained_model_trains_on(pairs, tiny_base, tmp_path):
    first = train(pairs, tiny_base, tmp_path / "first", "--max_train_steps", "1", "--save_precision", "fp16")
    second = train(pairs, first, tmp_path / "second", "--max_train_steps", "1", "--gradient_accumulation_steps", "2")
    assert weights(first)["conv_in.weight"].dtype == torch.float16
    assert weights(second)["conv_in.weight"].shape == weights(first)["conv_in.weight"].shape


def test_only_the_newest_checkpoints_stay(pairs, tiny_base, tmp_path):
    flags = ("--max_train_steps", "4", "--checkpointing_steps", "1", "--checkpoints_total_limit", "2")
    output = train(pairs, tiny_base, tmp_path / "out", *flags)
    assert {path.name for path in output.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-4"}


def test_bad_input_is_one_clear_line(pairs, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="not a model in diffusers' layout"):
        train(pairs, pairs, tmp_path / "out")
    with pytest.raises(UserError, match="holds no pairs"):
        train(tiny_base, tiny_base, tmp_path / "out")
    with pytest.raises(UserError, match="no column nothing"):
        train(pairs, tiny_base, tmp_path / "out", "--edit_prompt_column", "nothing")
    with pytest.raises(UserError, match="checkpoint-7: no such checkpoint"):
        train(pairs, tiny_base, tmp_path / "out", "--resume_from_checkpoint", "checkpoint-7")
    with pytest.raises(UserError, match="512 pixels high and --resolution says 256"):
        train(pairs, tiny_base, tmp_path / "out", "--resolution", "256")
    assert not (tmp_path / "out").exists()
    wrong = {"--train_batch_size": "0", "--max_train_steps": "0", "--lr_scheduler": "magic", "--seed": "-1"}
    for flags in (*wrong.items(), ("--conditioning_dropout_prob", "0.5")):
        with pytest.raises(SystemExit) as exit_code:
            train_instruct_pix2pix.parse_args(flags)
        assert exit_code.value.code == 2
