import os

import pytest
import torch
from accelerate import Accelerator

from riffusion.training import checkpoints
from riffusion.util import files
from riffusion.util.errors import UserError


@pytest.fixture
def run(tmp_path):
    """A folder with whole checkpoints of steps 1, 2 and 10."""
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(torch.nn.Linear(64, 64))
    for step in (1, 2, 10):
        checkpoints.save(accelerator, tmp_path, step, limit=None)
    return tmp_path, accelerator


def cut_short(checkpoint):
    os.truncate(checkpoint / "model.safetensors", 100)


def test_what_an_interrupted_run_goes_on_from_is_told(run, tmp_path):
    folder, _ = run
    assert (
        checkpoints.kept(folder)
        == f"{folder}/checkpoint-10 is kept; --resume_from_checkpoint latest goes on from there"
    )
    assert "nothing is kept" in checkpoints.kept(tmp_path / "empty")


def test_latest_passes_over_what_was_cut_short(run, capsys):
    folder, _ = run
    assert checkpoints.find(folder, "latest").name == "checkpoint-10"
    cut_short(folder / "checkpoint-10")
    (folder / "checkpoint-11.part").mkdir()
    (folder / "checkpoint-12").mkdir()
    (folder / "checkpoint-12" / "files.json").write_text('{"model.safe')
    assert checkpoints.find(folder, "latest").name == "checkpoint-2"
    assert "incomplete checkpoints: checkpoint-10, checkpoint-11.part, checkpoint-12" in capsys.readouterr().err
    with pytest.raises(UserError, match="complete ones: checkpoint-1, checkpoint-2"):
        checkpoints.find(folder, "checkpoint-10")
    with pytest.raises(UserError, match="checkpoint-2 is newer than checkpoint-1"):
        checkpoints.find(folder, "checkpoint-1")


def test_a_new_run_is_not_mixed_with_an_old_one(run, tmp_path_factory):
    folder, _ = run
    with pytest.raises(UserError, match="holds checkpoint-10; resume from it"):
        checkpoints.find(folder, None)
    empty = tmp_path_factory.mktemp("empty")
    assert checkpoints.find(empty, None) is None
    assert checkpoints.find(empty, "latest") is None


def test_the_limit_counts_whole_checkpoints_only(run):
    folder, accelerator = run
    cut_short(folder / "checkpoint-10")
    cut_short(folder / "checkpoint-2")
    checkpoints.save(accelerator, folder, 11, limit=2)
    assert [path.name for path in checkpoints.all_whole(folder)] == ["checkpoint-1", "checkpoint-11"]


def test_a_checkpoint_written_again_replaces_the_old_one(run):
    folder, accelerator = run
    cut_short(folder / "checkpoint-10")
    checkpoints.save(accelerator, folder, 10, limit=1)
    assert [path.name for path in folder.iterdir()] == ["checkpoint-10"]


def test_what_cannot_be_written_leaves_the_others(run):
    folder, accelerator = run
    files.part_of(folder / "checkpoint-11").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="checkpoint-11: can't be written"):
        checkpoints.save(accelerator, folder, 11, limit=1)
    assert len(checkpoints.all_whole(folder)) == 3


def test_what_killed_runs_were_writing_is_removed(run):
    folder, _ = run
    for number in ("11", "12"):
        files.make_folder(folder / f"checkpoint-{number}.elsewhere.77.part").joinpath("model.safetensors").touch()
    checkpoints.remove_unfinished(folder)
    assert {path.name for path in folder.iterdir()} == {"checkpoint-1", "checkpoint-2", "checkpoint-10"}
