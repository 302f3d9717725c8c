"""The training script in several processes that share one GPU: they meet over gloo, since NCCL wants a GPU for each.

python -m torch.distributed.run --nproc_per_node 2 benchmarks/over_gloo.py FLAG...
"""

import runpy
import sys
from pathlib import Path

import torch
from accelerate import PartialState

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from riffusion.util.distributed import PATIENCE

    on_cpu = not torch.cuda.is_available()
    PartialState(cpu=on_cpu, backend="gloo", timeout=PATIENCE)  # the process group that the script then finds
    runpy.run_path(str(ROOT / "train_instruct_pix2pix.py"), run_name="__main__")
