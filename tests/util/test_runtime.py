import os
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import diffusers
import huggingface_hub
import pytest
import transformers

from riffusion.util import runtime
from riffusion.util.errors import UserError

ROOT = Path(__file__).parents[2]


def refuse(_: None) -> int:
    raise UserError("song.wav: is\nbad")


def run_out(_: None) -> int:
    raise MemoryError


def interrupt(_: None) -> int:
    raise KeyboardInterrupt


def interrupt_after_two(_: None) -> int:
    done = []
    with runtime.telling_what_is_kept(lambda: f"{len(done)} of 3 songs are finished"):
        done += ["one", "two"]
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("main", "code", "said"),
    [
        (refuse, 2, "error: song.wav: is bad"),
        (run_out, 2, "error: MemoryError"),
        (interrupt, 130, "interrupted\n"),
        (interrupt_after_two, 130, "interrupted: 2 of 3 songs are finished\n"),
        (lambda _: Path("/no/where").mkdir(), 2, "error: /no/where: No such file or directory"),
        (lambda _: len(Path("x" * 300).read_text()), 2, "error: xxx"),
        (lambda _: 1, 1, ""),
    ],
)
def test_a_failure_of_the_system_is_one_line(capfd, monkeypatch, main, code, said):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    with pytest.raises(SystemExit) as ending:
        runtime.run_script(main, None)
    told = capfd.readouterr().err
    assert ending.value.code == code
    assert told.startswith(said)
    assert told.count("\n") == bool(said)


SLEEP = """
import tempfile, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from riffusion.util.runtime import only_run, run_script, telling_what_is_kept

def work(begun):
    begun.touch()
    time.sleep(60)

def main(pooled):
    told = telling_what_is_kept(lambda: "nothing is finished")
    with told, tempfile.TemporaryDirectory() as folder, only_run(Path(folder, "lock")):
        if pooled:
            with ProcessPoolExecutor(1) as pool:
                begun = Path(folder, "begun")
                jobs = [pool.submit(work, begun) for _ in range(3)]
                while not begun.exists():
                    time.sleep(0.01)
                print("at work", flush=True)
                return jobs[0].result()
        print("at work", flush=True)
        time.sleep(60)

if __name__ == "__main__":
    run_script(main, {pooled})
"""


@pytest.mark.parametrize("pooled", [False, True])
def test_sigterm_removes_working_files_and_ends_with_143(tmp_path, pooled):
    (tmp_path / "sleep.py").write_text(SLEEP.format(pooled=pooled))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "sleep.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "at work\n"
        assert list(scratch.iterdir())
        run.terminate()
        _, errors = run.communicate(timeout=30)
    assert run.returncode == 143
    assert errors == "interrupted: nothing is finished\n"
    assert not list(scratch.iterdir())


def test_two_runs_are_not_at_work_in_one_folder(tmp_path):
    with runtime.only_run(tmp_path / "lock"):
        with pytest.raises(UserError, match=f"{tmp_path}: another run"), runtime.only_run(tmp_path / "lock"):
            pass
        with runtime.only_run(tmp_path / "other"):
            pass
    with runtime.only_run(tmp_path / "lock"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_that_writes_nothing_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="song.wav"), runtime.only_run(tmp_path / "new" / "lock"):
        refuse(None)
    assert not (tmp_path / "new").exists()
    with runtime.only_run(tmp_path / "new" / "lock"):
        (tmp_path / "new" / "result").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result"]


def test_a_killed_run_leaves_no_lock(tmp_path):
    script = f"""
import os, signal
from pathlib import Path
from riffusion.util.runtime import only_run
with only_run(Path({str(tmp_path / "lock")!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "lock").exists()
    with runtime.only_run(tmp_path / "lock"):
        pass


def test_bars_of_libraries_are_off_meanwhile_and_those_of_downloads_stay_unless_it_is_quiet():
    def bars() -> tuple[bool, ...]:
        downloads = not huggingface_hub.utils.are_progress_bars_disabled()
        return *(one.utils.logging.is_progress_bar_enabled() for one in (diffusers, transformers)), downloads

    assert bars() == (True, True, True)
    with runtime.only_download_bars():
        assert bars() == (False, False, True)
    assert bars() == (True, True, True)
    with runtime.quiet_libraries(), runtime.only_download_bars():
        assert bars() == (False, False, False)
    assert bars() == (True, True, True)


def test_nothing_is_told_to_anybody(tmp_path):
    script = """
import huggingface_hub.constants, numpy
from riffusion.pairs.features import measure_pitch
measure_pitch(numpy.zeros(44100, numpy.float32), 44100)
assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
"""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir(), scratch.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "HF_", "XDG_"))}
    environment = kept | {"HOME": str(home), "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)
    assert not [path for path in home.rglob("*") if path.is_file()]
    subprocess.run([sys.executable, "-c", script], env=environment | {"HOME": "/dev/null"}, check=True, timeout=120)
    assert not list(scratch.rglob("*.ses"))
    assert not datasets.config.HF_UPDATE_DOWNLOAD_COUNTS  # which was imported before riffusion
    assert "telemetry/off" in diffusers.utils.hub_utils.http_user_agent()
