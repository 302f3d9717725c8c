"""How well does a picture become sound, what does it cost, and does a long song stay whole?

    apt-get download fretsonfire-songs-sectoid fretsonfire-songs-muldjord
    for package in fretsonfire-*.deb; do dpkg -x $package fretsonfire; done
    python benchmarks/phase.py --guitar_dir fretsonfire --root_data_dir ../shared/data --model_id checkpoints/small

`clips`: oracle pictures, which are the true pair through 8-bit images, are painted over the backing: guitar over the
rest of the band in the Frets on Fire songs, vocals over the rest in the excerpt that stempeg carries and in the `valid`
songs. Rows are medians over clips: log-spectral distance to the true mix below 9.5 kHz, SI-SDR over that of the
untouched backing, distance of the painted stem to the true one, and seconds a clip. `noise` grey levels (standard
deviation, drawn apart for each picture) stand for what an autoencoder adds. `the original's way` (with --original) is
mel inversion by SGD and Griffin-Lim from noise; `gated gain` is a gain on the input's STFT where the pictures differ,
and 16 turns of Griffin-Lim. `identity`: two noisy pictures of the same sound. `song`: three minutes and 30 seconds
through the inference script. `pictures`: the converter against the formula.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import distances
from harness import Records, run_measures
from whole_songs import load_stems, sum_stems

from riffusion import audio
from riffusion.diffusion import model
from riffusion.diffusion.encode import latent_factor
from riffusion.diffusion.windows import Canvas, tile
from riffusion.image import image_from_spectrogram, mel_from_pixels, pixels_from_mel, shared_max_value
from riffusion.painting.result import read_result
from riffusion.pairs import stems
from riffusion.phase import change_from_mix_images, stem_from_image
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams, mel_filters
from riffusion.util.errors import UserError
from riffusion.util.flags import Help, torch_device
from riffusion.util.runtime import keep_freed_memory, run_script

PARAMS = SpectrogramParams()
RATE = PARAMS.sample_rate
SOUNDING_DB = -45.0  # of the quietest half second of both parts in a clip that is measured
SONG_RATE = 48000
PROMPT = "add a soft female vocal, long held notes"
FIGURES = ("LSD dB", "SI-SDR over copy dB", "LSD of stem dB", "seconds a clip")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--guitar_dir", type=Path, help="folder with guitar.ogg beside song.ogg somewhere in it (default: none)")
    add("--root_data_dir", type=Path, help="folder with everythingisfree/valid and leadsheets/valid (default: none)")
    add("--clips_per_song", type=int, default=3, help="of a song of --root_data_dir (default: 3)")
    add("--model_id", default="checkpoints/small", help="model that paints the songs (default: %(default)s)")
    add("--num_inference_steps", type=int, default=20, help="of its denoising steps (default: 20)")
    add("--song_seconds", type=int, nargs="+", default=[30, 180], help="lengths of `song`")
    add("--max_pictures", type=int, default=50, help="clips of `pictures`")
    add("--original", action="store_true", help="also measure the original's way, about 20 s a clip")
    add("--device", type=torch_device, default=torch.device("cpu"), help="torch device (default: cpu)")
    add("--measure", nargs="+", choices=MEASURES, default=list(MEASURES), help="what to measure (default: all)")
    add("--json", type=Path, help="also write the figures here (default: print them only)")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Options:
    """The flags."""

    guitar_dir: Path | None
    root_data_dir: Path | None
    clips_per_song: int
    model_id: str
    num_inference_steps: int
    song_seconds: list[int]
    max_pictures: int
    original: bool
    device: torch.device
    measure: list[str]
    json: Path | None


def main(args: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    keep_freed_memory()

    def take(name: str) -> Records:
        with tempfile.TemporaryDirectory() as folder:
            return MEASURES[name](Options(**vars(args)), Path(folder))

    return run_measures(args, take)


@dataclass
class Clip:
    """A backing and the part that belongs over it, float32 (clip_samples,) each."""

    corpus: str
    backing: np.ndarray
    stem: np.ndarray


def find_clips(options: Options) -> list[Clip]:
    """The nine clips with a guitar and the excerpt's vocals, and clips of the valid songs."""
    excerpt = load_stems(stems.example_song())
    backing = sum_stems(excerpt, without="vocals")
    first = slice(0, PARAMS.clip_samples)
    clips = [Clip("nine", backing.mean(axis=0)[first], excerpt["vocals"].mean(axis=0)[first])]
    for guitar in sorted(options.guitar_dir.rglob("guitar.ogg")) if options.guitar_dir else []:
        under, part = (
            audio.load_audio(guitar.with_name(name), RATE)[0].mean(axis=0) for name in ("song.ogg", "guitar.ogg")
        )
        clips += sounding_clips("nine", under, part, most=1)
    roots = (
        [options.root_data_dir / name for name in ("everythingisfree", "leadsheets")] if options.root_data_dir else []
    )
    for root in roots:
        for song in stems.find_songs(root / "valid"):
            parts = load_stems(song, RATE)
            backing = sum_stems(parts, without="vocals")
            mono = (backing.mean(axis=0), parts["vocals"].mean(axis=0))
            clips += sounding_clips(f"{root.name}/valid", *mono, most=options.clips_per_song)
    return clips


def sounding_clips(corpus: str, backing: np.ndarray, stem: np.ndarray, most: int) -> list[Clip]:
    """Clips of a song in which both parts sound throughout: those of its middle levels of the stem."""
    size, chunk = PARAMS.clip_samples, RATE // 2
    samples = min(len(backing), len(stem)) // size * size
    levels = {}
    for first in range(0, samples, size):
        parts = [part[first : first + size] for part in (backing, stem)]
        powers = [(part[: size // chunk * chunk] ** 2).reshape(-1, chunk).mean(axis=1) for part in parts]
        if 10 * np.log10(np.min(powers) + 1e-12) > SOUNDING_DB:
            levels[first] = powers[1].mean() / powers[0].mean()
    order = sorted(levels, key=levels.__getitem__)
    middle = order[max(0, (len(order) - most) // 2) :][:most] if len(order) > 1 else order
    return [Clip(corpus, backing[first : first + size], stem[first : first + size]) for first in middle]


def oracle_pictures(clip: Clip, converter: SpectrogramConverter, noise: float, seed: int) -> list[torch.Tensor]:
    """Mel amplitudes (1, bands, frames) of the backing, the stem and the mix, through 8-bit pictures of one scale."""
    signals = np.stack([clip.backing, clip.stem, clip.backing + clip.stem])
    mels = converter.mel_amplitudes_from_waveform(torch.from_numpy(signals)).cpu().numpy()
    max_value = shared_max_value(mels[:1], mels[1:])
    pixels = pixels_from_mel(mels, max_value)
    if noise:
        noisy = pixels + np.random.default_rng(seed).normal(0, noise, pixels.shape)
        pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return [torch.from_numpy(mel)[None] for mel in mel_from_pixels(pixels, max_value)]


Method = Callable[[np.ndarray, list[torch.Tensor]], np.ndarray]  # backing and pictures to the painted stem


def methods(converter: SpectrogramConverter, original: bool) -> dict[str, Method]:
    """Ways from oracle pictures to a stem (samples,)."""

    def from_mix(backing: np.ndarray, pictures: list[torch.Tensor]) -> np.ndarray:
        waveform = torch.from_numpy(backing)[None]
        return change_from_mix_images(converter, waveform, pictures[0], pictures[2])[0].cpu().numpy()

    def from_stem(backing: np.ndarray, pictures: list[torch.Tensor]) -> np.ndarray:
        return stem_from_image(converter, torch.from_numpy(backing)[None], pictures[1])[0].cpu().numpy()

    ways: dict[str, Method] = {"copy the input": lambda backing, pictures: np.zeros_like(backing)}
    if original:
        ways["the original's way"] = lambda backing, pictures: original_way(pictures[2][0]) - backing
    ways["gated gain, 16 warm Griffin-Lim"] = gated_gain
    return ways | {"target mix": from_mix, "target stem": from_stem}


def original_way(mel: torch.Tensor) -> np.ndarray:
    """Sound of mel amplitudes (bands, frames) without the input: SGD for the bins, then Griffin-Lim from noise.

    As torchaudio's InverseMelScale did for Riffusion: rate 0.1, momentum 0.9, 200 turns.
    """
    filters = torch.from_numpy(mel_filters(PARAMS))
    torch.manual_seed(0)
    bins = torch.rand(filters.shape[1], mel.shape[1], requires_grad=True)
    optimizer = torch.optim.SGD([bins], lr=0.1, momentum=0.9)
    for _ in range(200):
        optimizer.zero_grad()
        (mel - filters @ bins).square().sum(dim=0).mean().backward()
        optimizer.step()
        bins.data.clamp_(min=0)
    window: dict[str, Any] = {"hop_length": PARAMS.hop_length, "win_length": PARAMS.win_length, "n_fft": PARAMS.n_fft}
    sound = librosa.griffinlim(bins.detach().numpy(), n_iter=32, random_state=0, length=PARAMS.clip_samples, **window)
    return sound.astype(np.float32)


def gated_gain(backing: np.ndarray, pictures: list[torch.Tensor], gate: float = 0.03, turns: int = 16) -> np.ndarray:
    """A gain on the backing's STFT, none where the pictures agree, and Griffin-Lim from its phase."""
    window = torch.hann_window(PARAMS.win_length)
    size: dict[str, Any] = {"n_fft": PARAMS.win_length, "hop_length": PARAMS.hop_length}
    spectrum = torch.stft(torch.from_numpy(backing)[None], window=window, return_complex=True, **size)
    original, edited = pictures[0], pictures[2]
    top = max(float(original.max()), float(edited.max()))
    painted = ((edited / top) ** 0.25 - (original / top) ** 0.25).abs() > gate
    gain = torch.where(painted, edited / original.clamp(min=top * gate**4), 1.0)
    filters = torch.from_numpy(mel_filters(PARAMS)[:, :: PARAMS.n_fft // PARAMS.win_length])
    gain = (filters / filters.sum(dim=0).clamp(min=1e-9)).T @ gain
    magnitude, current, before = spectrum.abs() * gain, spectrum * gain, torch.zeros_like(spectrum)
    for _ in range(turns):
        sound = torch.istft(current, window=window, **size)
        consistent = torch.stft(sound, window=window, return_complex=True, **size)
        current, before = magnitude * torch.sgn(consistent + 0.99 * (consistent - before)), consistent
    mix = torch.istft(current, window=window, length=len(backing), **size)[0].numpy()
    return mix - backing


def measure_clips(options: Options, folder: Path) -> list[dict[str, object]]:
    """Every way on every clip, with and without noise."""
    converter = SpectrogramConverter(PARAMS, str(options.device))
    rows = []
    for corpus, group in itertools.groupby(find_clips(options), key=lambda clip: clip.corpus):
        clips = list(group)
        for (name, way), noise in itertools.product(methods(converter, options.original).items(), (0, 4)):
            if noise and name in ("copy the input", "the original's way"):
                continue
            figures = [score(clip, way, converter, noise, seed) for seed, clip in enumerate(tqdm(clips, desc=name))]
            medians = np.median(figures, axis=0)
            row = {"clips": f"{len(clips)} {corpus}", "way": name, "noise": noise}
            rows.append(row | dict(zip(FIGURES, map(float, medians), strict=True)))
    return rows


def score(clip: Clip, way: Method, converter: SpectrogramConverter, noise: float, seed: int) -> tuple[float, ...]:
    """LSD and SI-SDR over copying of the mix, LSD of the stem, seconds."""
    pictures = oracle_pictures(clip, converter, noise, seed)
    started = time.perf_counter()
    stem = way(clip.backing, pictures)
    elapsed = time.perf_counter() - started
    true, painted = clip.backing + clip.stem, clip.backing + stem
    gained = distances.si_sdr(painted, true) - distances.si_sdr(clip.backing, true)
    whole, alone = (
        distances.log_spectral_distance(estimate, reference, RATE)
        for estimate, reference in ((painted, true), (stem, clip.stem))
    )
    return whole, gained, alone, elapsed


def measure_identity(options: Options, folder: Path) -> list[dict[str, object]]:
    """Pictures of one sound, equal and with noise: what comes out must be what went in."""
    converter = SpectrogramConverter(PARAMS, str(options.device))
    rows = []
    for noise in (0, 4):
        ratios, largest = [], 0.0
        for number, clip in enumerate(find_clips(options)):
            same = Clip(clip.corpus, clip.backing, np.zeros_like(clip.stem))
            pictures = [oracle_pictures(same, converter, noise, 2 * number + k)[0] for k in (0, 1)]
            stem = change_from_mix_images(converter, torch.from_numpy(clip.backing)[None], *pictures)[0].cpu().numpy()
            ratios.append(distances.si_sdr(clip.backing + stem, clip.backing))
            largest = max(largest, float(np.abs(stem).max()))
        row = {"noise": noise, "clips": len(ratios), "least SI-SDR dB": min(ratios)}
        rows.append(row | {"median dB": float(np.median(ratios)), "largest sample of the stem": f"{largest:.1e}"})
    return rows


def measure_song(options: Options, folder: Path) -> list[dict[str, object]]:
    """Stereo at 48 kHz and 24 bits, of some lengths, through the inference script."""
    if options.root_data_dir is None:
        raise UserError("needs --root_data_dir, with everythingisfree/valid in it")
    song = next(iter(stems.find_songs(options.root_data_dir / "everythingisfree" / "valid")))
    backing = audio.resample(sum_stems(load_stems(song, RATE), without="vocals"), RATE, SONG_RATE)
    rows = []
    for length in options.song_seconds:
        path = folder / f"{length}.wav"
        soundfile.write(path, backing[:, : length * SONG_RATE].T, SONG_RATE, subtype="PCM_24")
        rows.append(paint_song(path, options) | {"seconds of song": length})
    return rows


def paint_song(path: Path, options: Options) -> dict[str, object]:
    """Run the script on a song and look at what it wrote."""
    flags = {"model_id": options.model_id, "audio": path, "base_save_path": path.parent, "prompt": PROMPT, "seed": 0}
    flags |= {"num_inference_steps": options.num_inference_steps, "device": options.device}
    words = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    command = [sys.executable, "inference_instruct_pix2pix.py", *words]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=Path(__file__).resolve().parent.parent)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise UserError(f"{path}: the inference script ended with {status}")
    elapsed = time.perf_counter() - started
    result = path.parent / path.stem
    painted_result = read_result(result)
    assert painted_result is not None
    original, painted, stem = (
        audio.to_integers(soundfile.read(file, always_2d=True)[0].T, 24)
        for file in (path, result / "painted.wav", result / "stem.wav")
    )
    return {
        "painted in s": elapsed,
        "peak MB": usage.ru_maxrss / 1024,
        "input bits changed": int(np.count_nonzero(painted - stem - original)),
        **clicks(original, stem, options),
        **repetition(stem, options),
        "edit performed": painted_result.measured.verdict.value,
    }


def windows(samples: int, options: Options) -> Canvas:
    """The model's windows over so many samples of a song, in frames."""
    params = model.load_facts(options.model_id).params
    factor = latent_factor(AutoencoderKL.from_pretrained(options.model_id, subfolder="vae"))
    frames = int(samples / SONG_RATE * 1000 / params.step_size_ms) + 1
    return tile(-(-frames // factor), params.num_frames // factor).scaled(factor)


def clicks(original: np.ndarray, stem: np.ndarray, options: Options) -> dict[str, object]:
    """Seams that click: within 20 ms of one the stem steps further than 99.99 % of the input's own steps do."""
    limit = float(np.quantile(np.abs(np.diff(original)), 0.9999))
    frame, near = SONG_RATE // 100, SONG_RATE // 50
    seams = [seam * frame for seam in windows(original.shape[1], options).seams()[1:-1]]
    largest = [np.abs(np.diff(stem[:, seam - near : seam + near])).max() for seam in seams]
    clicking = sum(step > limit for step in largest)
    return {"seams": len(seams), "that click": clicking, "largest step there, of limit": max(largest) / limit}


def repetition(stem: np.ndarray, options: Options) -> dict[str, object]:
    """Likeness of the stem's spectra to those a window later, and to those at other lags (their 95th percentile)."""
    converter = SpectrogramConverter(PARAMS)
    mono = audio.resample(stem.mean(axis=0, keepdims=True) / 2**23, SONG_RATE, RATE).astype(np.float32)
    spectra = converter.mel_amplitudes_from_waveform(torch.from_numpy(mono))[0].numpy() ** 0.25
    spectra -= spectra.mean(axis=1, keepdims=True)
    spectra /= np.linalg.norm(spectra, axis=0).clip(min=1e-9)
    window = int(np.diff(windows(stem.shape[1], options).starts).mean())
    lags = np.arange(window // 2, 2 * window)
    likeness = np.array([(spectra[:, lag:] * spectra[:, :-lag]).sum(axis=0).mean() for lag in lags])
    near = np.abs(lags - window) <= 8
    return {"like a window later": likeness[near].max(), "like at other lags": np.quantile(likeness[~near], 0.95)}


def measure_pictures(options: Options, folder: Path) -> list[dict[str, object]]:
    """Random clips of the songs at hand, mono and stereo, against the formula written with librosa."""
    filters = librosa.filters.mel(sr=RATE, n_fft=PARAMS.n_fft, n_mels=512, fmin=0, fmax=10000, htk=True, norm=None)
    converter = SpectrogramConverter(PARAMS, str(options.device))
    largest = {1: 0.0, 2: 0.0}
    for number, waveform in enumerate(tqdm(random_clips(options), total=options.max_pictures, desc="pictures")):
        channels = 1 + number % 2
        heard = waveform if channels == 2 else waveform.mean(axis=0, keepdims=True)
        window: dict[str, Any] = {"n_fft": PARAMS.n_fft, "hop_length": PARAMS.hop_length}
        window["win_length"] = PARAMS.win_length
        mel = filters @ np.abs(librosa.stft(heard, pad_mode="reflect", **window))
        expected = 255 - 255 * (mel / mel.max()) ** 0.25
        ours = converter.mel_amplitudes_from_waveform(torch.from_numpy(heard)).cpu().numpy()
        pixels = np.asarray(image_from_spectrogram(ours, PARAMS, float(mel.max())))
        pixels = pixels[None] if channels == 1 else pixels[..., 1:].transpose(2, 0, 1)
        largest[channels] = max(largest[channels], float(np.abs(pixels[:, ::-1] - np.rint(expected)).max()))
    return [{"channels": channels, "largest difference, grey levels": value} for channels, value in largest.items()]


def random_clips(options: Options) -> Iterator[np.ndarray]:
    """Random stereo clips, float32 (2, clip_samples), of the excerpt and of the songs at hand."""
    rng = np.random.default_rng(0)
    songs = [load_stems(stems.example_song())]
    if options.root_data_dir:
        found = stems.find_songs(options.root_data_dir / "everythingisfree" / "valid")
        songs += [load_stems(song, RATE) for song in found]
    for _ in range(options.max_pictures):
        parts = songs[rng.integers(len(songs))]
        gains = rng.uniform(0, 1, len(parts))
        samples = min(part.shape[1] for part in parts.values())
        first = rng.integers(samples - PARAMS.clip_samples)
        cut = slice(first, first + PARAMS.clip_samples)
        heard = [np.resize(part[:, cut], (2, PARAMS.clip_samples)) for part in parts.values()]
        yield np.tensordot(gains, heard, axes=1).astype(np.float32)


MEASURES = {
    "clips": measure_clips,
    "identity": measure_identity,
    "song": measure_song,
    "pictures": measure_pictures,
}

if __name__ == "__main__":
    run_script(main, parse_args())
