"""Songs made into folders of pairs, each whole or not at all, by several processes."""

import itertools
import multiprocessing
import os
import re
import shutil
import tempfile
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from riffusion.pairs import stems
from riffusion.pairs.instructions import SongLabels
from riffusion.pairs.options import WORKER_MODULES, PairOptions
from riffusion.pairs.pair import METADATA, write_records
from riffusion.util import files, names
from riffusion.util.disk_space import writing
from riffusion.util.errors import own_failure
from riffusion.util.runtime import keep_freed_memory, worker_context

SONG_FILE = "song.json"  # written last: a song that has it is finished


@dataclass(frozen=True)
class SongJob:
    """A song, what is known of it, how its pairs are made, and the folder that they go to."""

    song: stems.Song
    labels: SongLabels
    folder: Path
    options: PairOptions


@dataclass
class SongResult:
    """What became of one song: how many pairs of each kind, what was not kept and why, and why it failed if it did.

    Files of its folder that were skipped are named with the reason, and so are stems that are sums of others.
    `mended` counts stems that aren't the mean of their channels in the pairs, by what was wrong with that.
    """

    job: SongJob
    pairs: Counter[str] = field(default_factory=Counter)
    not_kept: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    mended: Counter[str] = field(default_factory=Counter)
    failure: str = ""

    @property
    def name(self) -> str:
        """The song's name with its subset: one of the same name may be in another."""
        return str(Path(self.job.song.subset, self.job.song.name))


def song_folder(song: stems.Song, output_dir: Path) -> Path:
    """Where a song's pairs go: its words run together, because `datasets` takes one such as "test" for a split."""
    words = re.sub(r"[^A-Za-z0-9]+", " ", song.name).split()
    name = "".join(word.capitalize() for word in words) + f"-{zlib.crc32(song.name.encode()):08x}"
    return output_dir / song.subset / name


def run_jobs(jobs: list[SongJob], processes: int, max_pairs: int | None = None) -> Iterator[SongResult]:
    """Each job's result, in order. A maximum of pairs needs the count so far, so it goes song by song."""
    if max_pairs is not None or processes == 1:
        yield from run_alone(jobs, max_pairs)
        return
    done = 0
    while done < len(jobs):
        for result in run_pooled(jobs[done:], processes):
            done += 1
            yield result
        if done < len(jobs):  # a process was killed, perhaps not this song's: what is alone is to blame
            alone = list(run_pooled(jobs[done : done + 1], 1))
            yield from alone or [killed(jobs[done])]
            done += 1


def run_alone(jobs: list[SongJob], max_pairs: int | None) -> Iterator[SongResult]:
    """The jobs' results, one after another in this process, until there are enough pairs."""
    remaining = max_pairs
    for job in jobs:
        if remaining == 0:
            return
        result = run_job(job, remaining)
        remaining = None if remaining is None else remaining - result.pairs.total()
        yield result


def run_pooled(jobs: list[SongJob], processes: int) -> Iterator[SongResult]:
    """The jobs' results, in order, from a pool of processes; up to the first that is lost if one is killed.

    Where there are fewer jobs than processes, each shares its work among several threads instead.
    """
    cores = max(processes // len(jobs), 1)
    with ProcessPoolExecutor(min(processes, len(jobs)), worker_context(WORKER_MODULES), start_worker) as pool:
        futures = [pool.submit(run_job, job, cores=cores) for job in jobs]
        for future in futures:
            try:
                result = future.result()
            except BrokenProcessPool:
                return
            yield result


def killed(job: SongJob) -> SongResult:
    """The result of a song whose process is gone; what it left in its folder goes."""
    shutil.rmtree(job.folder, ignore_errors=True)
    return SongResult(job, failure=f"{job.song.path}: its process was killed; is there too little memory?")


def start_worker() -> None:
    """One thread of torch per process, as songs already fill the cores; no worker outlives a parent that was killed."""
    import torch

    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """Leave the process as soon as its parent is gone: a second run may already be making the same song."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_job(job: SongJob, max_pairs: int | None = None, cores: int = 1) -> SongResult:
    """All pairs of a song, made on so many cores.

    What goes wrong is this song's failure: it is in the result, and nothing is raised.
    """
    result = SongResult(job)
    failures: dict[str, str] = {}
    with own_failure(str(job.song.path), failures):
        finished = job.folder / SONG_FILE
        if finished.is_file():
            read_finished(finished, result)
        else:
            write_song(result, max_pairs, cores)
    if failures:
        shutil.rmtree(job.folder, ignore_errors=True)
        result.failure = failures[str(job.song.path)]
    return result


def read_finished(path: Path, result: SongResult) -> None:
    """Complete the result of a song that an earlier run has finished."""
    known = files.load_json(path)
    result.pairs, result.not_kept = Counter(known["pairs"]), Counter(known["not kept"])
    result.mended, result.skipped = Counter(known.get("stems mended")), known.get("passed over", {})


def write_song(result: SongResult, max_pairs: int | None, cores: int) -> None:
    """Make all pairs of a song and, last, the file that says so."""
    from riffusion.pairs.song_pairs import SongWork, converter_of, make_pairs, wanted_stems

    job = result.job
    shutil.rmtree(job.folder, ignore_errors=True)  # what a run that was killed left of it
    files.make_folder(job.folder)
    if job.song.path.is_dir():
        result.skipped = stems.list_stems(job.song)[1]
    with writing(job.folder), tempfile.TemporaryDirectory(dir=job.folder) as folder:
        decoded = stems.mix_down(job.song, job.options.sample_rate, Path(folder), cores)
        mixed_down, sums = stems.without_mixtures(decoded)
        result.skipped |= dict.fromkeys(sums, "the sum of other stems")
        count_mended(mixed_down, result)
        wanted = wanted_stems(mixed_down, job.song, job.options)
        work = SongWork(job.song, job.labels, wanted, converter_of(job.options), job.options, result.not_kept)
        drawn = itertools.islice(make_pairs(mixed_down, work, cores), max_pairs)
        pairs = [pair.save(job.folder, job.options.save_wav) for pair in drawn]
    result.pairs = Counter(str(pair.edit) for pair in pairs)
    write_records(job.folder / METADATA, pairs)
    counts = {"pairs": result.pairs, "not kept": result.not_kept, "stems mended": result.mended}
    shown = {name: dict(counted) for name, counted in counts.items()} | {"passed over": result.skipped}
    files.save_json(job.folder / SONG_FILE, shown)


def count_mended(mixed_down: stems.MonoStems, result: SongResult) -> None:
    """Count the stems whose mean of channels wouldn't do."""
    for downmix in mixed_down.downmixes.values():
        result.mended["channels that cancel"] += downmix.cancels
        result.mended["an offset or a rumble"] += downmix.lifted


def summarise(results: list[SongResult], prompts: dict[str, SongLabels], skipped: dict[str, str]) -> dict[str, Any]:
    """What report.json says of a run; `prompts` has the labels by the songs' keys.

    `skipped` has the entries of the root that are no songs, with the reasons.
    """
    counts: dict[str, Counter[str]] = {
        kind: sum((getattr(result, kind) for result in results), start=Counter())  # without what was never found
        for kind in ("pairs", "not_kept", "mended")
    }
    own = {f"{result.name}/{file}": why for result in results for file, why in result.skipped.items()}
    return {
        "songs": len(results),
        "pairs": counts["pairs"].total(),
        "pairs by edit": dict(sorted(counts["pairs"].items())),
        "not kept": dict(sorted(counts["not_kept"].items())),
        "stems mended": dict(sorted(counts["mended"].items())),
        "songs without labels": [
            result.job.song.name for result in results if names.key(result.job.song.name) not in prompts
        ],
        "songs failed": {result.name: result.failure for result in results if result.failure},
        "passed over": skipped | own,
    }
