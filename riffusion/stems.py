"""Songs as stems: finding them on disk, reading them, and cutting them into clips worth learning from."""

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import soxr

from riffusion import audio
from riffusion.audio import mono_blocks, resample
from riffusion.downmix import Downmix, Survey, mixed_blocks
from riffusion.errors import UserError
from riffusion.ffmpeg import put_ffmpeg_on_path
from riffusion.recording import Recording, open_recording, open_recordings, open_sound, working_folder

MUSDB_STEMS = {"drums": 1, "bass": 2, "other": 3, "vocals": 4}  # stream of each stem in a .stem.mp4; 0 is the mixture
SUBSETS = ("train", "valid", "test")
STEM_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
STEM_MP4 = ".stem.mp4"
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
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    subsets = [name for name in SUBSETS if (root / name).is_dir()]
    folders = [(name, root / name) for name in subsets] or [("", root)]
    songs = []
    for subset, folder in folders:
        for path in sorted(folder.iterdir()):
            if path.name.endswith(STEM_MP4):
                songs.append(Song(path.name.removesuffix(STEM_MP4), path, subset))
            elif path.is_dir() and not path.name.startswith("."):
                songs.append(Song(path.name, path, subset))
    names = [(song.subset, song.name) for song in songs]
    twice = next((song for song in songs if names.count((song.subset, song.name)) > 1), None)
    if twice is not None:
        raise UserError(f"{twice.path}: there is another song named {twice.name!r} beside it")
    if not songs:
        raise UserError(f"{root}: holds no song, neither a *{STEM_MP4} file nor a folder of stems")
    return songs


def stem_files(song: Song) -> dict[str, Path]:
    """Stem name to audio file of a song folder; the mixture is left out. Raises UserError if stems are missing."""
    files = {
        path.stem: path
        for path in sorted(song.path.iterdir())
        if path.suffix.lower() in STEM_SUFFIXES and path.stem != "mixture"
    }
    if not files:
        raise UserError(f"{song.path}: holds no stem ({', '.join(STEM_SUFFIXES)})")
    if set(files) < set(MUSDB_STEMS):
        missing = ", ".join(sorted(set(MUSDB_STEMS) - set(files)))
        raise UserError(f"{song.path}: stem missing: {missing}")
    return files


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
        names, sources = zip(*stems, strict=True)
        recordings = open_recordings(path, [stream for _, stream in sources], folder)
        yield from zip(names, [recording.require_whole() for recording in recordings], strict=True)


def load_stems(song: Song, sample_rate: int = 44100) -> dict[str, np.ndarray]:
    """All stems of a song as {name: float32 (channels, samples)} at `sample_rate`, equally long.

    A stem that ends early is padded with silence. Raises UserError naming the song's file and what is wrong.
    """
    with audio.temporary_folder() as folder:
        stems = {name: audio.load_recording(recording, sample_rate)[0] for name, recording in open_stems(song, folder)}
    samples = max(stem.shape[1] for stem in stems.values())
    return {name: np.pad(stem, ((0, 0), (0, samples - stem.shape[1]))) for name, stem in stems.items()}


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
        with open_sound(self.files[name]) as file:
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
    files: dict[str, Path] = {}
    downmixes, energies, lengths = {}, {}, {}
    for name, recording in open_stems(song, folder):
        files[name] = folder / f"{len(files)}.wav"  # a stem's own name may be too long, or none for a file
        survey = Survey()
        blocks = mono_blocks(recording, sample_rate, mix=survey.mix)
        needed = 4 * recording.samples * sample_rate // recording.rate
        energies[name], lengths[name] = write_mono(files[name], blocks, sample_rate, needed)
        downmixes[name] = survey.finish(recording.path)
        if downmixes[name].cancels or downmixes[name].lifted:
            blocks = mixed_blocks(recording, sample_rate, downmixes[name])
            energies[name], lengths[name] = write_mono(files[name], blocks, sample_rate, needed)
        recording.release()
    longest = max(lengths.values())
    if longest == 0:
        raise UserError(f"{song.path}: holds no samples")
    return MonoStems(
        files, {name: energy / longest for name, energy in energies.items()}, sample_rate, longest, downmixes
    )


def write_mono(path: Path, blocks: Iterator[np.ndarray], sample_rate: int, needed: int) -> tuple[float, int]:
    """Write blocks (samples,) as a wav file of floats; returns the sum of their squares, and how many they are.

    Raises UserError if there is no room for the bytes that are `needed`.
    """
    energy = 0.0

    def measured() -> Iterator[np.ndarray]:
        nonlocal energy
        for block in blocks:
            energy += float(np.vdot(block, block))
            yield block

    samples = audio.write_floats(path, measured(), sample_rate, needed=needed)
    return energy, samples


def open_backing(song: Song, without: str, folder: Path) -> Recording:
    """The sum of all stems of a song but one, written into `folder` block by block: memory stays flat.

    It has the stems' own sample rate, the highest where these differ, and says so on stderr; and the most bits that one
    of them has. Raises UserError if there is no such stem, or what is left doesn't go together.
    """
    names = list(stem_sources(song))
    require_rest(names, without, song.path)
    stems = dict(open_stems(song, folder))
    others = [stems[name] for name in names if name != without]
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


def sum_stems(stems: dict[str, np.ndarray], without: str) -> np.ndarray:
    """The backing: all stems but one, float32 (channels, samples), mono stems in the middle.

    Raises UserError if the stem isn't there, nothing else is, or their channels don't go together.
    """
    require_rest(stems, without, Path("the song"))
    channels = common_channels({name: stem.shape[0] for name, stem in stems.items()}, Path("the song"))
    others = [np.broadcast_to(stem, (channels, stem.shape[1])) for name, stem in stems.items() if name != without]
    return np.asarray(np.sum(others, axis=0, dtype=np.float32))
