"""Songs as stems: finding them on disk, reading them, and cutting them into clips worth learning from."""

import json
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from pathlib import Path

import numpy as np
import soxr

from riffusion import audio
from riffusion.audio import FORMATS, mono_blocks, resample
from riffusion.recordings.downmix import Downmix, Survey, mean_of_channels
from riffusion.recordings.ffmpeg import binaries, put_ffmpeg_on_path
from riffusion.recordings.recording import Recording, open_recording, open_recordings, open_sound, working_folder
from riffusion.util import names
from riffusion.util.errors import UserError

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


def song_at(path: Path) -> Song:
    """The song that a folder or a file in stems holds. Raises UserError if there is none."""
    reason = why_no_song(path) if path.exists() else "no such folder or file"
    if reason:
        raise UserError(f"{path}: {reason}{f'; {how_to_separate(path)}' * is_plain_sound(path)}")
    return Song(names.readable(without_ending(path.absolute())), path)


def find_songs(root: Path) -> list[Song]:
    """The songs of a MUSDB18 root (with train/, valid/ or test/), or of one such folder, sorted by name.

    Raises UserError if the folder is missing or holds no song.
    """
    return list_songs(root)[0]


def list_songs(root: Path) -> tuple[list[Song], dict[str, str]]:
    """The songs that `find_songs` finds, and why each of the other entries was passed over, by its path in `root`."""
    if is_plain_sound(root):
        raise UserError(f"{root}: is no folder of songs in stems; {how_to_separate(root)}")
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
                    raise UserError(f"{path}: another song here is named {name!r} too")
                name += "-2"  # other letters that are written the same
            titles[subset, name] = path
    if not titles:
        plain = next((path for path in map(root.joinpath, passed_over) if is_plain_sound(path)), None)
        how = f"; {how_to_separate(plain)}" if plain is not None else ""
        raise UserError(f"{root}: contains no song, neither a *{STEM_MP4} file nor a folder of stems{how}")
    return [Song(name, path, subset) for (subset, name), path in titles.items()], passed_over


def why_no_song(path: Path) -> str:
    """Why an entry of a folder of songs is none, "" if it is one; a name that begins with a dot may be a title."""
    if path.is_dir():
        if path.name == "__MACOSX":
            return "macOS's own"
        return "hidden, without audio" if path.name.startswith(".") and not sound_files(path)[0] else ""
    if not is_in_stems(path):
        return "no song in stems"
    return why_no_sound(path) if path.name.startswith("._") else ""


def is_in_stems(path: Path) -> bool:
    """Whether a file's name says that it holds a song in stems."""
    return path.name.lower().endswith(STEMS_ENDINGS)


def is_plain_sound(path: Path) -> bool:
    """Whether a path is that of a sound file, by its ending, that isn't in stems."""
    return path.suffix.lower() in SOUND_ENDINGS and path.is_file() and not is_in_stems(path)


def how_to_separate(path: Path) -> str:
    """How to make a song in stems of a plain sound file, in words: with Demucs, which writes a folder of stems."""
    folder = Path("separated", "htdemucs", path.stem)
    separate = f"demucs {shlex.quote(str(path))}"
    return f"separate it into stems first, as with Demucs (pip install demucs; {separate}), and pass {folder}"


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
    show = ["-show_entries", "stream=codec_type:format=probe_score", "-select_streams", "a", "-of", "json"]
    source = ["-protocol_whitelist", "file", f"file:{path}"]  # a playlist mustn't reach out
    run = subprocess.run([binaries()[1], "-v", "error", *show, *source], capture_output=True, stdin=subprocess.DEVNULL)
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
            raise UserError(f"{song.path}: {files[name].name} and {path.name} are both {name!r}; keep only one of them")
        else:
            files[name] = path
    if not files:
        raise UserError(f"{song.path}: contains no stem, that is, no audio file")
    if set(files) < set(MUSDB_STEMS):
        missing = ", ".join(sorted(set(MUSDB_STEMS) - set(files)))
        raise UserError(f"{song.path}: stem missing: {missing}")
    return files, passed_over


def stem_sources(song: Song) -> dict[str, tuple[Path, int]]:
    """Stem name to the file that holds it and the audio stream in that file."""
    if song.path.is_dir():
        return {name: (path, 0) for name, path in stem_files(song).items()}
    return {name: (song.path, stream) for name, stream in MUSDB_STEMS.items()}


def open_stems(song: Song, folder: Path) -> Iterator[tuple[str, Recording]]:
    """All stems of a song, each with its name; those of one file are decoded in one run, into `folder`.

    Raises UserError if one can't be read, or is damaged: from there on it wouldn't go with the others.
    """
    for path, stems in groupby(stem_sources(song).items(), key=lambda item: item[1][0]):
        stem_names, sources = zip(*stems, strict=True)
        recordings = open_recordings(path, [stream for _, stream in sources], folder)
        yield from zip(stem_names, [recording.require_whole() for recording in recordings], strict=True)


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
    """A song's stems mixed down to one channel, and the files to read clips from.

    These are wav files with one channel, or with several whose mean it is.
    """

    files: dict[str, Path]
    powers: dict[str, float]  # mean square of each
    sample_rate: int
    samples: int  # of the longest
    downmixes: dict[str, Downmix]  # how each was mixed down

    def read(self, name: str, start: int, samples: int) -> np.ndarray:
        """Float32 (samples,) from `start`, silent before and after the stem."""
        first = max(start, 0)
        with open_sound(self.files[name]) as file:
            file.seek(min(first, file.frames))
            channels = file.read(max(0, start + samples - first), dtype="float32", always_2d=True).T
        audio = mean_of_channels(channels, self.sample_rate)
        return audio if len(audio) == samples else np.pad(audio, (first - start, start + samples - first - len(audio)))

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


def mix_down(song: Song, sample_rate: int, folder: Path, cores: int = 1) -> MonoStems:
    """Look through all stems of a song, block by block, and decode into `folder` what isn't quick to read as it is.

    As many stems as there are cores are looked through at the same time. Memory stays flat. Raises UserError naming the
    song's file and what is wrong.
    """
    from riffusion.util.threads import side_by_side

    def mixed(numbered: tuple[int, tuple[str, Recording]]) -> tuple[str, MonoStem]:
        number, (name, recording) = numbered
        path = folder / f"{number}.wav"  # a stem's own name may be too long, or none for a file
        return name, mix_down_stem(recording, sample_rate, path)

    mono = dict(side_by_side(mixed, enumerate(open_stems(song, folder)), cores, cores))
    longest = max(stem.samples for stem in mono.values())
    if longest == 0:
        raise UserError(f"{song.path}: contains no samples")
    return MonoStems(
        {name: stem.file for name, stem in mono.items()},
        {name: stem.energy / longest for name, stem in mono.items()},
        sample_rate,
        longest,
        {name: stem.downmix for name, stem in mono.items()},
    )


@dataclass
class MonoStem:
    """One of `MonoStems`; `energy` is the sum of its squares."""

    file: Path
    downmix: Downmix
    energy: float = 0.0
    samples: int = 0

    def count(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Blocks (samples,) as they are, counted."""
        self.energy, self.samples = 0.0, 0
        for block in blocks:
            self.energy += float(np.vdot(block, block))
            self.samples += len(block)
            yield block


def mix_down_stem(recording: Recording, sample_rate: int, path: Path) -> MonoStem:
    """A stem as one channel. It is read from the recording's own file wherever that gives the same samples at once.

    Else it is written to `path`. One whose channels cancel, or which is lifted by an offset, is mixed down again, by
    its own `Downmix`. Raises UserError if its samples can't be meant, or there is no room.
    """
    survey = Survey(quick_rfft)
    stem = MonoStem(recording.file, Downmix())
    blocks = stem.count(mono_blocks(recording, sample_rate, mix=survey.mix))
    in_place = recording.rate == sample_rate and recording.is_quick_to_seek()
    if in_place:
        deque(blocks, maxlen=0)
    else:
        write_mono(path, blocks, sample_rate, recording)
    stem.downmix = survey.finish(recording.path)
    if stem.downmix.cancels or stem.downmix.lifted:
        in_place = False
        write_mono(path, stem.count(audio.mixed_blocks(recording, sample_rate, stem.downmix)), sample_rate, recording)
    if not in_place:
        stem.file = path
        recording.release()
    return stem


def quick_rfft(signals: np.ndarray) -> np.ndarray:
    """`np.fft.rfft` of float32 (..., samples) in half of its time, by torch, which is here to draw the pairs."""
    import torch

    return torch.fft.rfft(torch.from_numpy(signals)).numpy()


def write_mono(path: Path, blocks: Iterator[np.ndarray], sample_rate: int, recording: Recording) -> None:
    """Write the blocks (samples,) of a recording as a wav file of floats. Raises UserError if there is no room."""
    audio.write_floats(path, blocks, sample_rate, needed=4 * recording.samples * sample_rate // recording.rate)


def open_backing(song: Song, without: str, folder: Path) -> Recording:
    """The sum of all stems of a song but one, written into `folder` block by block: memory stays flat.

    It has the stems' own sample rate, the highest where these differ, and says so on stderr; and the most bits that one
    of them has. Raises UserError if there is no such stem, or what is left doesn't go together.
    """
    without = names.key(without)
    require_rest(list(stem_sources(song)), without, song.path)
    stems = dict(open_stems(song, folder))
    for name in recorded_mixtures(stems):
        if name == without:
            raise UserError(f"{song.path}: {without!r} is the sum of other stems; leave out one of those")
        stems.pop(name).release()
    others = [stem for name, stem in stems.items() if name != without]
    channels = common_channels({name: stem.channels for name, stem in stems.items()}, song.path)
    rate = max(stem.rate for stem in others)
    if any(stem.rate != rate for stem in others):
        rates = ", ".join(str(each) for each in sorted({stem.rate for stem in others}))
        print(f"warning: {song.path}: has stems of {rates} Hz; all are resampled to {rate} Hz", file=sys.stderr)
    samples = max(-(-stem.samples * rate // stem.rate) for stem in stems.values())
    path = working_folder(folder) / "backing.wav"
    audio.write_floats(path, summed(others, channels, rate, samples), rate, channels, 4 * channels * samples)
    for stem in stems.values():
        stem.release()
    backing = open_recording(path, folder)
    backing.path, backing.tags, backing.bits = song.path, {}, max(stem.bits for stem in others)
    return backing


def recorded_mixtures(stems: dict[str, Recording]) -> list[str]:
    """The names of those stems that are sums of others."""
    if len(stems) < 3:
        return []
    rate = max(stem.rate for stem in stems.values())
    sources = [audio.fixed_blocks(mono_blocks(stem, rate), BLOCK_SAMPLES) for stem in stems.values()]
    blocks = zip_longest(*sources, fillvalue=np.zeros(0, dtype=np.float32))
    return mixtures(list(stems), (np.stack([pad_to(part, BLOCK_SAMPLES) for part in parts]) for parts in blocks))


def pad_to(signal: np.ndarray, samples: int) -> np.ndarray:
    """A signal (samples,) with silence after it."""
    return np.pad(signal, (0, samples - len(signal)))


def summed(stems: list[Recording], channels: int, rate: int, samples: int) -> Iterator[np.ndarray]:
    """The sum of stems, float32 (channels, samples) at a time, to `samples` at `rate`; what ends early is silent."""
    sources = [audio.fixed_blocks(resampled(stem, rate), audio.BLOCK_SAMPLES) for stem in stems]
    for start in range(0, samples, audio.BLOCK_SAMPLES):
        total = np.zeros((channels, min(samples - start, audio.BLOCK_SAMPLES)), dtype=np.float32)
        for stem, blocks in zip(stems, sources, strict=True):
            block = next(blocks, np.zeros((stem.channels, 0), dtype=np.float32))[:, : total.shape[1]]
            total[:, : block.shape[1]] += block  # a mono stem in all channels
        yield total


def resampled(stem: Recording, rate: int) -> Iterator[np.ndarray]:
    """A stem's blocks (channels, samples) at `rate`, checked."""
    resampler = soxr.ResampleStream(stem.rate, rate, stem.channels, dtype="float32", quality="HQ")
    for block in stem.blocks():
        audio.check_audio(block, stem.path)
        yield block if stem.rate == rate else resampler.resample_chunk(np.ascontiguousarray(block.T)).T
    if stem.rate != rate:
        yield resampler.resample_chunk(np.zeros((0, stem.channels), dtype=np.float32), last=True).T


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


def require_rest(names: Collection[str], without: str, path: Path) -> None:
    """Refuse to leave out a stem that isn't there, or is all there is."""
    if without not in names:
        raise UserError(f"{path}: no stem named {without!r}; there are {', '.join(sorted(names))}")
    if len(names) == 1:
        raise UserError(f"{path}: {without!r} is the only stem: nothing is left for a backing")


def common_channels(channels: dict[str, int], path: Path) -> int:
    """How many channels a sum of stems has, from those of each. Raises UserError if they don't go together."""
    most = max(channels.values())
    odd = sorted(name for name, number in channels.items() if number not in (1, most))
    if odd:
        raise UserError(f"{path}: stems must have 1 or {most} channels; {odd[0]} has {channels[odd[0]]}")
    return most
