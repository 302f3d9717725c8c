import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import gc, sys
from riffusion.diffusion.lean_import import UNUSED, import_diffusers
import_diffusers("checkpoints/small")
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import riffusion.painting.run
print([name for name in (*UNUSED, "peft", "datasets", "pandas", "scipy.stats") if name in sys.modules])
import peft, scipy.stats
"""


@pytest.mark.slow
def test_painting_imports_no_libraries_that_it_does_not_use_and_hides_none_for_good():
    root = Path(__file__).parent.parent.parent
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False, cwd=root)
    assert (run.returncode, run.stdout) == (0, "[]\n"), run.stderr
