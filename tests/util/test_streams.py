import os
import subprocess
import sys
from pathlib import Path

import pytest

from riffusion.util.errors import UserError
from riffusion.util.streams import require_pipes

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
from riffusion.util.streams import guard_streams

streams = guard_streams()
print("日本 \\udce9")
for number in range(20000):
    print("a line", number)
print("to stderr 日本", file=sys.stderr)
Path(sys.argv[1], "done").write_text("all of it")
sys.stderr.write(streams["stdout"].failure)
"""


def run(shell: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    command = f"{sys.executable} {folder}/script.py {folder} {shell}"
    environment |= {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], env=os.environ | environment, capture_output=True
    )


@pytest.mark.parametrize(
    ("shell", "environment"),
    [
        ("| head -1", {}),
        ("2>&1 | head -1", {}),
        (">&-", {}),
        ("<&- >&- 2>&-", {}),
        (">/dev/null", {"PYTHONIOENCODING": "cp1252"}),
        (">/dev/null", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_what_becomes_of_the_messages_ends_no_work(tmp_path, shell, environment):
    process = run(shell, tmp_path, **environment)
    assert (process.returncode, (tmp_path / "done").read_text()) == (0, "all of it")
    assert b"Traceback" not in process.stderr and b"Exception" not in process.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_messages_that_are_lost_on_a_full_disk_are_told(tmp_path):
    process = run(">/dev/full", tmp_path)
    assert (process.returncode, (tmp_path / "done").read_text()) == (0, "all of it")
    assert process.stderr.decode().splitlines()[-1] == "No space left on device"


def test_a_song_through_pipes_needs_one_process_and_both_ends(monkeypatch):
    require_pipes(1)
    with pytest.raises(UserError, match="several processes can't share"):
        require_pipes(2)
    for name, reason in (("__stdout__", "standard output is closed"), ("__stdin__", "standard input is closed")):
        monkeypatch.setattr(sys, name, None)
        with pytest.raises(UserError, match=reason):
            require_pipes(1)
