import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone

from riffusion import audio
from riffusion.recordings import ffmpeg
from riffusion.recordings.recording import Recording, copy_stream, open_recording, open_recordings
from riffusion.util.errors import UserError

SECONDS = 3.0


def run_ffmpeg(*arguments: object) -> None:
    command = [str(ffmpeg.binaries()[0]), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def rising_noise() -> np.ndarray:
    """Three seconds that nothing can guess, ever louder (samples, 2)."""
    noise = np.random.default_rng(0).uniform(-1, 1, (round(SECONDS * RATE), 2))
    return 0.5 * noise * np.linspace(0.05, 1, len(noise))[:, None]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """The same three seconds in many forms."""
    folder = tmp_path_factory.mktemp("sounds")
    soundfile.write(folder / "plain.wav", rising_noise(), RATE)
    soundfile.write(folder / "fine.wav", rising_noise(), RATE, subtype="PCM_24")
    untagged = ["-map_metadata", -1, "-id3v2_version", 0]
    for name in ("plain.mp3", "plain.flac", "plain.ogg", "plain.opus", "plain.m4a", "plain.aiff", "plain.w64"):
        run_ffmpeg("-i", folder / "plain.wav", *untagged[: 4 if name.endswith("mp3") else 2], folder / name)
    return folder


def read(path: Path, folder: Path) -> tuple[Recording, np.ndarray]:
    recording = open_recording(path, folder)
    return recording, np.concatenate(list(recording.blocks(size=5000)), axis=1)


def damage(source: Path, target: Path, size: int = 3000) -> Path:
    data = source.read_bytes()
    middle = len(data) // 2
    target.write_bytes(data[:middle] + b"\x55" * size + data[middle + size :])
    return target


@pytest.mark.parametrize("name", ["plain.wav", "plain.flac", "plain.aiff", "plain.w64"])
def test_plain_sound_is_exact_and_a_wav_or_flac_is_read_in_place(sounds, tmp_path, name):
    recording, samples = read(sounds / name, tmp_path)
    assert (samples == soundfile.read(sounds / "plain.wav", dtype="float32")[0].T).all()
    assert (recording.bits, recording.faults) == (16, ())
    assert (recording.file == sounds / name) == (name in ("plain.wav", "plain.flac"))


@pytest.mark.parametrize(("given", "seconds"), [("-q:a 2", SECONDS), ("-b:a 128k -abr 1", SECONDS)])
def test_an_mp3_without_a_length_is_counted(sounds, tmp_path, given, seconds):
    bare = ["-c:a", "libmp3lame", *given.split(), "-write_xing", 0, "-id3v2_version", 0]
    run_ffmpeg("-i", sounds / "plain.wav", *bare, tmp_path / "bare.mp3")
    recording, samples = read(tmp_path / "bare.mp3", tmp_path)
    assert samples.shape[1] / RATE == pytest.approx(seconds, abs=0.06)
    assert recording.faults == ()


@pytest.mark.parametrize("given", ["-b:a 24k", "-b:a 20k -application voip -ac 1", "-b:a 96k"])
def test_opus_is_decoded_as_by_libsndfile(sounds, tmp_path, given):
    path = tmp_path / "sound.opus"  # of speech-like bit rates in frames of two codecs, where ffmpeg's own decoder errs
    run_ffmpeg("-i", sounds / "plain.wav", "-c:a", "libopus", *given.split(), path)
    recording, samples = read(path, tmp_path)
    expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert (recording.faults, recording.rate) == ((), rate)
    np.testing.assert_allclose(samples, expected.T, atol=1e-4)


@pytest.mark.parametrize("name", ["plain.mp3", "plain.ogg", "plain.opus"])
def test_joined_files_are_read_whole(sounds, tmp_path, name):
    other = tmp_path / f"other-{name}"  # an Ogg stream of another serial number
    run_ffmpeg("-i", sounds / "plain.wav", *["-id3v2_version", 0] * name.endswith("mp3"), other)
    (tmp_path / name).write_bytes((sounds / name).read_bytes() + other.read_bytes())
    recording, samples = read(tmp_path / name, tmp_path)
    assert samples.shape[1] / recording.rate == pytest.approx(2 * SECONDS, abs=0.12)
    assert recording.faults == ()


def test_joined_files_of_which_one_is_read_are_told(sounds, tmp_path):
    run_ffmpeg("-i", sounds / "plain.wav", sounds / "plain.tta")
    for name, kind in {"flac": "FLAC", "wav": "wav", "m4a": "mp4", "aiff": "AIFF", "tta": "TTA"}.items():
        name, said = f"plain.{name}", f"another {kind} file is joined"
        assert open_recording(sounds / name, tmp_path).faults == ()
        (tmp_path / name).write_bytes(2 * (sounds / name).read_bytes())
        assert said in open_recording(tmp_path / name, tmp_path).faults[0]


def test_flac_and_wav_from_a_pipe_are_read_whole(sounds, tmp_path):
    for name in ("piped.flac", "piped.wav"):
        with (tmp_path / name).open("wb") as file:
            command = [ffmpeg.binaries()[0], "-v", "error", "-i", sounds / "plain.wav", "-f", name[-4:].strip("."), "-"]
            subprocess.run(command, stdout=file, check=True)
        recording, samples = read(tmp_path / name, tmp_path)
        assert (samples == soundfile.read(sounds / "plain.wav", dtype="float32")[0].T).all()
        assert recording.faults == ()
    data = (sounds / "plain.wav").read_bytes()
    at = data.index(b"data") + 4
    (tmp_path / "killed.wav").write_bytes(data[:4] + bytes(4) + data[8:at] + bytes(4) + data[at + 4 :])
    assert open_recording(tmp_path / "killed.wav", tmp_path).samples == SECONDS * RATE


@pytest.mark.parametrize(
    ("source", "named"), [("plain.m4a", "x.mp3"), ("plain.wav", "x.raw"), ("plain.opus", "x.wav"), ("plain.mp3", "x")]
)
def test_a_name_says_nothing(sounds, tmp_path, source, named):
    (tmp_path / named).write_bytes((sounds / source).read_bytes())
    recording, _ = read(tmp_path / named, tmp_path)
    assert recording.samples / recording.rate == pytest.approx(SECONDS, abs=0.05)


@pytest.mark.parametrize("named", ["text.wav", "text.raw", "text.sw", "text.g722", "text.mp3", "text"])
def test_a_text_is_no_sound_whatever_its_name_is(tmp_path, named):
    (tmp_path / named).write_text("<!DOCTYPE html><html><body>404</body></html>" * 50)
    with pytest.raises(UserError, match=f"{named}: not an audio file"):
        open_recording(tmp_path / named, tmp_path)


def test_names_that_are_not_utf_8(sounds, tmp_path):
    for name in ("plain.wav", "plain.m4a"):
        path = tmp_path / os.fsdecode(b"caf\xe9: " + name.encode())
        path.write_bytes((sounds / name).read_bytes())
        assert read(path, tmp_path)[1].shape[1] == pytest.approx(SECONDS * RATE, abs=2000)


@pytest.mark.parametrize(
    ("codec", "name"),
    [("alac", "x.m4a"), ("wavpack", "x.wv"), ("tta", "x.tta"), ("alac", "x.caf"), ("flac", "x.oga"), ("flac", "x.mka")],
)
def test_24_bits_stay_24_in_any_container(sounds, tmp_path, codec, name):
    run_ffmpeg("-i", sounds / "fine.wav", "-c:a", codec, tmp_path / name)
    recording = open_recording(tmp_path / name, tmp_path)
    samples = np.concatenate(list(audio.integer_blocks(recording, 24, 5000)), axis=1)
    assert recording.bits == 24
    assert (samples == soundfile.read(sounds / "fine.wav", dtype="int32")[0].T >> 8).all()


def test_damage_is_told_with_its_place(sounds, tmp_path):
    for name in ("plain.m4a", "plain.mp3"):
        faults = open_recording(damage(sounds / name, tmp_path / name), tmp_path).faults
        assert re.match("damaged.* at 1[.]", faults[0]), faults
    assert "damaged at byte" in open_recording(damage(sounds / "plain.ogg", tmp_path / "x.ogg"), tmp_path).faults[0]
    with pytest.raises(UserError, match="ends unexpectedly"):
        read(damage(sounds / "plain.flac", tmp_path / "x.flac"), tmp_path)


@pytest.mark.parametrize("name", ["x.tta", "x.flac", "x.oga"])
def test_damage_that_only_a_checksum_shows_is_told(sounds, tmp_path, name):
    target = tmp_path / f"piped {name}"
    with target.open("wb") as file:  # FLAC in a pipe doesn't know its length, and is read by ffmpeg
        form = ["-f", {"x.oga": "ogg"}.get(name, name[2:])]
        codec = ["-c:a", "tta" if name == "x.tta" else "flac"]
        command = [ffmpeg.binaries()[0], "-v", "error", "-i", sounds / "plain.wav", *codec, *form, "-"]
        subprocess.run(command, stdout=file, check=True)
    assert open_recording(target, tmp_path).faults == ()
    whole = target.read_bytes()
    data, size = bytearray(whole), len(whole)
    for place in (size // 2, size * 3 // 5):
        data[place] ^= 0x55
    zeros = whole[: size // 2] + bytes(size // 5) + whole[size // 2 + size // 5 :]  # FLAC's frames there aren't found
    for damaged in (data, zeros, whole[: size // 2]):
        target.write_bytes(damaged)
        assert re.match("(damaged|cut short)", open_recording(target, tmp_path).faults[0])
    target.write_bytes(whole + bytes(2000))
    assert open_recording(target, tmp_path).faults == ()


@pytest.mark.parametrize("name", ["plain.wav", "plain.ogg", "plain.m4a", "plain.mp3", "plain.opus"])
def test_what_breaks_off_is_told(sounds, tmp_path, name):
    run_ffmpeg("-i", sounds / name, "-c", "copy", *["-movflags", "+faststart"] * name.endswith("m4a"), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 7 // 10])
    recording, samples = read(tmp_path / name, tmp_path)
    assert 0.3 * SECONDS < samples.shape[1] / recording.rate < 0.8 * SECONDS
    assert "cut short" in " ".join(recording.faults)


def test_a_tag_behind_an_mp3_is_no_damage(sounds, tmp_path):
    cover = b"\x00\x01" * 5000
    item = len(cover).to_bytes(4, "little") + bytes(4) + b"Cover\0" + cover
    footer = b"APETAGEX" + b"".join(number.to_bytes(4, "little") for number in (2000, 32 + len(item), 1, 0)) + bytes(8)
    (tmp_path / "x.mp3").write_bytes((sounds / "plain.mp3").read_bytes() + item + footer)
    assert open_recording(tmp_path / "x.mp3", tmp_path).faults == ()


def test_pipes_are_read_as_files_are(sounds, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("plain.wav", "plain.m4a"):
        threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[(sounds / name).read_bytes()]).start()
        assert audio.load_audio(tmp_path / "pipe")[0].shape[1] == pytest.approx(SECONDS * RATE, abs=2000)
        with (sounds / name).open("rb") as file:
            loaded, _ = audio.load_audio(Path(f"/dev/fd/{file.fileno()}"))
        assert loaded.shape[1] == pytest.approx(SECONDS * RATE, abs=2000)
    for path, reason in {tmp_path: "is a folder", Path("/dev/zero"): "is a device"}.items():
        with pytest.raises(UserError, match=f"{path}: {reason}"):
            open_recording(path, tmp_path)


def test_a_recording_lasts_no_longer_than_a_day(tmp_path):
    soundfile.write(tmp_path / "slow.wav", np.zeros(90_000), 1)
    with pytest.raises(UserError, match="more than 24 hours"):
        open_recording(tmp_path / "slow.wav", tmp_path)


def test_it_is_decoded_once_and_again_only_when_it_was_released(sounds, tmp_path):
    recording, first = read(sounds / "plain.m4a", tmp_path)
    made = recording.file.stat().st_mtime_ns
    assert (np.concatenate(list(recording.blocks()), axis=1) == first).all()
    assert recording.file.stat().st_mtime_ns == made
    recording.release()
    assert not recording.file.exists()
    assert (np.concatenate(list(recording.blocks()), axis=1) == first).all()


def test_streams_that_are_not_there_are_named(sounds, tmp_path):
    with pytest.raises(UserError, match="plain.m4a: has no audio stream 1, only 1 of them"):
        open_recordings(sounds / "plain.m4a", [0, 1], tmp_path)


def test_no_room_is_told_with_the_folder_and_the_bytes(sounds, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "hour.wav", np.zeros((RATE, 1)), RATE)
    full = tmp_path / "full"
    full.mkdir()
    stream = ffmpeg.probe(sounds / "plain.m4a")[0]
    with pytest.raises(
        UserError, match=r"/dev: decoding .*plain.m4a failed .No space left.*; it needs at least 1.1 MB there"
    ):
        ffmpeg.decode(sounds / "plain.m4a", [(0, stream, Path("/dev/full"))], sounds / "plain.m4a")
    with pytest.raises(UserError, match="missing: can't be written .No such"):
        copy_stream((sounds / "plain.wav").open("rb"), tmp_path / "missing", Path("-"))
    with pytest.raises(UserError, match=r"/dev/full: can't be written .*about 0.2 MB are needed"):
        audio.write_floats(Path("/dev/full"), [np.zeros(RATE, np.float32)], RATE, needed=4 * RATE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(UserError, match="missing: can't be written"):
        audio.load_audio(sounds / "plain.m4a")


def test_scripts_and_fakes_on_the_path_are_not_taken_for_ffmpeg(tmp_path, monkeypatch):
    for name in ("ffmpeg", "ffprobe"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{tmp_path}")
    ffmpeg.binaries.cache_clear()
    assert tmp_path not in {path.parent for path in ffmpeg.binaries()}
    (tmp_path / "hello.txt").write_text("hello")
    with pytest.raises(UserError, match="hello.txt: not an audio file"):
        open_recording(tmp_path / "hello.txt", tmp_path)
    ffmpeg.put_ffmpeg_on_path()
    found = subprocess.run(["ffmpeg", "-version"], capture_output=True, check=True, env=os.environ).stdout
    assert found.startswith(b"ffmpeg version")


def test_a_sound_of_a_tone_comes_out_of_every_format_alike(tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(440, 1.0).T, RATE)
    for name in ("x.adpcm.wav", "x.au", "x.mkv"):
        codec = ["-c:a", "adpcm_ms"] if "adpcm" in name else []
        run_ffmpeg("-i", tmp_path / "tone.wav", *codec, tmp_path / name)
        _, samples = read(tmp_path / name, tmp_path)
        assert np.corrcoef(samples[0, :40000], tone(440, 1.0)[0, :40000])[0, 1] > 0.99


@pytest.mark.parametrize("kind", [("flac", "PCM_16"), ("flac", "PCM_24"), ("ogg", "VORBIS")])
def test_what_is_decoded_once_has_the_same_samples(tmp_path, kind):
    ending, subtype = kind
    path, samples = tmp_path / f"song.{ending}", np.random.default_rng(0).uniform(-1, 1, (RATE, 2))
    soundfile.write(path, samples, RATE, subtype=subtype)
    itself = open_recording(path, tmp_path)
    decoded = open_recording(path, tmp_path, decode_once=True)
    assert (itself.file, decoded.source) == (path, path)
    assert decoded.file != path
    kinds = ("float32", "float64", "int32") if decoded.integers else ("float32", "float64")
    for _ in range(2):
        for dtype in kinds:
            blocks = [np.concatenate(list(each.blocks(dtype, 5000)), axis=1) for each in (itself, decoded)]
            assert (blocks[0] == blocks[1]).all()
        decoded.release()
        assert not decoded.file.exists()
    assert path.exists()
    assert (decoded.bits, decoded.samples, decoded.integers) == (itself.bits, itself.samples, itself.integers)


def test_a_plain_wav_file_is_never_copied(tmp_path):
    soundfile.write(tmp_path / "song.wav", np.zeros((RATE, 2)), RATE)
    recording = open_recording(tmp_path / "song.wav", tmp_path, decode_once=True)
    assert recording.file == tmp_path / "song.wav"
    recording.release()
    assert recording.file.exists()
