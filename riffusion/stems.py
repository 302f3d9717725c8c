"""Songs as stems: finding them on disk, reading them, and cutting them into clips worth learning from."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from riffusion import names
from riffusion.audio import FORMATS, load_audio, mono_blocks, put_ffmpeg_on_path, resample
from riffusion.downmix import Downmix, Survey, mixed_blocks
from riffusion.errors import UserError

MUSDB_STEMS = {"drums": 1, "bass": 2, "other": 3, "vocals": 4}  # stream of each stem in a .stem.mp4; 0 is the mixture
SUBSETS = ("train", "valid", "test")
STEM_MP4 = ".stem.mp4"
STEMS_ENDINGS = (STEM_MP4, ".stem.m4a")
SOUND_ENDINGS = {*(f".{name}" for name in FORMATS), ".m4a", ".mp4", ".aac", ".opus", ".aif", ".aiff", ".wma"}
MIXTURE_NAMES = ("mixture", "mix")
SURE_FORMAT = 25  # ffprobe's score from which on it has seen more than it takes to guess
MIXTURE_ERROR = 0.03  # energy of what a mixture differs from the sum of its stems, as a share: lossy files do
BLOCK_SAMPLES = 1 << 18  # compared at a time
MARGIN_SAMPLES = 2048  # around a clip, so that the resampler's filter has settled at its ends


@dataclass(frozen=True)
class Song:
    """A song on disk: a `.stem.mp4` file, or a folder with an audio file a stem. `subset` is "" outside MUSDB18."""

    name: str
    path: Path
    subset: str = ""


def find_songs(root: Path) -> list[Song]:
    """The songs of a MUSDB18 root (with train/, valid/ or test/), or of one such folder, sorted by name.

    Raises UserError if the folder is missing or holds no song.
    """
    return list_songs(root)[0]


def list_songs(root: Path) -> tuple[list[Song], dict[str, str]]:
    """The songs that `find_songs` finds, and why each of the other entries was passed over, by its path in `root`."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    subsets = [name for name in SUBSETS if (root / name).is_dir()]
    folders = [(name, root / name) for name in subsets] or [("", root)]
    titles: dict[tuple[str, str], Path] = {}
    passed_over = {}
    for subset, folder in folders:
        for path in sorted(folder.iterdir()):
            reason = why_no_song(path)
            if reason:
                passed_over[names.readable(str(path.relative_to(root)))] = reason
                continue
            name = names.readable(without_ending(path))
            while (subset, name) in titles:
                if without_ending(titles[subset, name]) == without_ending(path):
                    raise UserError(f"{path}: there is another song named {name!r} beside it")
                name += "-2"  # other letters that are written the same
            titles[subset, name] = path
    if not titles:
        raise UserError(f"{root}: holds no song, neither a *{STEM_MP4} file nor a folder of stems")
    return [Song(name, path, subset) for (subset, name), path in titles.items()], passed_over


def why_no_song(path: Path) -> str:
    """Why an entry of a folder of songs is none, "" if it is one; a name that begins with a dot may be a title."""
    if path.is_dir():
        if path.name == "__MACOSX":
            return "macOS's own"
        return "hidden, and holds no sound" if path.name.startswith(".") and not sound_files(path)[0] else ""
    if not is_in_stems(path):
        return "no song in stems"
    return why_no_sound(path) if path.name.startswith("._") else ""


def is_in_stems(path: Path) -> bool:
    """Whether a file's name says that it holds a song in stems."""
    return path.name.lower().endswith(STEMS_ENDINGS)


def without_ending(path: Path) -> str:
    """A song's name: that of its folder, or of its file without what tells the format."""
    if path.is_dir():
        return path.name
    ending = next((ending for ending in STEMS_ENDINGS if path.name.lower().endswith(ending)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


def sound_files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The files of a folder that hold sound, sorted, and why each other file was passed over, by its name.

    An ending that is known is believed, so that a broken song isn't passed over; of others the content is asked.
    """
    found, passed_over = [], {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            continue
        known = path.suffix.lower() in SOUND_ENDINGS and path.is_file() and not path.name.startswith("._")
        reason = "" if known else why_no_sound(path)
        if reason:
            passed_over[names.readable(path.name)] = reason
        else:
            found.append(path)
    return found, passed_over


def why_no_sound(path: Path) -> str:
    """Why a file isn't one of sound, "" if it is: it has a stream of sound in a format that ffprobe is sure of."""
    if not path.is_file():
        return "a link to nothing" if path.is_symlink() else "not a file"
    put_ffmpeg_on_path()
    show = ["-show_entries", "stream=codec_type:format=probe_score", "-select_streams", "a", "-of", "json"]
    source = ["-protocol_whitelist", "file", f"file:{path}"]  # a playlist mustn't reach out
    run = subprocess.run(["ffprobe", "-v", "error", *show, *source], capture_output=True, stdin=subprocess.DEVNULL)
    probed = json.loads(run.stdout or "{}")
    if probed.get("streams") and probed.get("format", {}).get("probe_score", 0) > SURE_FORMAT:
        return ""
    return "macOS's notes on another file" if path.name.startswith("._") else "no sound"


def stem_files(song: Song) -> dict[str, Path]:
    """Stem name to audio file of a song folder; the mixture is left out. Raises UserError if stems are missing."""
    return list_stems(song)[0]


def list_stems(song: Song) -> tuple[dict[str, Path], dict[str, str]]:
    """The stems that `stem_files` finds, and why each other file was passed over, by its name.

    Names that differ in case alone, or in Unicode's form, are one stem's.
    """
    found, passed_over = sound_files(song.path)
    files: dict[str, Path] = {}
    for path in found:
        name = names.key(path.stem)
        if name in MIXTURE_NAMES:
            passed_over[names.readable(path.name)] = "the mixture, by its name"
        elif name in files:
            raise UserError(
                f"{song.path}: {files[name].name} and {path.name} are both {name!r}; leave one of them there"
            )
        else:
            files[name] = path
    if not files:
        raise UserError(f"{song.path}: holds no stem, that is, no file of sound")
    if set(files) < set(MUSDB_STEMS):
        missing = ", ".join(sorted(set(MUSDB_STEMS) - set(files)))
        raise UserError(f"{song.path}: stem missing: {missing}")
    return files, passed_over


def stem_sources(song: Song) -> dict[str, tuple[Path, int]]:
    """Stem name to the file that holds it and the audio stream in that file."""
    if song.path.is_dir():
        return {name: (path, 0) for name, path in stem_files(song).items()}
    return {name: (song.path, stream) for name, stream in MUSDB_STEMS.items()}


def load_stems(song: Song, sample_rate: int = 44100) -> dict[str, np.ndarray]:
    """All stems of a song as {name: float32 (channels, samples)} at `sample_rate`, equally long.

    A stem that ends early is padded with silence; one that is the sum of others is left out. Raises UserError naming
    the song's file and what is wrong.
    """
    stems = {name: load_audio(path, sample_rate, stream)[0] for name, (path, stream) in stem_sources(song).items()}
    samples = max(stem.shape[1] for stem in stems.values())
    padded = {name: np.pad(stem, ((0, 0), (0, samples - stem.shape[1]))) for name, stem in stems.items()}
    mono = [stem.mean(axis=0) for stem in padded.values()]
    starts = range(0, samples, BLOCK_SAMPLES)
    left_out = mixtures(list(padded), (np.stack([part[at : at + BLOCK_SAMPLES] for part in mono]) for at in starts))
    return {name: stem for name, stem in padded.items() if name not in left_out}


def mixtures(stem_names: Sequence[str], blocks: Iterable[np.ndarray]) -> list[str]:
    """Stems that are sums of others, whatever their names are: a mixture of all, or one of some such as a backing.

    `blocks` (stems, samples) are one after another. Names of MUSDB18's go last: where the others are silent, a
    stem and the mixture are the same.
    """
    products = np.zeros((len(stem_names), len(stem_names)))
    for block in blocks:
        wide = block.astype(np.float64)
        products += wide @ wide.T
    rest = [number for number in range(len(stem_names)) if products[number, number] > 0]
    strange_first = sorted(rest, key=lambda number: stem_names[number] in MUSDB_STEMS)
    found: list[str] = []
    for number in strange_first:
        others = [other for other in rest if other != number]
        strange = stem_names[number] not in MUSDB_STEMS and len(stem_names) - len(found) > 2
        if is_sum(number, others, products, 1 if strange else 2):
            rest.remove(number)
            found.append(stem_names[number])
    return found


def is_sum(number: int, others: list[int], products: np.ndarray, least: int) -> bool:
    """Whether a stem is the sum of all the others, or of some that aren't the same as it; of `least` at least.

    `products` (stems, stems) are the stems' inner products.
    """

    def differs(parts: list[int]) -> bool:
        signs = np.zeros(len(products))
        signs[number], signs[parts] = 1, -1
        return signs @ products @ signs > MIXTURE_ERROR * products[number, number]

    if len(others) >= least and not differs(others):
        return True
    different = [other for other in others if differs([other])]
    weights = np.linalg.lstsq(products[np.ix_(different, different)], products[different, number], rcond=None)[0]
    parts = [other for other, weight in zip(different, weights, strict=True) if weight > 0.5]
    return len(parts) >= 2 and not differs(parts)


@dataclass(frozen=True)
class MonoStems:
    """A song's stems mixed down to one channel, as float wav files to read clips from."""

    files: dict[str, Path]
    powers: dict[str, float]  # mean square of each
    sample_rate: int
    samples: int  # of the longest
    downmixes: dict[str, Downmix]  # how each was mixed down

    def read(self, name: str, start: int, samples: int) -> np.ndarray:
        """Float32 (samples,) from `start`, silent before and after the stem."""
        first = max(start, 0)
        with soundfile.SoundFile(os.fsencode(self.files[name])) as file:
            file.seek(min(first, file.frames))
            audio = file.read(max(0, start + samples - first), dtype="float32")
        return np.pad(audio, (first - start, samples - (first - start) - len(audio)))

    def read_shifted(self, name: str, start: int, samples: int, semitones: int) -> np.ndarray:
        """Float32 (samples,) played 2 ** (semitones / 12) as fast; `start` counts samples of the song as it was.

        Pitch and tempo go together, as on a tape: it leaves no phase vocoder's smear in a training target.
        """
        if semitones == 0:
            return self.read(name, start, samples)
        speed = 2 ** (semitones / 12)
        audio = self.read(name, start - MARGIN_SAMPLES, round(samples * speed) + 2 * MARGIN_SAMPLES)
        first = round(MARGIN_SAMPLES / speed)
        return resample(audio[None], speed, 1.0)[0, first : first + samples]


def mix_down(song: Song, sample_rate: int, folder: Path) -> MonoStems:
    """Decode all stems of a song into mono wav files in `folder`, block by block: memory stays flat.

    A stem whose channels cancel, or which is lifted by an offset, is decoded again, by its own `Downmix`. Raises
    UserError naming the song's file and what is wrong.
    """
    files, downmixes, energies, lengths = {}, {}, {}, {}
    for number, (name, (path, stream)) in enumerate(stem_sources(song).items()):
        files[name] = folder / f"{number}.wav"  # a stem's name may be longer than another file's can be
        survey = Survey()
        blocks = mono_blocks(path, sample_rate, stream, survey.mix)
        energies[name], lengths[name] = write_mono(files[name], blocks, sample_rate)
        downmixes[name] = survey.finish(path)
        if downmixes[name].cancels or downmixes[name].lifted:
            blocks = mixed_blocks(path, sample_rate, downmixes[name], stream)
            energies[name], lengths[name] = write_mono(files[name], blocks, sample_rate)
    longest = max(lengths.values())
    if longest == 0:
        raise UserError(f"{song.path}: holds no samples")
    return MonoStems(
        files, {name: energy / longest for name, energy in energies.items()}, sample_rate, longest, downmixes
    )


def write_mono(path: Path, blocks: Iterator[np.ndarray], sample_rate: int) -> tuple[float, int]:
    """Write blocks (samples,) as a wav file of floats; returns the sum of their squares, and how many they are."""
    energy = 0.0
    with soundfile.SoundFile(os.fsencode(path), "w", sample_rate, channels=1, subtype="FLOAT") as file:
        for block in blocks:
            file.write(block)
            energy += float(np.vdot(block, block))
        return energy, file.frames


def without_mixtures(song: MonoStems) -> tuple[MonoStems, list[str]]:
    """A song's stems without those that are sums of others, and the names of these."""
    starts = range(0, song.samples, BLOCK_SAMPLES)
    blocks = (np.stack([song.read(name, start, BLOCK_SAMPLES) for name in song.files]) for start in starts)
    left_out = mixtures(list(song.files), blocks) if len(song.files) > 2 else []
    kept = [name for name in song.files if name not in left_out]
    files, powers = {name: song.files[name] for name in kept}, {name: song.powers[name] for name in kept}
    return replace(song, files=files, powers=powers, downmixes={name: song.downmixes[name] for name in kept}), left_out


def example_song() -> Song:
    """The MUSDB18 test excerpt of 6 s that stempeg carries (CC BY-NC-SA 3.0; never to be trained on)."""
    put_ffmpeg_on_path()
    import stempeg

    path = Path(stempeg.example_stem_path())
    return Song(path.name.removesuffix(STEM_MP4), path, "test")


def sum_stems(stems: dict[str, np.ndarray], without: str) -> np.ndarray:
    """The backing: all stems but one, float32 (channels, samples), mono stems in the middle.

    Raises UserError if the stem isn't there, nothing else is, or their channels don't go together.
    """
    without = names.key(without)
    if without not in stems:
        raise UserError(f"no stem named {without!r}; there are {', '.join(sorted(stems))}")
    if len(stems) == 1:
        raise UserError(f"{without!r} is the only stem: nothing is left for a backing")
    channels = max(stem.shape[0] for stem in stems.values())
    odd = sorted(name for name, stem in stems.items() if stem.shape[0] not in (1, channels))
    if odd:
        raise UserError(f"stems must have 1 or {channels} channels; {odd[0]} has {stems[odd[0]].shape[0]}")
    others = [np.broadcast_to(stem, (channels, stem.shape[1])) for name, stem in stems.items() if name != without]
    return np.asarray(np.sum(others, axis=0, dtype=np.float32))
