"""Move the vocals of songs by octaves to where a low or a high voice sings, their formants kept.

    python recipes/small/move_voices.py --root_data_dir songs/train --register low --output_dir songs/low

The same backing with a low voice and with a high one teaches what no backing can tell: which of them it is, is for the
instruction to say.
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import librosa
import numpy as np
import soundfile
from scipy.ndimage import gaussian_filter1d
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from riffusion.audio import load_audio
from riffusion.pairs import stems
from riffusion.pairs.features import median_f0, pitch_detector
from riffusion.util import files
from riffusion.util.disk_space import writing
from riffusion.util.flags import Help
from riffusion.util.runtime import run_script

RATE = 44100
REGISTERS = {"low": 150.0, "high": 600.0}  # median pitch in Hz, or as near to it as octaves lead
FORMANT_HZ = 300.0  # overtones are smoothed over so much, formants are not
MOST_LIFT = 30.0  # a formant is lifted or lowered by so much at most, as a factor


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("--root_data_dir", type=Path, required=True, help="folder with a folder of stems a song")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the songs go; finished ones stay")
    parser.add_argument("--register", choices=REGISTERS, required=True, help="where the vocals are moved to")
    parser.add_argument("--num_proc", type=int, default=2, help="songs at a time (default: 2)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Move the voices; returns the exit code."""
    songs = stems.find_songs(args.root_data_dir)
    files.make_folder(args.output_dir)
    with ProcessPoolExecutor(args.num_proc, multiprocessing.get_context("spawn")) as pool:
        moved = pool.map(partial(move_song, register=args.register, output_dir=args.output_dir), songs)
        octaves = list(tqdm(moved, total=len(songs), unit="song"))
    print(f"{sum(move != 0 for move in octaves)} of {len(songs)} songs have their vocals moved")
    return 0


def move_song(song: stems.Song, register: str, output_dir: Path) -> int:
    """Write a song with its vocals moved by so many octaves, which are returned; 0 if it is there already."""
    folder = output_dir / song.name
    if folder.is_dir():
        return 0
    path, stream = stems.stem_sources(song)["vocals"]
    vocals = load_audio(path, RATE, stream)[0].mean(axis=0)
    octaves = octaves_to_register(vocals, register)
    needed = sum(path.stat().st_size for path in stems.stem_files(song).values())
    with writing(output_dir, needed), tempfile.TemporaryDirectory(dir=output_dir) as temporary:
        aside = Path(temporary) / song.name
        aside.mkdir()
        for name, path in stems.stem_files(song).items():
            if name != "vocals" or not octaves:
                shutil.copy(path, aside)
        if octaves:
            soundfile.write(aside / "vocals.flac", move_voice(vocals, 12 * octaves), RATE)
        aside.rename(folder)  # whole or not at all
    return octaves


def octaves_to_register(vocals: np.ndarray, register: str) -> int:
    """How far vocals (samples,) are from a register; 0 if nothing is sung."""
    pitch = median_f0(pitch_detector().detect(vocals, RATE))
    return round(np.log2(REGISTERS[register] / pitch)) if pitch else 0


def move_voice(voice: np.ndarray, semitones: float) -> np.ndarray:
    """A voice (samples,) at another pitch, its formants where they were."""
    moved = librosa.stft(librosa.effects.pitch_shift(voice, sr=RATE, n_steps=semitones))
    lift = np.exp(formants(librosa.stft(voice)) - formants(moved))
    return librosa.istft(moved * np.clip(lift, 1 / MOST_LIFT, MOST_LIFT), length=len(voice))


def formants(spectrum: np.ndarray) -> np.ndarray:
    """Logarithm of a spectrum's magnitude (bins, frames) without its overtones."""
    level = np.log(np.abs(spectrum) + 1e-4)
    return gaussian_filter1d(level, sigma=FORMANT_HZ * 2 * (len(spectrum) - 1) / RATE, axis=0)


if __name__ == "__main__":
    run_script(main, parse_args())
