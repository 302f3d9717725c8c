"""Do odd and damaged files end in a result, a warning or a refusal that names them, and never in anything else?

    python benchmarks/robustness.py --json robustness.json
    python benchmarks/robustness.py --seed 0 --only recordings-17 --keep build/fault

Recordings in many formats and folders of pairs in several layouts are mutated (odd_files.py, odd_pairs.py), the same
ones for the same --seed, and read by our scripts, each in a process of its own with limits of time, memory and disk.
ffmpeg, or Python's own modules for pairs, are the referees. A fault is a traceback, a crash, no end, other sound or
pairs than the referee's without a warning that says so, a refusal that doesn't name the input, and whatever is left
behind by one. The exit code is 1 if there is any.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from random import Random

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import odd_files
import odd_pairs
from confined import confined, tree
from harness import Records, run_measures
from readings import FRAME_SECONDS, WAYS, Sound, listen, put
from tqdm import tqdm

from riffusion.util import files
from riffusion.util.errors import UserError
from riffusion.util.flags import Help
from riffusion.util.runtime import run_script

SLACK_SECONDS = 0.25  # between what is heard and what the referee hears: codecs' delays, and ends of containers
LOUDNESS_SLACK = 0.25  # share of the loudest frame
MOST_OUTPUT = 64 << 20  # bytes that a run may leave
LOSS = re.compile(r"warning: .*(cut short|damaged|joined|lost|only the first)")  # a warning that says so
PROGRESS = re.compile(r"\d+%\|")
LETTERS = {"read whole": ".", "painted whole": "p", "warned": "w", "refused": "r", "FAULT": "F"}
LEGEND = ", ".join(f"{letter} {outcome}" for outcome, letter in LETTERS.items())


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--mutations", type=int, default=300, help="recordings")
    add("--dataset_mutations", type=int, default=60, help="folders of pairs")
    add("--paint", type=int, default=16, help="recordings to paint into, not only read")
    add("--model_id", default="checkpoints/small", help="model that paints")
    add("--seed", type=int, default=0, help="seed of the mutations")
    add("--only", nargs="+", metavar="CASE", help="run only these cases, such as recordings-17 (default: all)")
    add("--keep", type=Path, help="keep the cases' files in this folder, which must be new (default: keep none)")
    add("--time_limit", type=float, default=120, help="maximum seconds per case")
    add("--workers", type=int, default=os.cpu_count(), help="cases run at the same time (default: as many as cores)")
    add("--measure", nargs="+", choices=MEASURES, default=list(MEASURES), help="what to mutate (default: all)")
    add("--json", type=Path, help="also write the figures and all cases here (default: print them only)")
    add("--worker", nargs=3, metavar=("FOLDER", "MEASURE", "NUMBER"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Options:
    """The flags that choose the cases and say how they are run."""

    mutations: int
    dataset_mutations: int
    paint: int
    model_id: str
    seed: int
    only: list[str] | None
    keep: bool
    time_limit: float
    workers: int

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Options":
        """Those of a command line."""
        flags = {one.name: getattr(args, one.name) for one in fields(cls)}
        return cls(**flags | {"keep": args.keep is not None})


def main(args: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    if args.worker:
        return work(Path(args.worker[0]), args.worker[1], int(args.worker[2]))
    args.model_id = str(Path(args.model_id).resolve())  # cases have folders of their own to work in
    options = Options.of(args)
    args.measure = [measure for measure in args.measure if plan(measure, options)]
    if not args.measure:
        raise UserError(f"--only {' '.join(args.only or [])}: no such case; --mutations says how many there are")
    told: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        folder = args.keep.resolve() if args.keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=args.keep is None)
        make_sources(folder, args.measure, options)

        def take(measure: str) -> Records:
            cases, outcomes = plan(measure, options), run_cases(measure, folder, options)
            told.extend(asdict(case) | asdict(outcomes[case.name]) for case in cases)
            return table_rows(cases, outcomes)

        code = run_measures(args, take)
    print(f"{LEGEND}; a letter a case")
    if args.json is not None:
        files.save_json(args.json, files.load_json(args.json) | {"cases": told})
    return max(code, report_faults(told, options))


def report_faults(told: list[dict[str, object]], options: Options) -> int:
    """Print every fault and the command that repeats it; returns 1 if there is any."""
    faults = [one for one in told if one["outcome"] == "FAULT"]
    counts = f"--mutations {options.mutations} --dataset_mutations {options.dataset_mutations} --paint {options.paint}"
    for one in faults:
        name = f"{one['measure']}-{one['number']}"
        print(f"FAULT {name}: {one['kind']}, {one['what']}, {one['way']}: {one['reason']}")
        print(
            f"      again: python benchmarks/robustness.py --seed {options.seed} {counts} --only {name} --keep FOLDER"
        )
    return int(bool(faults))


@dataclass(frozen=True)
class Case:
    """What is mutated, how, and which of our scripts reads it."""

    measure: str
    number: int
    kind: str
    mutation: str
    way: str

    @property
    def name(self) -> str:
        """Names it for --only, and its folder."""
        return f"{self.measure}-{self.number}"


def plan(measure: str, options: Options) -> list[Case]:
    """The cases of a measure: all kinds with all mutations in turn, in an order that only the seed decides."""
    kinds, mutations, is_possible = KINDS[measure]
    rng = Random(f"{options.seed} {measure}")
    cells = [(kind, mutation) for kind in kinds for mutation in mutations if is_possible(kind, mutation)]
    rng.shuffle(cells)
    count = options.mutations if measure == "recordings" else options.dataset_mutations
    ways = rng.choices([way for way in WAYS[measure] if way != "paint"], k=count)
    if measure == "recordings":
        for number in range(min(options.paint, count)):
            ways[number * count // min(options.paint, count)] = "paint"
    cases = [Case(measure, number, *cells[number % len(cells)], ways[number]) for number in range(count)]
    return [case for case in cases if options.only is None or case.name in options.only]


def make_sources(folder: Path, measures: list[str], options: Options) -> None:
    """Make what will be mutated, and write down the options for `work`."""
    kinds = odd_files.KINDS if "recordings" in measures else {}
    odd_files.make_recordings(folder / "sources" / "recordings", kinds)
    if "datasets" in measures:
        odd_pairs.make_folders(folder / "sources" / "recordings", folder / "sources" / "datasets")
    files.save_json(folder / "settings.json", asdict(options))


@dataclass(frozen=True)
class Outcome:
    """What became of a case: one of `LETTERS`, and why, if it is a fault or was refused."""

    outcome: str
    what: str
    reason: str = ""


def run_cases(measure: str, folder: Path, options: Options) -> dict[str, Outcome]:
    """All cases of a measure, by several workers."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(folder), measure]
    count = min(options.workers, len(plan(measure, options)))
    workers = [subprocess.Popen([*command, str(number)]) for number in range(count)]
    if any([worker.wait() for worker in workers]):
        raise UserError("a worker of this benchmark ended with an error")
    parts = [folder / f"outcomes-{measure}-{number}.json" for number in range(len(workers))]
    return {name: Outcome(**told) for file in parts for name, told in files.load_json(file).items()}


def table_rows(cases: list[Case], outcomes: dict[str, Outcome]) -> Records:
    """A row a kind: a letter a case below its mutation, and counts."""
    letters: dict[tuple[str, str], str] = defaultdict(str)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        outcome = outcomes[case.name].outcome
        letters[case.kind, case.mutation] += LETTERS[outcome]
        counts[case.kind][outcome] += 1
        counts["all"][outcome] += 1
    mutations = dict.fromkeys(case.mutation for case in sorted(cases, key=lambda case: case.mutation))
    return [
        {
            "kind": kind,
            **{name: letters.get((kind, name)) for name in mutations},
            **{name: counts[kind][name] for name in LETTERS},
        }
        for kind in sorted(counts, key=lambda kind: (kind == "all", kind))
    ]


def work(folder: Path, measure: str, number: int) -> int:
    """Run a worker's share of the cases, each in a fork of this process, and write down their outcomes."""
    options = Options(**files.load_json(folder / "settings.json"))
    torch.set_num_threads(1)
    outcomes = {}
    share = plan(measure, options)[number :: options.workers]
    for case in tqdm(share, measure, unit="case", disable=number > 0):
        place = folder / "cases" / case.name
        run = run_case(case, folder, place, options)
        outcomes[case.name] = asdict(judge(case, run))
        if not options.keep:
            shutil.rmtree(place, ignore_errors=True)
    files.save_json(folder / f"outcomes-{measure}-{number}.json", outcomes)
    return 0


@dataclass
class Run:
    """What is known of a case after its process has ended."""

    what: str = ""
    harmless: bool = False
    ended: str = ""  # what ended the process, if it wasn't itself
    code: int | None = None
    heard: Sound | list | None = None  # what our scripts made of it
    expected: Sound | list | None = None  # what the referee makes of it
    complaint: str = ""  # of the referee
    whole: Sound | None = None  # what sound was in it before the mutation, if the file tells what is lost since then
    stderr: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # files that shouldn't be there
    changed: bool = False  # the input
    written: int = 0  # bytes


def run_case(case: Case, folder: Path, place: Path, options: Options) -> Run:
    """Run a case in a fork, and look at what it leaves."""
    for name in ("in", "tmp", "cwd"):
        (place / name).mkdir(parents=True)
    ended = confined(lambda: take_case(case, folder, place, options), place, options.time_limit)
    known = place / "told.json"
    told = json.loads(known.read_text()) if known.is_file() else {}
    for name in ("heard", "expected", "whole"):
        if isinstance(told.get(name), dict):
            told[name] = Sound(**told[name])
    before = told.pop("before", None)
    run = Run(**told, ended=ended)
    printed = (place / "stderr").read_bytes().decode(errors="replace")
    run.stderr = [line for line in re.split("[\r\n]+", printed) if line and not PROGRESS.search(line)]
    run.changed = before != tree(place / "in")
    out = [path for path in (place / "out").rglob("*") if not path.is_dir()]
    run.written = sum(path.stat().st_size for path in out)
    run.left = [str(path.relative_to(place)) for name in ("tmp", "cwd") for path in (place / name).iterdir()]
    if run.code == 2:
        run.left += [str(path.relative_to(place)) for path in unfinished(place / "out")]
    return run


def unfinished(out: Path) -> list[Path]:
    """What is in an output folder after a refusal, but for the song that was good."""
    if (out / "report.json").is_file():
        return [path for path in out.iterdir() if path.is_dir() and not path.name.startswith("Good")]
    return [out] if out.exists() else []


def take_case(case: Case, folder: Path, place: Path, options: Options) -> None:
    """Mutate, read with our script, and read with the referee; each step is written down at once."""
    rng = Random(f"{options.seed} {case.name}")
    sources = folder / "sources" / case.measure
    odd: odd_files.OddFile | odd_pairs.OddPairs
    if case.measure == "recordings":
        odd = odd_files.odd_file(odd_files.read_source(sources, case.kind, rng), case.mutation, rng)
        path = put(odd, case.kind, case.way, sources, place / "in")
    else:
        odd = odd_pairs.odd_pairs(sources, case.kind, case.mutation, place / "in" / "pairs", rng)
        path = odd.root
    told: dict[str, object] = {"what": odd.what, "harmless": odd.harmless, "before": tree(place / "in")}
    files.save_json(place / "told.json", told)
    told["code"], heard = WAYS[case.measure][case.way](path, place, options.model_id)
    told["heard"] = asdict(heard) if isinstance(heard, Sound) else heard
    files.save_json(place / "told.json", told)
    if isinstance(odd, odd_files.OddFile):
        told |= refer(case, odd, sources, place)
    else:
        told["expected"], told["complaint"] = odd_pairs.read_rows(path, held_out=case.way == "samples")
    files.save_json(place / "told.json", json.loads(json.dumps(told)))


def refer(case: Case, odd: odd_files.OddFile, sources: Path, place: Path) -> dict[str, object]:
    """What the referee hears in a recording, what it complains of, and what was in it at least."""
    (place / "sound").write_bytes(odd.content)
    expected, complaint = listen(place / "sound", case.kind, case.way)
    told = {"complaint": complaint, "expected": asdict(expected) if expected is not None else None}
    if odd_files.tells_damage(case.kind, case.mutation):
        whole, _ = listen(sources / case.kind / "0", case.kind, case.way)
        return told | {"whole": asdict(whole) if whole is not None else None}
    return told | ({"whole": asdict(Sound(odd.seconds))} if odd.seconds else {})


def judge(case: Case, run: Run) -> Outcome:
    """What became of a case."""
    warned = any(map(LOSS.search, run.stderr))
    fault = next(filter(None, (*process_faults(run), *refusal_faults(case, run), *reading_faults(run, warned))), None)
    if fault:
        return Outcome("FAULT", run.what, fault)
    if run.code == 2:
        return Outcome("refused", run.what, next(line for line in run.stderr if line.startswith("error: ")))
    if warned:
        return Outcome("warned", run.what, next(line for line in run.stderr if LOSS.search(line)))
    return Outcome("painted whole" if case.way == "paint" else "read whole", run.what)


def process_faults(run: Run) -> Iterator[str]:
    """What a process must never do."""
    yield run.ended
    if any(line.startswith("Traceback") for line in run.stderr):
        yield f"traceback, {run.stderr[-1]}"
    if run.code not in (0, 2):
        yield f"exit code {run.code}"
    if run.changed:
        yield "its input was changed"
    if run.left:
        yield f"left behind: {', '.join(run.left[:3])}"
    if run.written > MOST_OUTPUT:
        yield f"wrote {run.written} bytes"
    known = ("error: ", "warning: ", "skipped in ")
    strange = [line for line in run.stderr if not line.startswith(known)]
    if strange:
        yield f"strange line on stderr: {strange[0]}"


def refusal_faults(case: Case, run: Run) -> Iterator[str]:
    """How input must not be refused."""
    if run.code != 2:
        return
    errors = [line for line in run.stderr if line.startswith("error: ")]
    if not errors or f"{case.name}/in" not in errors[0]:
        yield f"refused without its name: {errors}"
    for error in errors:
        if "too large" in error or "MemoryError" in error:
            yield f"takes disk or memory without end: {error}"
        if re.search(r"[a-z]Error\b|Exception\b", error):
            yield f"not a message for people: {error}"
    if run.harmless:
        yield f"refused, though nothing is wrong with it: {errors[0]}"


def reading_faults(run: Run, warned: bool) -> Iterator[str]:
    """What must not be made of an input without a word."""
    if run.code != 0:
        return
    if run.harmless and warned:
        yield "a warning, though nothing is wrong with it"
    if warned:
        return
    if isinstance(run.heard, list):
        if run.heard != run.expected:
            found = len(run.expected) if isinstance(run.expected, list) else 0
            yield f"{len(run.heard)} pairs are read, and not the referee's {found} ({run.complaint})"
        elif run.complaint:
            yield f"accepted, and the referee finds: {run.complaint}"
        return
    if run.heard is None:
        yield "nothing was read"
        return
    if isinstance(run.expected, Sound):
        yield difference(run.heard, run.expected, f"than the referee's ({run.complaint})")
    if run.whole is not None:
        yield difference(run.heard, run.whole, "than was in it")


def difference(heard: Sound, other: Sound, than: str) -> str:
    """How what was heard differs from another sound; "" if it doesn't."""
    if heard.seconds < other.seconds - SLACK_SECONDS:
        return f"without a word, {heard.seconds:.2f} s of {other.seconds:.2f} s are read: less {than}"
    if heard.loudness and heard.seconds > max(other.seconds, odd_files.SECONDS) + SLACK_SECONDS:
        return f"without a word, {heard.seconds:.2f} s for {other.seconds:.2f} s are read: more {than}"
    most = LOUDNESS_SLACK * max([0.01, *other.loudness])
    for number, (one, another) in enumerate(list(zip(heard.loudness, other.loudness, strict=False))[:-1]):
        if not abs(one - another) <= most:
            return f"without a word, other sound is read from {number * FRAME_SECONDS:.1f} s on {than}"
    return ""


Kinds = tuple[Sequence[str], Sequence[str], Callable[[str, str], bool]]  # kinds, mutations, and which go together
KINDS: dict[str, Kinds] = {
    "recordings": (tuple(odd_files.KINDS), tuple(odd_files.MUTATIONS), lambda kind, mutation: True),
    "datasets": (tuple(odd_pairs.KINDS), tuple(odd_pairs.MUTATIONS), odd_pairs.is_possible),
}
MEASURES = tuple(KINDS)


if __name__ == "__main__":
    run_script(main, parse_args())
