"""Songs as stems: finding them on disk, reading them, and cutting them into clips worth learning from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from riffusion.audio import load_audio, mono_blocks, put_ffmpeg_on_path, resample
from riffusion.downmix import Downmix, Survey, mixed_blocks
from riffusion.errors import UserError

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


def load_stems(song: Song, sample_rate: int = 44100) -> dict[str, np.ndarray]:
    """All stems of a song as {name: float32 (channels, samples)} at `sample_rate`, equally long.

    A stem that ends early is padded with silence. Raises UserError naming the song's file and what is wrong.
    """
    stems = {name: load_audio(path, sample_rate, stream)[0] for name, (path, stream) in stem_sources(song).items()}
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
        with soundfile.SoundFile(self.files[name]) as file:
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
    for name, (path, stream) in stem_sources(song).items():
        files[name] = folder / f"{name}.wav"
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
    with soundfile.SoundFile(path, "w", sample_rate, channels=1, subtype="FLOAT") as file:
        for block in blocks:
            file.write(block)
            energy += float(np.vdot(block, block))
        return energy, file.frames


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
