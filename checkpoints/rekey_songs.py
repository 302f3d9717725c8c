"""Bring the vocals of songs into the key of their band, for songs whose vocals were rendered in another one.

    python checkpoints/rekey_songs.py --root_data_dir ../shared/data/leadsheets/train --output_dir build/songs

The synthetic voices of `leadsheets` were moved to their registers, most of them by an interval that isn't an octave,
and the band was not: of 76 songs 15 are sung in the band's key. A model learns from such songs that any note will do.
The interval is found by listening: where the notes sung, moved by it, are louder in the band's chroma than elsewhere.

With `--register` they are moved by octaves besides, to where a low or a high voice sings. The same backing with a low
voice and with a high one teaches what no backing can tell: which of them it is, is for the instruction to say.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from riffusion import report, stems
from riffusion.features import VOICED, median_f0, pitch_detector
from riffusion.runtime import Help, run_script

RATE = 44100
LISTENING_RATE = 22050
CHROMA_HOP = 2048
LEAST_GAIN = 1.03  # louder by so much than where they are, or it is chance
LEAST_MOVE = 0.1  # semitones; less isn't worth the vocoder's traces
REGISTERS = {"low": 150.0, "high": 600.0}  # median pitch in Hz, or as near to it as octaves lead
FORMANT_HZ = 300.0  # overtones are smoothed over so much, formants are not
MOST_LIFT = 30.0  # a formant is lifted or lowered by so much at most, as a factor


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("--root_data_dir", type=Path, required=True, help="folder with a folder of stems a song")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the songs go; finished ones stay")
    parser.add_argument("--register", choices=REGISTERS, help="also move the vocals by octaves (default: don't)")
    parser.add_argument("--num_proc", type=int, default=2, help="songs at a time (default: 2)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    songs = stems.find_songs(args.root_data_dir)
    report.make_folder(args.output_dir)
    with ProcessPoolExecutor(args.num_proc, multiprocessing.get_context("spawn")) as pool:
        moved = pool.map(partial(rekey, register=args.register, output_dir=args.output_dir), songs)
        moves = list(tqdm(moved, total=len(songs), unit="song"))
    print(f"{sum(move != 0 for move in moves)} of {len(songs)} songs have their vocals moved")
    return 0


def rekey(song: stems.Song, register: str | None, output_dir: Path) -> float:
    """Write a song with its vocals moved by so many semitones, which are returned; 0 if it is there already.

    They are moved into the key of the band, and by octaves to a register if one is given.
    """
    folder = output_dir / song.name
    if folder.is_dir():
        return 0.0
    parts = {name: part.mean(axis=0) for name, part in stems.load_stems(song, RATE).items()}
    move = semitones_to_band(parts)
    if register is not None:
        move += 12 * octaves_to_register(parts["vocals"], move, register)
    with tempfile.TemporaryDirectory(dir=output_dir) as temporary:
        aside = Path(temporary) / song.name
        aside.mkdir()
        for name, path in stems.stem_files(song).items():
            if name != "vocals" or not move:
                shutil.copy(path, aside)
        if move:
            soundfile.write(aside / "vocals.flac", move_voice(parts["vocals"], move), RATE)
        aside.rename(folder)  # whole or not at all
    return move


def semitones_to_band(parts: dict[str, np.ndarray]) -> float:
    """How far the vocals of mono stems (samples,) are to be moved to be in the band's key: -6 to 6 semitones."""
    vocals, band = (
        librosa.resample(part, orig_sr=RATE, target_sr=LISTENING_RATE)
        for part in (parts["vocals"], parts["other"] + parts["bass"])
    )
    track = pitch_detector().detect(vocals, LISTENING_RATE)
    voiced = track.confidence >= VOICED
    if not voiced.any():
        return 0.0
    notes = librosa.hz_to_midi(track.pitch_hz[voiced])
    sharp = float(np.angle(np.exp(2j * np.pi * notes).mean()) / (2 * np.pi))  # in semitones
    tuning = float(librosa.estimate_tuning(y=band, sr=LISTENING_RATE))
    chroma = librosa.feature.chroma_cqt(y=band, sr=LISTENING_RATE, hop_length=CHROMA_HOP, tuning=tuning)
    frames = (np.flatnonzero(voiced) * chroma.shape[1] / len(voiced)).astype(int)
    classes = np.rint(notes - sharp).astype(int) % 12
    heard = [float(chroma[(classes + move) % 12, frames].mean()) for move in range(12)]
    best = int(np.argmax(heard))
    if heard[best] < LEAST_GAIN * heard[0]:
        best = 0
    move = (best if best <= 6 else best - 12) + tuning - sharp
    return move if abs(move) >= LEAST_MOVE else 0.0


def octaves_to_register(vocals: np.ndarray, move: float, register: str) -> int:
    """How far vocals (samples,), once moved by so many semitones, are from a register; 0 if nothing is sung."""
    pitch = median_f0(pitch_detector().detect(vocals, RATE))
    return round(np.log2(REGISTERS[register] / pitch) - move / 12) if pitch else 0


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
