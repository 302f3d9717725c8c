"""Songs as stems: finding them on disk, reading them, and cutting them into clips worth learning from."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from riffusion.audio import check_audio, load_audio, put_ffmpeg_on_path, resample
from riffusion.errors import UserError

MUSDB_STEMS = {"drums": 1, "bass": 2, "other": 3, "vocals": 4}  # stream of each stem in a .stem.mp4; 0 is the mixture
SUBSETS = ("train", "valid", "test")
STEM_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
STEM_MP4 = ".stem.mp4"


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


def stem_names(song: Song) -> set[str]:
    """Names of a song's stems, without reading their audio."""
    return set(MUSDB_STEMS) if song.path.is_file() else set(stem_files(song))


def load_stems(song: Song, sample_rate: int = 44100) -> dict[str, np.ndarray]:
    """All stems of a song as {name: float32 (channels, samples)} at `sample_rate`, equally long.

    A stem that ends early is padded with silence. Raises UserError naming the song's file and what is wrong.
    """
    if song.path.is_dir():
        stems = {name: load_audio(path, sample_rate)[0] for name, path in stem_files(song).items()}
    else:
        stems = {name: _load_stream(song.path, stream, sample_rate) for name, stream in MUSDB_STEMS.items()}
    samples = max(stem.shape[1] for stem in stems.values())
    return {name: np.pad(stem, ((0, 0), (0, samples - stem.shape[1]))) for name, stem in stems.items()}


def _load_stream(path: Path, stream: int, sample_rate: int) -> np.ndarray:
    """One stream of a .stem.mp4, read by musdb: float32 (channels, samples)."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    put_ffmpeg_on_path()  # musdb looks for it when it is imported
    import ffmpeg
    from musdb.audio_classes import Track

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # stempeg reports the codec's padding of every stream
            track = Track(path=str(path), stem_id=stream)
            samples = np.atleast_2d(track.audio.astype(np.float32).T)
    except (ffmpeg.Error, Warning, RuntimeError, IndexError) as error:
        raise UserError(f"{path}: stream {stream} can't be read as a MUSDB18 stem ({type(error).__name__})") from error
    audio = check_audio(samples, path)
    return audio if track.rate == sample_rate else resample(audio, track.rate, sample_rate)


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
        raise UserError(f"stems of 1 or {channels} channels go together; {odd[0]} has {stems[odd[0]].shape[0]}")
    others = [np.broadcast_to(stem, (channels, stem.shape[1])) for name, stem in stems.items() if name != without]
    return np.asarray(np.sum(others, axis=0, dtype=np.float32))


def shift_pitch(audio: np.ndarray, semitones: int) -> np.ndarray:
    """Pitch and tempo of (channels, samples) together, like a tape played faster: 2 ** (semitones / 12) as fast.

    It leaves no phase vocoder's smear in a training target, and a whole song takes a fraction of a second.
    """
    return resample(audio, 2 ** (semitones / 12), 1.0) if semitones else audio


def clip_starts(samples: int, clip_samples: int, overlap: float = 0.0) -> range:
    """First samples of the clips that fit into a song; `overlap` is a share of a clip, 0 <= overlap < 1."""
    return range(0, samples - clip_samples + 1, max(1, round(clip_samples * (1 - overlap))))


def loud_clips(stem: np.ndarray, starts: range, clip_samples: int, min_power_prop: float) -> list[int]:
    """Numbers of the clips whose mean power is at least `min_power_prop` of the whole stem's; 0 keeps every clip.

    `stem` is float (channels, samples); the power is the mean square, in float64.
    """
    power = np.cumsum(np.concatenate([[0.0], np.mean(stem.astype(np.float64) ** 2, axis=0)]))
    threshold = min_power_prop * power[-1] / stem.shape[1]
    powers = [(power[start + clip_samples] - power[start]) / clip_samples for start in starts]
    return [number for number, value in enumerate(powers) if value >= threshold]
