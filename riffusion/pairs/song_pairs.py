"""Pairs made of a song in stems: its clips, what each is asked, the images and the instructions."""

import functools
import itertools
import math
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from riffusion.pairs import stems
from riffusion.pairs.clips import FEW_STEMS, Clip, cut_clips
from riffusion.pairs.features import Features
from riffusion.pairs.instructions import Instruction, SongLabels, names_stem, with_sentence, write_instruction
from riffusion.pairs.options import PairOptions
from riffusion.pairs.pair import Pair, Scale, Source
from riffusion.pairs.pair_images import ClipImages, draw_images
from riffusion.pairs.task_words import read_task
from riffusion.pairs.tasks import Edit, Stems, draw_backings, draw_edits
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams
from riffusion.util.errors import UserError
from riffusion.util.threads import side_by_side

MAX_BACKINGS = 31  # that are tried for a clip before it is given up: all that five stems have

Plan = list[tuple[Stems, list[Edit]]]  # backings, each with what is asked of it


@dataclass(frozen=True)
class DrawnPair:
    """A pair in memory: its images, its texts, and the facts that it was made from."""

    name: str  # of the clip and the backing, which begins the names of files
    images: ClipImages
    text: Instruction
    source: Source
    edit: Edit
    scale: Scale
    features: Features

    @property
    def original(self) -> Image.Image:
        """The backing: mode L, a column per frame and 512 rows, low notes at the bottom, with Riffusion's tags."""
        return self.images.images[self.images.backing]

    @property
    def edited(self) -> Image.Image:
        """What a model is to paint, as large as `original` and on its scale."""
        return self.images.images[self.images.edited[self.edit]]

    def save(self, folder: Path, with_wav: bool = False) -> Pair:
        """Write both images, and their sound `with_wav`, into a folder; returns the record."""
        files = self.images.save(self.edit, folder / self.name, with_wav)
        return Pair(files, self.text, self.source, self.edit, self.scale, self.features)


@dataclass(frozen=True)
class SongWork:
    """What the pairs of a song are made with; `not_kept` counts what was left out, by the reason."""

    song: stems.Song
    labels: SongLabels
    wanted: Stems
    converter: SpectrogramConverter
    options: PairOptions
    not_kept: Counter[str] = field(default_factory=Counter)


def pairs_of(song: stems.Song, options: PairOptions, labels: SongLabels) -> Iterator[DrawnPair]:
    """Pairs of one song, one after another: `riffusion.pairs.make`."""
    with tempfile.TemporaryDirectory() as folder:
        mixed_down, _ = stems.without_mixtures(stems.mix_down(song, options.sample_rate, Path(folder)))
        wanted = wanted_stems(mixed_down, song, options)
        yield from make_pairs(mixed_down, SongWork(song, labels, wanted, converter_of(options), options))


@functools.lru_cache(maxsize=1)  # for all songs of a process
def converter_of(options: PairOptions) -> SpectrogramConverter:
    """Riffusion's transforms for these options: the clip's length becomes a number of frames."""
    riffusion = SpectrogramParams(sample_rate=options.sample_rate)
    frames = round(options.clip_seconds * 1000 / riffusion.step_size_ms) + 1
    return SpectrogramConverter(SpectrogramParams(sample_rate=options.sample_rate, num_frames=frames), options.device)


def wanted_stems(mixed_down: stems.MonoStems, song: stems.Song, options: PairOptions) -> Stems:
    """The stems of a song that are asked for. Raises UserError if nothing can be asked of them."""
    names = frozenset(options.stems or mixed_down.files) & set(mixed_down.files)
    if not names:
        raise UserError(f"{song.path}: has none of the stems {', '.join(options.stems)}")
    if len(mixed_down.files) == 1:
        raise UserError(f"{song.path}: {min(names)!r} is the only stem: nothing is left for a backing")
    if not any(mixed_down.powers[name] for name in names):
        raise UserError(f"{song.path}: {', '.join(sorted(names))} silent throughout")
    return names


def make_pairs(mixed_down: stems.MonoStems, work: SongWork, cores: int = 1) -> Iterator[DrawnPair]:
    """Cut the clips of one song at each pitch and draw their pairs, in the same order however many cores there are.

    Raises UserError if the song is too short.
    """
    params = work.converter.params
    if mixed_down.samples < params.clip_samples:
        seconds = mixed_down.samples / mixed_down.sample_rate
        raise UserError(f"{work.song.path}: {seconds:.3f} s is shorter than a clip of {params.clip_seconds:.3f} s")
    pitches = (0, *work.options.pitch_steps)
    cut = (cut_clips(mixed_down, params, work.options.overlap, semitones) for semitones in pitches)
    clips = itertools.chain.from_iterable(cut)
    if cores == 1:  # each pair comes as soon as it is drawn: whoever has enough takes no more
        for clip in clips:
            yield from make_clip_pairs(clip, work)
        return
    for pairs, not_kept in side_by_side(functools.partial(whole_clip, work), clips, cores, cores):
        work.not_kept.update(not_kept)
        yield from pairs


def whole_clip(work: SongWork, clip: Clip) -> tuple[list[DrawnPair], Counter[str]]:
    """All pairs of a clip, and what was left out of it: threads that counted together would miscount."""
    own = replace(work, not_kept=Counter())
    return list(make_clip_pairs(clip, own)), own.not_kept


def make_clip_pairs(clip: Clip, work: SongWork) -> Iterator[DrawnPair]:
    """Draw what one clip is asked, and its images on one scale per backing."""
    rng = random.Random(f"{work.options.seed} {work.song.name} {clip.number} {clip.semitones}")
    plan = plan_clip(clip, work, rng)
    edits = {edit for _, edits in plan for edit in edits}
    measured = {edit for edit in edits if edit.stem != "vocals" and not labels_for(edit, work).sentence}
    for number, images in enumerate(draw_images(clip, plan, work.options.target, work.converter, measured)):
        name = f"clip{clip.number:03d}_pitch{clip.semitones:+d}_{number}"
        for edit, changed_share in visible_edits(images, work).items():
            yield make_pair(name, images, edit, changed_share, work, rng)


def plan_clip(clip: Clip, work: SongWork, rng: random.Random) -> Plan:
    """Backings of a clip and the edits to ask of each, chosen by their levels."""
    options = work.options
    if options.asks_for_stems and not clip.may_be_loud(work.wanted, options.min_power_prop):
        work.not_kept["stems too quiet in a clip"] += len(work.wanted)
        return []
    audible = clip.audible()
    paintable = work.wanted & audible & clip.loud(options.min_power_prop)
    work.not_kept["stems too quiet in a clip"] += len(work.wanted - paintable)
    plan: Plan = []
    left, most = options.pairs_per_clip, math.ceil(options.pairs_per_clip / options.backings_per_clip)
    backings = draw_backings(audible, paintable, options.tasks, options.subset_prob, rng)
    for backing, offered in itertools.islice(backings, MAX_BACKINGS):
        in_range = edits_in_range(clip, backing, draw_edits(offered, rng), work)
        chosen = of_few_stems(in_range, plan)[: min(left, most)]
        if worth_a_backing(chosen, options):
            plan.append((backing, chosen))
            left -= len(chosen)
        if left == 0:
            break
    return plan


def edits_in_range(clip: Clip, backing: Stems, edits: list[Edit], work: SongWork) -> list[Edit]:
    """The edits whose stem is neither too soft nor too loud over the rest, and those about no stem."""
    low, high = work.options.min_level_db, work.options.max_level_db
    kept = [edit for edit in edits if not edit.stem or low <= clip.level_db(edit, backing) <= high]
    work.not_kept["edits with a level out of range"] += len(edits) - len(kept)
    return kept


def of_few_stems(edits: list[Edit], plan: Plan) -> list[Edit]:
    """The edits, in their order, that let a clip have no more than `FEW_STEMS` painted: each is an image to draw."""
    painted = {edit.stem for _, planned in plan for edit in planned if edit.stem}
    few = []
    for edit in edits:
        if not edit.stem or edit.stem in painted or len(painted) < FEW_STEMS:
            few.append(edit)
            painted |= edit.painted()
    return few


def visible_edits(images: ClipImages, work: SongWork) -> dict[Edit, float]:
    """The edits that change enough of the image, each with the share of pixels that it changes.

    One about no stem, which may stand beside them, changes nothing.
    """
    shares = {edit: images.changed_share(edit) for edit in images.edited}
    visible = {edit: share for edit, share in shares.items() if not edit.stem or share >= work.options.min_changed}
    work.not_kept["edits that change too little of the picture"] += len(shares) - len(visible)
    return visible if worth_a_backing(list(visible), work.options) else {}


def worth_a_backing(edits: list[Edit], options: PairOptions) -> bool:
    """Whether an edit among them paints, or no task is about a stem."""
    return any(edit.stem for edit in edits) or (bool(edits) and not options.asks_for_stems)


def make_pair(
    name: str, images: ClipImages, edit: Edit, changed_share: float, work: SongWork, rng: random.Random
) -> DrawnPair:
    """One pair with an instruction that is drawn for it."""
    clip, backing, options = images.clip, images.backing, work.options
    labels = labels_for(edit, work)
    if labels.sentence:  # it won't change with what is heard
        features = Features(level_db=clip.level_db(edit, backing))
    else:
        features = clip.features(edit, backing, images.mels.get(edit.painted()))
    text = write_instruction(edit, backing, labels, features, rng, options.say_prob)
    start_seconds = round(clip.start_seconds, 6)
    source = Source(work.song.name, clip.number, start_seconds, clip.semitones, ", ".join(sorted(backing)))
    scale = Scale(options.target, images.gain, images.max_value, changed_share)
    return DrawnPair(name, images, text, source, edit, scale, features)


def labels_for(edit: Edit, work: SongWork) -> SongLabels:
    """The song's labels; with a sentence of its own only for the edit that it asks for, or with one for each edit."""
    sentence = work.labels.sentence
    if sentence:
        about_stem = work.options.stems == (edit.stem,) or names_stem(sentence, edit.stem)
        return work.labels if about_stem and read_task(sentence) == edit.task else SongLabels()
    if work.options.sentence_per_song:
        return with_sentence(work.labels, edit, f"{work.options.seed} {work.song.name}")
    return work.labels
