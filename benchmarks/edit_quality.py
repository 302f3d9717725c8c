"""Is the edit performed, is it the one that was asked for, and is it music? On held-out songs.

    python benchmarks/edit_quality.py --model_id checkpoints/small --dataset_id build/pairs/valid \\
        --train_data_dir build/pairs/train --root_data_dir ../shared/data --json edits.json

Rows `copy the input` stand for a model that answers with its input's picture, `oracle` for one that answers with the
true edited picture; both take the model's way from picture to measurement.

`edits`: held-out pairs of every task, each seed. An "add" is performed by `riffusion.painting.metrics`; with retries as
`--retries 3` paints it. A stem is the one asked for if a classifier of true training stems names it so. A "keep" holds
if nothing is painted. `registers`: a high and a low voice over the same backing. `notes`: voiced frames on notes of the
backing's scale and chords, of painted vocals, of true ones, and of true ones of other songs. `memory`: likeness
(correlation at the best shift in time) to the nearest training stem of the kind, and the share of frames that two seeds
sing alike. `backings`: one instruction and one noise over different backings; the likeness of part to part, and how
each fits its own backing and the others. `hearing`: is it heard as what it is? Vocals,
drums and bass beside true ones, true ones through the autoencoder, and other songs': level, pitch, overtones that stand
out, sharp onsets, onsets on those of the backing, distance to true parts in features that no model knows.
`separation`: SI-SDR of what "remove" and "extract" leave, from songs in stems, beside that of the untouched mix.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import soundfile
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from distances import si_sdr
from harness import Records, run_measures
from hearing import kernel_distance, on_time, onset_seconds, sound_features, standardise
from held_out import (
    control_rows,
    held_out_pairs,
    items_of_target,
    load_painter,
    more_controls,
    open_audio,
    paint,
    paint_again,
    spread_over_songs,
)
from judges import Harmony, StemJudge, confidence, likeness, melody, sung_the_same, thumbnail, train_stem_judge

from riffusion.diffusion import model
from riffusion.diffusion.sampling import Settings, choose_settings
from riffusion.diffusion.schedulers import DEFAULT_SCHEDULER, DEFAULT_STEPS, SCHEDULERS
from riffusion.painting.dataset_items import ItemAudio, PaintedItem
from riffusion.painting.long_song import Painter, Region, open_song
from riffusion.painting.measurements import Verdict
from riffusion.painting.metrics import SOUNDS_LIKE
from riffusion.pairs import stems
from riffusion.pairs.dataset import load_splits
from riffusion.pairs.tasks import ADD, TASKS, Edit, Success, task_named
from riffusion.util.errors import UserError
from riffusion.util.flags import Help
from riffusion.util.runtime import run_script

RETRIES = 3
JUDGED_STEMS = ("bass", "drums", "other", "vocals")
HIGH, LOW = "add a high vocal", "add a low vocal"
ANY_VOCAL = "add a vocal"
BACKINGS = 6  # that one noise is painted over


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--model_id", default="checkpoints/small", help="model folder or Hub name (default: %(default)s)")
    add("--dataset_id", type=Path, required=True, help="folder of held-out pairs")
    add(
        "--train_data_dir", type=Path, help="folder of the pairs learnt from, for the judges (default: train beside it)"
    )
    add("--root_data_dir", type=Path, help="the held-out songs in stems, for `separation` (default: none)")
    add("--measure", nargs="+", choices=MEASURES, default=list(MEASURES), help="what to measure (default: all)")
    add("--max_samples", type=int, default=150, help="pairs of `edits` (default: %(default)s)")
    add("--max_vocals", type=int, default=30, help="backings of what is asked of vocals (default: %(default)s)")
    add("--max_train_stems", type=int, default=3000, help="training stems that judges look at (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds to paint each pair with")
    add("--num_inference_steps", type=int, default=DEFAULT_STEPS, help="denoising steps (default: %(default)s)")
    add("--scheduler", choices=SCHEDULERS, default=DEFAULT_SCHEDULER, help="how they are taken (default: %(default)s)")
    add("--guidance_scale", type=float, help="text guidance (default: the model's)")
    add("--image_guidance_scale", type=float, help="image guidance (default: the model's)")
    add("--batch_size", type=int, default=4, help="pictures sampled together (default: %(default)s)")
    add("--json", type=Path, help="also write the figures here (default: print them only)")
    args = parser.parse_args(argv)
    args.train_data_dir = args.train_data_dir or args.dataset_id.parent / "train"
    return args


@dataclass(frozen=True)
class Options:
    """The flags."""

    model_id: str
    dataset_id: Path
    train_data_dir: Path
    root_data_dir: Path | None
    measure: list[str]
    max_samples: int
    max_vocals: int
    max_train_stems: int
    seeds: list[int]
    num_inference_steps: int
    scheduler: str
    guidance_scale: float | None
    image_guidance_scale: float | None
    batch_size: int
    json: Path | None


def main(args: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    options = Options(**vars(args))
    bench = open_bench(options)
    return run_measures(args, lambda name: MEASURES[name](bench, options))


@dataclass
class Bench:
    """The model, how it samples with each seed, and the held-out pairs in a random order."""

    painter: Painter
    settings: list[Settings]
    pairs: datasets.Dataset
    max_vocals: int

    def audios(self, pairs: datasets.Dataset) -> list[ItemAudio]:
        """The inputs of some pairs as sound."""
        return open_audio(items_of_target(pairs, self.painter.target), self.painter)

    def asked(self, asked: str) -> datasets.Dataset:
        """Pairs that ask to add a stem, of as many songs as there are before a second one of any."""
        facts = zip(self.pairs["task"], self.pairs["painted_stem"], strict=True)
        rows = [row for row, (task, stem) in enumerate(facts) if (task, stem) == (ADD.name, asked)]
        return self.pairs.select(spread_over_songs(rows, self.pairs["song"])[: self.max_vocals])

    @cached_property
    def vocals(self) -> tuple[datasets.Dataset, list[ItemAudio]]:
        """Pairs that ask for vocals, and their inputs as sound."""
        chosen = self.asked("vocals")
        if not len(chosen):
            raise UserError("no held-out pair asks to add vocals")
        return chosen, self.audios(chosen)

    @cached_property
    def sung(self) -> dict[str, list[PaintedItem]]:
        """What the model sings over the `vocals`, by the name of each seed's row."""
        return self.painted(self.vocals[1])

    def painted(self, audios: list[ItemAudio]) -> dict[str, list[PaintedItem]]:
        """What the model paints over some inputs, by the name of each seed's row."""
        return {f"model, seed {one.seed}": paint(audios, self.painter, one) for one in self.settings}


def open_bench(options: Options) -> Bench:
    """The model and the held-out pairs."""
    painter = load_painter(options.model_id, options.batch_size)
    facts = model.load_facts(options.model_id)
    scales, steps = (options.guidance_scale, options.image_guidance_scale), options.num_inference_steps
    settings = [choose_settings(facts, steps, seed, *scales, scheduler=options.scheduler) for seed in options.seeds]
    return Bench(painter, settings, held_out_pairs(options.dataset_id), options.max_vocals)


def measure_edits(bench: Bench, options: Options) -> Records:
    """Is the edit performed, and is it the one that was asked for?"""
    pairs = bench.pairs.select(range(min(options.max_samples, len(bench.pairs))))
    audios, asked = bench.audios(pairs), pairs["painted_stem"]
    judge = train_stem_judge(*training_stems(options, JUDGED_STEMS))
    rows: Records = []
    for name, candidates in control_rows(audios, bench.painter.target).items():
        rows.append(edit_row(name, candidates, candidates, asked, judge))
    for settings in bench.settings:
        candidates = paint(audios, bench.painter, settings)
        again = paint_again(candidates, bench.painter, settings, RETRIES)
        rows.append(edit_row(f"model, seed {settings.seed}", candidates, again, asked, judge))
    return rows


def edit_row(
    name: str, candidates: list[PaintedItem], again: list[PaintedItem], asked: list[str], judge: StemJudge
) -> dict[str, object]:
    """One row over what is painted for all tasks; `again` are those after retries, `asked` the stems asked for."""
    rate = candidates[0].audio.converter.params.sample_rate
    adds = [place for place, one in enumerate(candidates) if one.audio.item.task.success is Success.NEW_PART]
    keeps = [place for place, one in enumerate(candidates) if one.audio.item.task.success is Success.SILENCE]
    judged = [place for place, stem in enumerate(asked) if stem in JUDGED_STEMS]
    sung = [place for place in adds if asked[place] == "vocals"]
    named = judge([candidates[place].picture for place in judged])
    levels = [candidates[place].analysis.level.level_db for place in adds]
    return {
        "answer": name,
        "adds": len(adds),
        "performed %": percent([performed(candidates[place]) for place in adds]),
        f"with {RETRIES} retries %": percent([performed(again[place]) for place in adds]),
        "level dB": float(np.median([level for level in levels if np.isfinite(level)] or [np.nan])),
        "stems": len(judged),
        "stem asked for %": percent([one == asked[place] for one, place in zip(named, judged, strict=True)]),
        "keeps": len(keeps),
        "kept %": percent([performed(candidates[place]) for place in keeps]),
        "vocals": len(sung),
        "voiced %": 100 * float(np.mean([candidates[place].analysis.voicing.voiced_share for place in sung])),
        "pitch confidence": float(np.mean([confidence(waveform(candidates[place]), rate) for place in sung])),
    }


def measure_registers(bench: Bench, options: Options) -> Records:
    """Is a voice asked high higher than one asked low, over the same backing and from the same noise?"""
    _, audios = bench.vocals
    rows: Records = []
    for settings in bench.settings:
        high, low = (paint(audios, bench.painter, settings, prompt) for prompt in (HIGH, LOW))
        apart = [median_pitch(one) - median_pitch(other) for one, other in zip(high, low, strict=True)]
        known = [one for one in apart if np.isfinite(one)]
        rows.append(
            {
                "seed": settings.seed,
                "backings": len(apart),
                "both voiced": len(known),
                "high is higher %": percent([one > 0 for one in apart]),
                "semitones between, median": float(np.median(known)),
            }
        )
    return rows


def measure_notes(bench: Bench, options: Options) -> Records:
    """Are the notes those of the backing?"""
    pairs, audios = bench.vocals
    rate = bench.painter.converter.params.sample_rate
    harmonies = [Harmony(audio.backing[0].numpy(), rate) for audio in audios]
    true = [melody_of(one) for one in control_rows(audios, bench.painter.target)["oracle"]]
    songs = pairs["song"]
    if len(set(songs)) < 2:
        raise UserError("needs held-out vocals of two songs")
    moved = [next(melody for song, melody in zip(songs, true, strict=True) if song != own) for own in songs]
    sung = {"true vocals": true, "true vocals of another song": moved}
    sung |= {name: [melody_of(one) for one in candidates] for name, candidates in bench.sung.items()}
    rows: Records = []
    for name, melodies in sung.items():
        fits = np.array([harmony.fit(notes) for harmony, notes in zip(harmonies, melodies, strict=True)])
        voiced = np.isfinite(fits[:, 0])
        in_scale, in_chord = 100 * fits[voiced].mean(axis=0)
        rows.append(
            {"vocals": name, "clips": int(voiced.sum()), "in the scale %": in_scale, "in the chord %": in_chord}
        )
    return rows


def measure_memory(bench: Bench, options: Options) -> Records:
    """Is a painted stem nearer to a training stem than true ones are, and do two seeds sing the same?"""
    _, audios = bench.vocals
    learnt = np.stack([thumbnail(picture) for picture in training_stems(options, ("vocals",))[0]])
    candidates = {"true held-out vocals": [audio.item.truth for audio in audios]}
    candidates |= {name: [one.picture for one in painted] for name, painted in bench.sung.items()}
    melodies = [[melody_of(one) for one in painted] for painted in bench.sung.values()]
    rows: Records = []
    for name, pictures in candidates.items():
        nearest = likeness(np.stack([thumbnail(picture) for picture in pictures]), learnt).max(axis=1)
        figures = {"nearest, median": float(np.median(nearest)), "nearest, largest": float(nearest.max())}
        rows.append({"vocals": name, "clips": len(pictures), "training stems": len(learnt)} | figures)
    alike = [np.nan]
    for sung, others in zip(melodies, [*melodies[1:], melodies[0]], strict=True):
        alike.append(float(np.nanmedian([sung_the_same(one, other) for one, other in zip(sung, others, strict=True)])))
    return [row | {"sung as by another seed %": 100 * share} for row, share in zip(rows, alike, strict=True)]


def measure_backings(bench: Bench, options: Options) -> Records:
    """Does a part follow its backing, where instruction and noise are the same?"""
    pairs, audios = bench.vocals
    audios = audios[:BACKINGS]
    rate = bench.painter.converter.params.sample_rate
    harmonies = [Harmony(audio.backing[0].numpy(), rate) for audio in audios]
    noises = ["the same noise"] * len(audios)
    rows: Records = []
    for settings in bench.settings:
        candidates = paint(audios, bench.painter, settings, ANY_VOCAL, noises)
        alike = likeness(*[np.stack([thumbnail(one.picture) for one in candidates])] * 2)
        fits = np.array([[harmony.fit(melody_of(one))[0] for harmony in harmonies] for one in candidates])
        for place, _ in enumerate(candidates):
            others = [other for other in range(len(candidates)) if other != place]
            rows.append(
                {"seed": settings.seed, "backing": f"{place + 1}: {pairs[place]['song']}"}
                | {f"like {other + 1}": float(alike[place, other]) for other in range(len(candidates))}
                | {"in its own scale %": 100 * fits[place, place]}
                | {"in the others' %": 100 * float(np.nanmean(fits[place, others]))}
            )
    return rows


def measure_hearing(bench: Bench, options: Options) -> Records:
    """Is it heard as the stem that was asked for, and at the backing's time?"""
    rows: Records = []
    for stem in SOUNDS_LIKE:
        pairs = bench.asked(stem)
        if not len(pairs):
            continue
        audios = bench.vocals[1] if stem == "vocals" else bench.audios(pairs)
        controls = more_controls(audios, bench.painter)
        painted = bench.sung if stem == "vocals" else bench.painted(audios)
        true = controls["oracle"]
        features = {name: [features_of(one) for one in given] for name, given in (controls | painted).items()}
        truth = np.stack(features["oracle"])
        for name, given in (controls | painted).items():
            ours, theirs = (standardise(np.stack(some), truth) for some in (features[name], features["oracle"]))
            distance = kernel_distance(ours, theirs, [song_of(one) for one in given], [song_of(one) for one in true])
            rows.append({"stem": stem} | hearing_row(name, given, stem) | {"distance x 1000": distance})
    return rows


def hearing_row(name: str, candidates: list[PaintedItem], stem: str) -> dict[str, object]:
    """One row over what is painted into all items: means."""
    rate = candidates[0].audio.converter.params.sample_rate
    times = [on_time_of(one) for one in candidates]

    def mean(values: list[float]) -> float:
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else np.nan

    return {
        "answer": name,
        "clips": len(candidates),
        "performed %": percent([one.analysis.is_new_part(stem) for one in candidates]),
        "level dB": mean([one.analysis.level.level_db for one in candidates]),
        "pitch confidence": mean([confidence(waveform(one), rate) for one in candidates]),
        "overtones %": 100 * mean([one.analysis.timbre.overtone_share for one in candidates]),
        "onsets dB": mean([one.analysis.timbre.onset_db for one in candidates]),
        "below 300 Hz %": 100 * mean([one.analysis.timbre.low_share for one in candidates]),
        "on the backing's onsets %": 100 * mean([own for own, _ in times]),
        "by chance %": 100 * mean([chance for _, chance in times]),
    }


def performed(painted: PaintedItem) -> bool:
    """Whether the edit was performed."""
    return painted.measured.verdict is Verdict.PERFORMED


def waveform(painted: PaintedItem) -> np.ndarray:
    """The painted stem (samples,)."""
    return painted.stem[0].numpy()


def features_of(painted: PaintedItem) -> np.ndarray:
    """The painted stem's sound features (features,)."""
    return sound_features(waveform(painted), painted.audio.converter.params.sample_rate)


def song_of(painted: PaintedItem) -> str:
    """The song that a part comes from, or that it was painted over."""
    return painted.audio.item.song


def on_time_of(painted: PaintedItem) -> tuple[float, float]:
    """Share of a part's onsets on those of its backing, and by chance."""
    rate = painted.audio.converter.params.sample_rate
    part, backing = (onset_seconds(one, rate) for one in (waveform(painted), painted.audio.backing[0].numpy()))
    return on_time(part, backing, painted.stem.shape[1] / rate)


def measure_separation(bench: Bench, options: Options) -> Records:
    """SI-SDR of what is left by "remove" and "extract", in sound, beside that of the mix as it was."""
    if options.root_data_dir is None:
        raise UserError("needs --root_data_dir, the held-out songs in stems")
    folders = {song.name: song for song in held_out_songs(options.root_data_dir)}
    records = [one for one in bench.pairs.remove_columns(["original_image", "edited_image"]) if one["song"] in folders]
    rows: Records = []
    for task in (task.name for task in TASKS if task.takes_from_input):
        asked = [one for one in records if one["task"] == task][: options.max_vocals]
        if not asked:
            continue
        figures = [separate(record, folders[record["song"]], bench) for record in tqdm(asked, desc=task)]
        before, after = np.array(figures).T
        rows.append(
            {"task": task, "clips": len(asked), "SI-SDR of the mix, dB": float(np.median(before))}
            | {"of the result, dB": float(np.median(after)), "better by, dB": float(np.median(after - before))}
            | {"better in %": percent(list(after > before))}
        )
    if not rows:
        raise UserError(f'{options.root_data_dir}: no "remove" or "extract" of {options.dataset_id} is of a song there')
    return rows


def held_out_songs(root: Path) -> list[stems.Song]:
    """The songs of every `valid` folder."""
    return [song for folder in sorted(root.rglob("valid")) for song in stems.find_songs(folder)]


def separate(record: dict, song: stems.Song, bench: Bench) -> tuple[float, float]:
    """SI-SDR to the true result of the untouched mix and of the model's result, for a record's clip, in dB."""
    params, painter = bench.painter.converter.params, bench.painter
    backing = frozenset(record["backing_stems"].split(", "))
    task = task_named(record["task"])
    wanted = Edit(task, record["painted_stem"]).result(backing)
    with tempfile.TemporaryDirectory() as folder:
        parts = stems.mix_down(song, params.sample_rate, Path(folder))
        start = round(record["start_seconds"] * params.sample_rate)
        heard = {name: record["gain"] * parts.read(name, start, params.clip_samples) for name in backing}
        mix, true = sum(heard.values()), sum(heard[name] for name in wanted)
        soundfile.write(Path(folder) / "mix.wav", mix, params.sample_rate, "FLOAT")
        with open_song(Path(folder) / "mix.wav", Region(0, len(mix)), replace(painter, quiet=True)) as tiled:
            latents = tiled.paint(record["edit_prompt"], ["0"], bench.settings[0])
            stem = np.concatenate(list(tiled.stem(latents[0], task)))
    return si_sdr(mix, true), si_sdr(task.apply(mix, stem), true)


def training_stems(options: Options, kinds: tuple[str, ...]) -> tuple[list, list[str]]:
    """Pictures of true stems of training songs, at random, and their names."""
    pairs = load_splits(str(options.train_data_dir))
    rows = next(iter(pairs.values()))
    chosen = [row for row, stem in enumerate(rows["painted_stem"]) if stem in kinds]
    chosen = np.random.default_rng(0).permutation(chosen)[: options.max_train_stems].tolist()
    if not chosen:
        raise UserError(f"{options.train_data_dir}: no pair paints {' or '.join(kinds)}")
    some = rows.select(chosen)
    return [one["edited_image"] for one in tqdm(some, desc="training stems")], some["painted_stem"]


def melody_of(painted: PaintedItem) -> np.ndarray:
    """The painted stem's melody (frames,), in semitones."""
    return melody(waveform(painted), painted.audio.converter.params.sample_rate)


def median_pitch(painted: PaintedItem) -> float:
    """Of the voiced frames, in semitones; nan without any."""
    notes = melody_of(painted)
    voiced = notes[np.isfinite(notes)]
    return float(np.median(voiced)) if len(voiced) else np.nan


def percent(verdicts: list) -> float:
    """Share of those that hold; nan without any."""
    return 100 * float(np.mean([bool(one) for one in verdicts])) if len(verdicts) else np.nan


MEASURES: dict[str, Callable[[Bench, Options], Records]] = {
    "edits": measure_edits,
    "registers": measure_registers,
    "notes": measure_notes,
    "memory": measure_memory,
    "backings": measure_backings,
    "hearing": measure_hearing,
    "separation": measure_separation,
}

if __name__ == "__main__":
    run_script(main, parse_args())
