import os
import signal
import sys
import time
from pathlib import Path
from random import Random

import odd_files
import odd_pairs
import pytest
from confined import MOST_FILE, confined
from conftest import write_pair_folder
from readings import Sound
from robustness import Case, Options, Run, judge, parse_args, plan

CASE = Case("recordings", 7, "wav", "cut", "look")
HEARD = Sound(3.0, [0.1] * 30)
REFUSAL = ["error: /x/recordings-7/in/take.wav: cut short"]


@pytest.mark.parametrize(
    ("run", "outcome", "reason"),
    [
        (Run(code=0, heard=HEARD, expected=HEARD), "read whole", ""),
        (Run(code=2, stderr=REFUSAL), "refused", "cut short"),
        (Run(code=0, heard=Sound(1.0), expected=HEARD, stderr=["warning: x: cut short at 1 s"]), "warned", "1 s"),
        (Run(code=0, heard=Sound(1.0), expected=HEARD), "FAULT", "1.00 s of 3.00 s"),
        (Run(code=0, heard=Sound(3.0, [0.1] * 20 + [0.9] * 10), expected=HEARD), "FAULT", "from 2.0 s on"),
        (Run(code=0, heard=Sound(9.0, [0.1] * 90), expected=HEARD), "FAULT", "more than"),
        (Run(code=0, heard=Sound(1.0), expected=Sound(1.0), whole=HEARD), "FAULT", "than was in it"),
        (Run(code=1, stderr=["Traceback (most recent call last):", "KeyError: 'x'"]), "FAULT", "KeyError"),
        (Run(ended="ended by SIGSEGV"), "FAULT", "SIGSEGV"),
        (Run(code=2, stderr=["error: no such thing"]), "FAULT", "without its name"),
        (Run(code=2, stderr=REFUSAL, left=["out"]), "FAULT", "left behind: out"),
        (Run(code=2, stderr=REFUSAL, harmless=True), "FAULT", "nothing is wrong"),
        (Run(code=2, stderr=[f"{REFUSAL[0]} (KeyError: 5)"]), "FAULT", "for people"),
        (Run(code=0, heard=HEARD, expected=HEARD, changed=True), "FAULT", "changed"),
        (Run(code=0, heard=[["a", "b", "add"]], expected=[["a", "b", "add"]] * 2), "FAULT", "1 pairs"),
        (Run(code=0, heard=[["a", "b", "add"]], expected=[["a", "b", "add"]], complaint="cut"), "FAULT", "cut"),
    ],
)
def test_outcomes(run, outcome, reason):
    judged = judge(CASE, run)
    assert judged.outcome == outcome
    assert reason in judged.reason


def test_the_same_seed_mutates_alike(tmp_path):
    source = odd_files.Source("take", ".wav", bytes(range(256)) * 40, bytes(9000), b"OggS" * 2000)
    for mutation in odd_files.MUTATIONS:
        one, same, other = (odd_files.odd_file(source, mutation, Random(seed)) for seed in ("a", "a", "b"))
        assert one == same
        assert one != other
        assert (one.content == source.content) == (mutation == "renamed")
    write_pair_folder(tmp_path / "folders" / "one song")
    rows, complaint = odd_pairs.read_rows(tmp_path / "folders" / "one song")
    assert (len(rows), complaint) == (3, "")
    odd = odd_pairs.odd_pairs(tmp_path / "folders", "one song", "file cut", tmp_path / "odd", Random("a"))
    assert odd_pairs.read_rows(odd.root)[1] != ""


def test_all_kinds_and_mutations_have_their_turn_and_only_means_the_same_cases():
    cases = plan("recordings", Options.of(parse_args([])))
    cells = {(case.kind, case.mutation) for case in cases}
    assert len(cells) == len(odd_files.KINDS) * len(odd_files.MUTATIONS)
    assert len([case for case in cases if case.way == "paint"]) == 16
    assert plan("recordings", Options.of(parse_args(["--only", "recordings-17"]))) == [cases[17]]


def test_what_crashes_hangs_or_fills_the_disk_is_caught(tmp_path):
    def fill() -> None:
        with Path("big").open("wb") as file:
            file.truncate(MOST_FILE + 1)

    works = {
        "ended by SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "not done after 0.3 s": lambda: time.sleep(60),
        "": lambda: sys.stderr.write("said"),
        " ": fill,
    }
    for number, (ended, work) in enumerate(works.items()):
        place = tmp_path / str(number)
        for name in ("cwd", "tmp"):
            (place / name).mkdir(parents=True)
        assert confined(work, place, 0.3 if "0.3" in ended else 20) == ended.strip()
    assert (tmp_path / "2" / "stderr").read_text() == "said"
    assert "OSError" in (tmp_path / "3" / "stderr").read_text()
