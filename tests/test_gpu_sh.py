"""Every row of benchmarks/gpu.sh runs once on a CPU, on a model so small that its figures mean nothing."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
import warm_python
from conftest import write_pair_folder

ROOT = Path(__file__).parents[1]
NEED_A_GPU_BOX = {"adam8bit", "xformers"}  # packages that aren't required

pytestmark = pytest.mark.slow


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run it for real")
def test_every_row_works_and_one_that_fails_is_named(tiny_base, tiny_models, tmp_path):
    for split in ("train", "valid"):
        write_pair_folder(tmp_path / "pairs" / split / "song", count=8)
    environment = os.environ | {
        "PYTHON": str(warm_python.serve(tmp_path)),
        "GPU_SH_TINY": "1",
        "BASE": str(tiny_base),
        "MODEL": str(tiny_models["stem"]),
        "ACCELERATE_USE_CPU": "true",
    }
    command = [str(ROOT / "benchmarks" / "gpu.sh"), str(tmp_path / "pairs"), str(tmp_path / "out")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    codes = {row["row"]: row["exit code"] for row in figures["rows"]}
    logs = "".join((tmp_path / "out" / f"{name}.log").read_text()[-2000:] for name, code in codes.items() if code)
    assert {name for name, code in codes.items() if code} <= NEED_A_GPU_BOX, logs
    assert run.returncode == (2 if NEED_A_GPU_BOX & {name for name, code in codes.items() if code} else 0)
    for name in ("fp32", "bf16", "compile", "lora", "checkpointing"):
        assert [row["way"] for row in figures[f"{name}: speed"]] == ["the reference", "ours"]
    assert figures["finetune: training"][0]["step"] == figures["two-processes: training"][0]["step"] == 1
    assert "## bf16: speed" in (tmp_path / "out" / "figures.md").read_text()
    assert all(name in run.stderr for name, code in codes.items() if code)


def test_without_folders_it_says_how_it_is_used():
    run = subprocess.run([str(ROOT / "benchmarks" / "gpu.sh")], capture_output=True, text=True)
    assert run.returncode == 2
    assert "benchmarks/gpu.sh PAIRS OUT" in run.stdout
