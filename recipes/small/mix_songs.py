"""Mix songs of parts that don't belong together, to learn to take them apart again.

    python recipes/small/mix_songs.py --root_data_dir ../shared/data/leadsheets/train \\
        --voices_dir ../shared/data/dryvocals --output_dir build/mixed

Each song has a singer's dry phrases for vocals, one after another, and the drums, the bass and everything else of
three songs. A part can be told from the others by its sound whatever it plays (Demucs trains so, arXiv 1911.13254).
What is to be added has to fit, so these songs are for `preprocess_musdb.py --tasks remove extract` alone.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from riffusion.audio import load_audio
from riffusion.pairs import stems
from riffusion.util import files
from riffusion.util.errors import UserError
from riffusion.util.flags import Help
from riffusion.util.runtime import run_script

RATE = 44100
BACKING = ("drums", "bass", "other")
VOICE_LEVEL = 0.1  # root mean square of the phrases, as sung vocals have it in a mix
MOST_GAIN_DB = 4.0  # of a part of the backing, up or down


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--root_data_dir", type=Path, required=True, help="folder with a folder of stems a song, for the backings")
    add("--voices_dir", type=Path, required=True, help="folder with a file a phrase")
    add("--output_dir", type=Path, required=True, help="where the songs go; finished ones stay")
    add("--songs", type=int, default=25, help="songs to mix (default: 25)")
    add("--seconds", type=float, default=60.0, help="length of each (default: 60)")
    add("--seed", type=int, default=0, help="seed of what goes together (default: 0)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Mix the songs; returns the exit code."""
    songs = stems.find_songs(args.root_data_dir)
    phrases = stems.sound_files(args.voices_dir)[0]
    if not phrases:
        raise UserError(f"{args.voices_dir}: contains no audio")
    files.make_folder(args.output_dir)
    for number in tqdm(range(args.songs), unit="song"):
        folder = args.output_dir / f"mixed {number:03d}"
        if not folder.is_dir():
            rng = np.random.default_rng([args.seed, number])
            mix_song(folder, songs, phrases, round(args.seconds * RATE), rng)
    return 0


def mix_song(
    folder: Path, songs: list[stems.Song], phrases: list[Path], samples: int, rng: np.random.Generator
) -> None:
    """Write one song of random backing and phrases, so many samples long, into a new folder."""
    chosen = rng.choice(len(songs), size=len(BACKING), replace=len(songs) < len(BACKING))
    parts = {"vocals": sing_phrases(phrases, samples, rng)}
    for name, place in zip(BACKING, chosen, strict=True):
        path, stream = stems.stem_sources(songs[place])[name]
        part = load_audio(path, RATE, stream)[0].mean(axis=0)
        gain = 10 ** (rng.uniform(-MOST_GAIN_DB, MOST_GAIN_DB) / 20)
        parts[name] = gain * cut(part, samples, rng)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        aside = Path(temporary) / folder.name
        aside.mkdir()
        for name, part in parts.items():
            soundfile.write(aside / f"{name}.flac", part, RATE)
        shutil.move(aside, folder)  # whole or not at all


def sing_phrases(phrases: list[Path], samples: int, rng: np.random.Generator) -> np.ndarray:
    """Phrases in random order, each as loud as the next, float32 (samples,)."""
    sung: list[np.ndarray] = []
    while sum(map(len, sung)) < samples:
        phrase = load_audio(phrases[rng.integers(len(phrases))], RATE)[0].mean(axis=0)
        level = float(np.sqrt(np.mean(phrase**2)))
        sung.append(phrase * (VOICE_LEVEL / max(level, 1e-4)))
    return np.clip(np.concatenate(sung)[:samples], -1, 1).astype(np.float32)


def cut(part: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """So many samples from somewhere in a part (samples,), which is repeated if it is too short."""
    repeated = np.tile(part, -(-samples // len(part)))
    start = int(rng.integers(len(repeated) - samples + 1))
    return repeated[start : start + samples]


if __name__ == "__main__":
    run_script(main, parse_args())
