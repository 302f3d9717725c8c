import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState, GradientState, PartialState
from conftest import TINY_CLIP, cut, write_original_folder, write_pair_folder, write_song
from diffusers import PNDMScheduler, StableDiffusionInstructPix2PixPipeline
from loopback_hub import USER, client_environment, loopback_hub
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import preprocess_musdb
import train_instruct_pix2pix
from riffusion.diffusion import model
from riffusion.diffusion.knowledge import Knowledge, load_knowledge, save_knowledge
from riffusion.diffusion.sampling import choose_settings, edit_images, sample_generator
from riffusion.training import checkpoints, outputs
from riffusion.util.errors import UserError
from riffusion.util.runtime import only_run

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


def script(pairs: Path, base: Path, output: Path, *flags: str) -> list[str]:
    """The command line of a run in a process of its own."""
    files = ["--train_data_dir", pairs, "--pretrained_model_name_or_path", base, "--output_dir", output]
    small = ["--train_batch_size", "2", "--num_validation_images", "0", "--report_to", "none"]
    return [str(part) for part in (ROOT / "train_instruct_pix2pix.py", *files, *small, *flags)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def test_the_seeds_command_line_trains_and_uploads_a_model_that_diffusers_loads(pairs, tiny_base, tmp_path):
    command = f"""-m accelerate.commands.launch --config_file configs/cpu.yaml train_instruct_pix2pix.py
        --output_dir {tmp_path}/out
        --resume_from_checkpoint latest --seed 0 --max_train_steps 2 --resolution 512 --train_batch_size 4
        --dataloader_num_workers 1 --checkpointing_steps 1 --checkpoints_total_limit 3
        --conditioning_dropout_prob=0.05 --gradient_checkpointing --num_validation_images 1
        --train_data_dir {pairs} --pretrained_model_name_or_path {tiny_base}
        --push_to_hub --hub_model_id {USER}/model"""
    output = tmp_path / "out"
    with loopback_hub() as hub:
        environment = client_environment(hub.url, tmp_path / "home")
        command = [sys.executable, *command.split()]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        uploaded = set(hub.branches[f"{USER}/model"]["main"])
    assert {"README.md", "model_index.json", "riffusion.json", "unet/diffusion_pytorch_model.safetensors"} <= uploaded
    aside = ("checkpoint-", "originals-", "edits-", "texts-", "validation", "logs", "home")
    assert not [name for name in uploaded if name.startswith(aside)]
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(output)
    painted = pipeline("add a vocal", image=Image.new("RGB", (64, 512), "white"), num_inference_steps=2).images[0]
    assert painted.size == (64, 512)
    facts = json.loads((output / "riffusion.json").read_text())
    assert (facts["target"], facts["params"]["num_frames"]) == ("stem", 64)
    assert json.loads((output / "training.json").read_text())["max_train_steps"] == 2
    assert Image.open(output / "validation" / "step-2.png").height == 512
    assert "held-out loss" in run.stderr + run.stdout
    assert Image.open(output / "validation" / "step-1.png").size == (3 * 64 + 2 * 8, 512)
    sounds = sorted(path.name for path in (output / "validation").glob("*.wav"))
    assert sounds == [f"record-0-{name}.wav" for name in ("input", "step-1", "step-2", "target")]
    board = EventAccumulator(str(output / "logs" / "train_instruct_pix2pix"))
    board.Reload()
    assert {"loss", "samples_per_second", "held_out_loss", "training_loss", "gap"} <= set(board.Tags()["scalars"])
    assert board.Tags()["images"] == ["input, painted, target"]
    assert "record 0, painted" in board.Tags()["audio"]
    card = (output / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: diffusers")
    assert "| max_train_steps | 2 |" in card
    assert "| output_dir | out |" in card  # nothing of this machine's folders


def test_the_card_names_the_data_that_was_used_and_no_figure_that_is_none(pairs, tiny_base, tmp_path):
    songs_alone = tmp_path / "pairs" / "train"
    shutil.copytree(pairs / "train", songs_alone)  # nothing is held out
    output = train(tmp_path / "pairs", tiny_base, tmp_path / "out", "--max_train_steps", "1")
    card = (output / "README.md").read_text()
    assert "| train_data_dir | pairs |" in card
    assert "musdb18-spec-pix2pix" not in card
    assert "dataset_name" not in json.loads((output / "training.json").read_text())
    assert "num_train_epochs" not in card
    cells = [cell.strip() for line in card.splitlines() if line.startswith("| ") for cell in line.split("|")[1:-1]]
    assert not {"nan", "inf", "None", "-"} & set(cells)
    assert "held_out_loss" not in cells


def test_stopping_and_resuming_changes_no_bit(pairs, tiny_base, tmp_path, capfd):
    flags = ("--max_train_steps", "4", "--checkpointing_steps", "2", "--use_ema", "--train_text_encoder")
    straight = train(pairs, tiny_base, tmp_path / "straight", *flags)
    told = capfd.readouterr()
    assert "resumed" not in told.out
    assert "\ntrain_batch_size: 2\n" in told.out and "\nuse_ema: True\n" in told.out
    assert "adam_beta1" not in told.out and "None" not in told.out  # as they are by themselves
    assert not re.search("Loading|Writing|Fetching", told.err)  # by which diffusers and transformers name their bars
    halves = tmp_path / "halves"
    train(pairs, tiny_base, halves, *flags[2:], "--max_train_steps", "2")
    train(pairs, tiny_base, halves, *flags, "--resume_from_checkpoint", "latest")
    assert f"resumed from {halves}/checkpoint-2\n" in capfd.readouterr().out
    for name, weight in weights(straight).items():
        assert torch.equal(weight, weights(halves)[name]), name
    text = [load_file(folder / "text_encoder" / "model.safetensors") for folder in (straight, halves)]
    assert all(torch.equal(text[0][name], text[1][name]) for name in text[0])


def test_crops_of_stratified_noise_train_and_the_losses_of_whole_pictures_are_told_apart_by_noise(
    pairs, tiny_base, tmp_path
):
    flags = (
        "--crop_frames",
        "32",
        "--stratified_timesteps",
        "--timestep_shift",
        "3.5",
        "--timestep_shift_share",
        "0.5",
    )
    output = train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "2", "--image_dropout_prob", "0", *flags)
    result = json.loads((output / "result.json").read_text())
    assert result["finished"]
    assert np.mean(list(result["held_out_by_noise"].values())) == pytest.approx(result["held_out_loss"])
    for frames in ("12", "128", "1"):
        with pytest.raises(UserError, match=f"--crop_frames {frames} must be a multiple of 8, 64 at most"):
            train(pairs, tiny_base, tmp_path / frames, "--max_train_steps", "1", "--crop_frames", frames)


@pytest.mark.parametrize(
    ("name", "warmup", "course"),
    [
        ("constant_with_warmup", 2, (0.5, 1, 1, 1)),
        ("linear", 0, (3 / 4, 2 / 4, 1 / 4, 0)),
        ("cosine", 1, (1, 3 / 4, 1 / 4, 0)),
    ],
)
def test_the_learning_rate_warms_up_and_ends_as_its_schedule_says(pairs, tiny_base, tmp_path, name, warmup, course):
    flags = ("--lr_scheduler", name, "--lr_warmup_steps", str(warmup), "--learning_rate", "1e-4")
    output = train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "4", "--checkpointing_steps", "1", *flags)
    states = [torch.load(output / f"checkpoint-{step}" / "scheduler.bin") for step in range(1, 5)]
    assert [state["_last_lr"][0] for state in states] == pytest.approx([1e-4 * part for part in course], abs=1e-12)


def test_a_checkpoint_of_another_kind_of_run_is_refused(pairs, tiny_base, tmp_path):
    output = train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "1")
    with pytest.raises(UserError, match="checkpoint-1 was made with other flags"):
        train(pairs, tiny_base, output, "--max_train_steps", "2", "--resume_from_checkpoint", "latest", "--use_ema")


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
    knowledge = load_knowledge(str(first))
    assert knowledge.stems == ("bass", "drums", "other", "vocals") and {"bass", "drums"} <= {*knowledge.instruments}
    assert (knowledge.songs, knowledge.pairs > 0, "violin" in knowledge.instruments) == (1, True, False)
    save_knowledge(first, Knowledge(1, 1, ("flute",), ("flute",), ("It can't whistle.",)))
    third = train(pairs, first, tmp_path / "third", "--max_train_steps", "1")
    assert load_knowledge(str(third)) == knowledge.with_more(Knowledge(1, 1, ("flute",), ("flute",)))


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(pairs, tiny_base, tmp_path):
    # a large epsilon: Adam makes a step of full size out of a gradient that is nothing but rounding
    flags = ("--max_train_steps", "3", "--lr_warmup_steps", "0", "--adam_epsilon", "1e-3", "--seed", "3")
    one = train(pairs, tiny_base, tmp_path / "one", *flags, "--train_batch_size", "4")
    two = script(pairs, tiny_base, tmp_path / "two", *flags, "--learning_rate", "1e-3")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *two]
    run = subprocess.run(command, env=os.environ | {"ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    before, ends = weights(tiny_base), (weights(one), weights(tmp_path / "two"))
    moved = max(float((ends[0][name] - before[name]).abs().max()) for name in before if name != "conv_in.weight")
    apart = max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0])
    assert apart < 1e-4 * moved
    losses = [json.loads((tmp_path / name / "result.json").read_text())["training_loss"] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    more = ("--max_train_steps", "4", "--resume_from_checkpoint", "latest", *flags[2:], "--train_batch_size", "4")
    for name in ("one", "two"):  # a checkpoint of two processes goes on in one
        train(pairs, tiny_base, tmp_path / name, *more)
    ends = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0]) < 2e-4 * moved


@pytest.mark.slow
def test_sigterm_saves_and_the_run_goes_on(pairs, tiny_base, tmp_path):
    flags = ("--max_train_steps", "100000", "--dataloader_num_workers", "1")
    command = [sys.executable, *script(pairs, tiny_base, tmp_path / "out", *flags)]
    with (tmp_path / "progress").open("w") as progress:
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=progress, start_new_session=True)
        deadline = time.monotonic() + 120
        while "/100000" not in (tmp_path / "progress").read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        os.killpg(run.pid, signal.SIGTERM)  # the workers get it too, as under torchrun and SLURM
        assert run.wait(timeout=180) == 0
    (checkpoint,) = checkpoints.all_whole(tmp_path / "out")
    step = checkpoints.step_of(checkpoint)
    assert 0 < step < 100000
    assert not json.loads((tmp_path / "out" / "result.json").read_text())["finished"]
    assert not (tmp_path / "out" / "unet").exists()
    train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", str(step + 1), "--resume_from_checkpoint", "latest")
    assert (tmp_path / "out" / "unet").exists()


def test_a_full_disk_leaves_the_last_good_checkpoint(pairs, tiny_base, tmp_path):
    output = train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "1", "--lr_warmup_steps", "500")
    flags = ("--max_train_steps", "2", "--resume_from_checkpoint", "latest", "--checkpoints_total_limit", "1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # no file beyond 20 KB
    try:
        with pytest.raises(UserError, match="checkpoint-2: can't be written"):
            train(pairs, tiny_base, output, *flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-1"]
    assert checkpoints.find(output, "latest").name == "checkpoint-1"


def test_lora_trains_the_attention_and_leaves_a_plain_model(pairs, tiny_base, tmp_path):
    trained = weights(
        train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "2", "--lora_rank", "2", "--use_ema")
    )
    before = weights(tiny_base)
    assert trained.keys() == before.keys()
    moved = {name for name in before if name != "conv_in.weight" and not torch.equal(trained[name], before[name])}
    attention = {
        name for name in before if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"))
    }
    assert moved == attention | {"conv_in.bias"}
    assert trained["conv_in.weight"][:, 4:].any()


def test_the_schedule_that_was_learnt_goes_into_the_model(pairs, tiny_base, tmp_path):
    flags = ("--rescale_betas_zero_snr", "--snr_gamma", "5", "--offset_noise", "0.1", "--changed_region_weight", "2")
    train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "1", "--no_cache", *flags)
    config = json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text())
    assert config["rescale_betas_zero_snr"]
    assert (config["prediction_type"], config["timestep_spacing"]) == ("v_prediction", "trailing")
    assert not list((tmp_path / "out").glob("originals-*"))
    with pytest.raises(UserError, match="zero terminal SNR needs --prediction_type v_prediction"):
        train(pairs, tiny_base, tmp_path / "no", "--prediction_type", "epsilon", "--rescale_betas_zero_snr")


def test_training_stops_when_held_out_loss_only_rises(pairs, tiny_base, tmp_path):
    flags = ("--validation_steps", "1", "--early_stopping_patience", "2", "--learning_rate", "10", "--seed", "1")
    output = train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "50", *flags)
    result = json.loads((output / "result.json").read_text())
    assert result["finished"]
    assert result["step"] == result["best_step"] + 2 < 50
    assert checkpoints.all_whole(output)[-1].name == f"checkpoint-{result['step']}"


def test_a_checkpoint_of_diffusers_script_trains_on(pairs, tiny_base, tmp_path):
    parts = model.load_parts(str(tiny_base))
    model.take_condition(parts)
    pipeline = model.pipeline_from_parts(parts)
    pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path / "seed")
    output = train(pairs, tmp_path / "seed", tmp_path / "out", "--max_train_steps", "1")
    assert json.loads((output / "riffusion.json").read_text())["guidance_scale"] == 15.0
    assert weights(output)["conv_in.weight"].shape == weights(tmp_path / "seed")["conv_in.weight"].shape


def test_diffusers_pipeline_gives_the_samplers_picture(pairs, tiny_base, tmp_path):
    output = train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "1")
    theirs = StableDiffusionInstructPix2PixPipeline.from_pretrained(output, safety_checker=None)
    picture = Image.open(next(pairs.rglob("*.png")))
    settings = choose_settings(model.load_facts(str(output)), 3, 5, 2.0, 1.5, scheduler="ddim")
    expected = theirs(
        "add a vocal",
        image=picture.convert("RGB"),
        num_inference_steps=3,
        guidance_scale=2.0,
        image_guidance_scale=1.5,
        generator=[sample_generator(5, "name")],
    ).images[0]
    ours = model.load_pipeline(str(output), "cpu", torch.float32)
    (painted,) = edit_images(ours, [picture], ["add a vocal"], ["name"], settings)
    difference = np.abs(np.asarray(painted, dtype=int) - np.asarray(expected.convert("L"), dtype=int))
    assert difference.max() <= 1  # grey level


@pytest.mark.parametrize("name", ["one_gpu", "gpus", "cpu"])
def test_accelerate_reads_the_example_configs(name):
    path = ROOT / "configs" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert config.mixed_precision == ("no" if name == "cpu" else "bf16")
    assert config.use_cpu == (name == "cpu")
    assert set(yaml.safe_load(path.read_text())) <= set(vars(config))


def test_a_second_training_in_the_same_folder_is_refused(pairs, tiny_base, tmp_path):
    output = train(pairs, tiny_base, tmp_path / "out", "--max_train_steps", "1")
    flags = ("--max_train_steps", "2", "--resume_from_checkpoint", "latest")
    with only_run(output / outputs.LOCK), pytest.raises(UserError, match=f"^{output}: another run is using"):
        train(pairs, tiny_base, output, *flags)
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-1"]
    (output / "checkpoint-2.elsewhere.77.part").mkdir()  # as a killed run leaves it
    (output / outputs.LOCK).touch()
    train(pairs, tiny_base, output, *flags)
    assert {path.name for path in output.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}
    assert not (output / outputs.LOCK).exists()


def test_only_the_newest_checkpoints_stay(pairs, tiny_base, tmp_path):
    flags = ("--max_train_steps", "4", "--checkpointing_steps", "1", "--checkpoints_total_limit", "2")
    output = train(pairs, tiny_base, tmp_path / "out", *flags)
    assert {path.name for path in output.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-4"}


@pytest.mark.parametrize("flags", [(), ("--no_cache", "--dataloader_num_workers", "1")])
def test_the_original_projects_pairs_are_trained_on(tiny_base, tmp_path, capsys, flags):
    folder = write_original_folder(tmp_path / "musdb-pix2pix" / "train")
    output = train(folder, tiny_base, tmp_path / "out", "--max_train_steps", "1", *flags)
    assert capsys.readouterr().out.count("16-bit integers") == 1
    facts = model.load_facts(str(output))
    assert facts.target == "mix" and facts.params.num_frames == 64


@pytest.mark.parametrize("flags", [(), ("--no_cache",), ("--dataloader_num_workers", "1")])
def test_a_damaged_picture_is_named(tiny_base, tmp_path, flags):
    folder = write_pair_folder(tmp_path / "set" / "train" / "Song", 4)
    picture = folder / "2_out.png"
    content = bytearray(picture.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle: its ends are those of a whole one
    picture.write_bytes(content)
    with pytest.raises(UserError, match=f"^{picture}: can't read this picture") as error:
        train(tmp_path / "set", tiny_base, tmp_path / "out", "--max_train_steps", "4", *flags)
    assert "\n" not in str(error.value)
    cut(picture)
    with pytest.raises(UserError, match=f"^{picture}: can't read this picture"):
        train(tmp_path / "set", tiny_base, tmp_path / "new", *flags)
    assert not (tmp_path / "new").exists()


def test_bad_input_is_one_clear_line(pairs, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="not a model in diffusers' layout"):
        train(pairs, pairs, tmp_path / "out")
    with pytest.raises(UserError, match="contains no pairs"):
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


@pytest.mark.parametrize(
    ("name", "offline", "said"),
    [
        ("pushed [v2]", False, "can't upload to 'pushed .v2.': Repo id must"),
        ("model", True, "the Hub can't be reached"),
    ],
)
def test_whether_an_upload_can_succeed_is_asked_before_training(
    pairs, tiny_base, tmp_path, monkeypatch, name, offline, said
):
    if offline:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=said):
        train(pairs, tiny_base, tmp_path / name, "--push_to_hub", "--max_train_steps", "1")
    assert not list(tmp_path.rglob("checkpoint-*"))
    assert not list(tmp_path.rglob("training.json"))
