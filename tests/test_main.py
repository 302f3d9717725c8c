import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from riffusion import __main__ as command
from riffusion import audio
from riffusion.spectrogram_params import ExifTags, SpectrogramParams
from riffusion.util.errors import UserError

RATE = 44100
PARAMS = SpectrogramParams()


def sine(frequency: float, seconds: float = 0.5, rate: int = RATE, level: float = 0.3) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def draw(sound: Path, picture: Path, *flags: str) -> int:
    return command.main(command.parse_args(["audio-to-image", "--audio", str(sound), "--image", str(picture), *flags]))


def play(picture: Path, sound: Path, *flags: str) -> int:
    return command.main(command.parse_args(["image-to-audio", "--image", str(picture), "--audio", str(sound), *flags]))


def pitch(signal: np.ndarray, rate: int = RATE) -> float:
    """Frequency of the strongest partial in Hz."""
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 8 * len(signal)))
    return np.argmax(spectrum) * rate / (8 * len(signal))


def decibels(signal: np.ndarray) -> float:
    return 20 * np.log10(np.std(signal))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """The picture of half a second of 440 Hz."""
    folder = tmp_path_factory.mktemp("drawn")
    soundfile.write(folder / "tone.wav", sine(440), RATE)
    draw(folder / "tone.wav", folder / "tone.png")
    return folder / "tone.png"


def retagged(drawn: Path, path: Path, image: Image.Image | None = None, **values: object) -> Path:
    """The drawn picture or another with its tags, some of them of other values, or removed where that is None."""
    picture = Image.open(drawn)
    exif = picture.getexif()
    for name, value in values.items():
        if value is None:
            del exif[ExifTags[name]]
        else:
            exif[ExifTags[name]] = value
    (image or picture).save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_a_tone_keeps_its_pitch_and_level(drawn, tmp_path, ending):
    assert play(drawn, tmp_path / f"again.{ending}") == 0
    sound, rate = audio.load_audio(tmp_path / f"again.{ending}")
    assert (sound.shape, rate) == ((1, 50 * PARAMS.hop_length), RATE)
    assert soundfile.info(tmp_path / f"again.{ending}").subtype == ("VORBIS" if ending == "ogg" else "PCM_16")
    assert pitch(sound[0]) == pytest.approx(440, rel=0.01)
    assert decibels(sound) == pytest.approx(decibels(sine(440)), abs=1)


def test_the_picture_and_its_tags(drawn):
    image = Image.open(drawn)
    exif = image.getexif()
    assert (image.format, image.mode, image.size) == ("PNG", "L", (51, 512))
    assert SpectrogramParams.from_exif(exif) == PARAMS
    assert np.asarray(image).min() == 0
    low_note = 511 - np.asarray(image)[:, 25].argmin()
    mel = 2595 * np.log10(1 + np.array([440, 10000]) / 700)
    assert low_note == pytest.approx(513 * mel[0] / mel[1] - 1, abs=1)
    # the Hann window's mean is a half and a sine's amplitude is shared by two sides of the spectrum
    assert exif[ExifTags.MAX_VALUE] > 0.3 * PARAMS.win_length / 4


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (48000, 2), (96000, 6)])
def test_any_rate_and_number_of_channels_give_one_picture(drawn, tmp_path, rate, channels):
    signal = np.stack([sine(440, rate=rate)] * channels, axis=1)
    soundfile.write(tmp_path / "sound.wav", signal, rate, subtype="FLOAT")
    draw(tmp_path / "sound.wav", tmp_path / "deep" / "picture.png")
    picture, known = (np.asarray(Image.open(path)) for path in (tmp_path / "deep" / "picture.png", drawn))
    assert picture.shape == known.shape
    middle = known[:, 10:-10]
    assert np.abs(picture[:, 10:-10].astype(int) - middle)[middle < 200].max() <= 2  # the ends ring when resampled


def test_stereo_keeps_both_channels(tmp_path):
    signal = np.stack([sine(440), sine(660, level=0.1)], axis=1)
    soundfile.write(tmp_path / "sound.wav", signal, RATE)
    draw(tmp_path / "sound.wav", tmp_path / "picture.png", "--stereo")
    assert Image.open(tmp_path / "picture.png").mode == "RGB"
    play(tmp_path / "picture.png", tmp_path / "again.wav")
    again, _ = audio.load_audio(tmp_path / "again.wav")
    for heard, true, frequency in zip(again, signal.T, (440, 660), strict=True):
        assert pitch(heard) == pytest.approx(frequency, rel=0.01)
        assert decibels(heard) == pytest.approx(decibels(true), abs=1)


def test_a_grey_picture_whose_tags_say_stereo_can_be_played_as_mono(drawn, tmp_path):
    picture = retagged(drawn, tmp_path / "picture.png", STEREO=True)
    with pytest.raises(UserError, match="grey"):
        play(picture, tmp_path / "again.wav")
    play(picture, tmp_path / "again.wav", "--no-stereo")
    assert soundfile.info(tmp_path / "again.wav").channels == 1


def test_mono_in_stereo_is_two_channels_alike_and_six_are_refused(tmp_path):
    soundfile.write(tmp_path / "mono.wav", sine(440), RATE)
    draw(tmp_path / "mono.wav", tmp_path / "picture.png", "--stereo")
    _, green, blue = np.asarray(Image.open(tmp_path / "picture.png")).transpose(2, 0, 1)
    assert (green == blue).all()
    soundfile.write(tmp_path / "six.wav", np.stack([sine(440)] * 6, axis=1), RATE)
    with pytest.raises(UserError, match="6 channels"):
        draw(tmp_path / "six.wav", tmp_path / "picture.png", "--stereo")


@pytest.mark.parametrize(
    "spelling", ["--num-frequencies 300 --step-size-ms 20", "--num_frequencies 300 --step_size_ms 20"]
)
def test_settings_go_into_the_tags_and_come_back(tmp_path, spelling):
    soundfile.write(tmp_path / "sound.wav", sine(440), RATE)
    others = "--min-frequency 50 --max-frequency 8000 --window-duration-ms 80 --padded-duration-ms 320"
    draw(tmp_path / "sound.wav", tmp_path / "picture.png", *f"{spelling} {others} --power-for-image 0.5".split())
    image = Image.open(tmp_path / "picture.png")
    asked = SpectrogramParams(
        num_frequencies=300,
        step_size_ms=20,
        min_frequency=50,
        max_frequency=8000,
        window_duration_ms=80,
        padded_duration_ms=320,
        power_for_image=0.5,
    )
    assert image.size == (26, 300)
    assert SpectrogramParams.from_exif(image.getexif()) == asked
    play(tmp_path / "picture.png", tmp_path / "again.wav")
    assert pitch(audio.load_audio(tmp_path / "again.wav")[0][0]) == pytest.approx(440, rel=0.01)


def test_more_iterations_come_nearer_to_the_picture(drawn, tmp_path):
    errors = []
    for iterations in ("1", "16"):
        play(drawn, tmp_path / "again.wav", "--num-griffin-lim-iters", iterations)
        draw(tmp_path / "again.wav", tmp_path / "again.png")
        pictures = [np.asarray(Image.open(path)).astype(float) for path in (drawn, tmp_path / "again.png")]
        errors.append(np.std(pictures[1] - pictures[0]))
    assert errors[1] < errors[0]


def test_without_tags_it_is_riffusion_v1_at_a_peak_of_minus_one(drawn, tmp_path, capsys):
    Image.open(drawn).save(tmp_path / "bare.png", exif=b"")
    play(tmp_path / "bare.png", tmp_path / "again.wav")
    sound, _ = audio.load_audio(tmp_path / "again.wav")
    assert pitch(sound[0]) == pytest.approx(440, rel=0.01)
    assert 20 * np.log10(np.abs(sound).max()) == pytest.approx(-1, abs=0.01)
    note, written = capsys.readouterr().out.splitlines()
    assert "no tags" in note
    assert "V1" in note
    assert "-1 dBFS" in note
    assert str(tmp_path / "again.wav") in written


@pytest.mark.parametrize(
    ("max_value", "peak_db", "note"), [(None, -1, "level is unknown"), (3e8, 0, "beyond full scale")]
)
def test_a_level_that_is_unknown_or_too_high_is_scaled(drawn, tmp_path, capsys, max_value, peak_db, note):
    """Riffusion's own tags are on the scale of 16-bit integers."""
    play(retagged(drawn, tmp_path / "picture.png", MAX_VALUE=max_value), tmp_path / "again.wav")
    sound, _ = audio.load_audio(tmp_path / "again.wav")
    assert 20 * np.log10(np.abs(sound).max()) == pytest.approx(peak_db, abs=0.01)
    assert note in capsys.readouterr().out.splitlines()[0]


def test_silence_stays_silent(tmp_path, capsys):
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE // 2), RATE)
    draw(tmp_path / "silence.wav", tmp_path / "white.png")
    assert np.asarray(Image.open(tmp_path / "white.png")).min() == 255
    play(tmp_path / "white.png", tmp_path / "again.wav")
    assert not audio.load_audio(tmp_path / "again.wav")[0].any()
    assert "unknown" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.jpg", "L"), ("a.jpg", "RGB"), ("a.png", "P"), ("a.png", "RGBA"), ("a.png", "I;16"), ("a.webp", "RGB")],
)
def test_pictures_that_other_programs_saved(drawn, tmp_path, name, mode):
    picture = Image.open(drawn)
    fine = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    picture = fine if mode == fine.mode else picture.convert(mode)
    play(retagged(drawn, tmp_path / name, picture), tmp_path / "again.wav", "--num-griffin-lim-iters", "8")
    sound, _ = audio.load_audio(tmp_path / "again.wav")
    assert pitch(sound[0]) == pytest.approx(440, rel=0.01)
    assert decibels(sound) == pytest.approx(decibels(sine(440)), abs=1)


def test_a_picture_of_another_height_names_the_flag_that_reads_it(drawn, tmp_path):
    low = Image.open(drawn).resize((51, 300))
    with pytest.raises(UserError, match="300 pixels high, but its tags say there are 512.*--num-frequencies 300"):
        play(retagged(drawn, tmp_path / "low.png", low), tmp_path / "again.wav")
    assert play(tmp_path / "low.png", tmp_path / "again.wav", "--num-frequencies", "300") == 0
    Image.fromarray(np.asarray(low)).save(tmp_path / "bare.png")
    with pytest.raises(UserError, match="by default there are 512.*--num-frequencies 300"):
        play(tmp_path / "bare.png", tmp_path / "again.wav")
    with pytest.raises(UserError, match="--num-frequencies is 400"):
        play(tmp_path / "low.png", tmp_path / "again.wav", "--num-frequencies", "400")


ABSURD = [
    (tag.name, value)
    for tag in ExifTags
    for value in (0, -5, float("nan"), float("inf"), 1e300, "many")
    if (tag.name, value) not in (("MIN_FREQUENCY", 0), ("MAX_VALUE", 0)) and tag is not ExifTags.STEREO
]


@pytest.mark.parametrize(("tag", "value"), ABSURD)
def test_absurd_tags_are_refused_by_name(drawn, tmp_path, tag, value):
    with pytest.raises(UserError, match=tag.lower()) as refusal:
        play(retagged(drawn, tmp_path / "picture.png", **{tag: value}), tmp_path / "again.wav")
    assert "\n" not in str(refusal.value)
    assert str(tmp_path / "picture.png") in str(refusal.value)


def test_a_flag_takes_the_place_of_a_bad_tag(drawn, tmp_path):
    bad = retagged(drawn, tmp_path / "picture.png", POWER_FOR_IMAGE=float("nan"))
    play(bad, tmp_path / "again.wav", "--power-for-image", "0.25")
    assert pitch(audio.load_audio(tmp_path / "again.wav")[0][0]) == pytest.approx(440, rel=0.01)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--step-size-ms 0", "step_size_ms is 0"),
        ("--step-size-ms 60", "at least twice step_size_ms"),
        ("--window-duration-ms 500", "at most padded_duration_ms"),
        ("--max-frequency 30000", "half the sample rate"),
        ("--min-frequency 10000", "min must be below max"),
        ("--power-for-image nan", "power_for_image is nan"),
        ("--num-frequencies 4000 --padded-duration-ms 9000", "too fine"),
        ("--num-frequencies 200 --window-duration-ms 20 --padded-duration-ms 20", "bands contain no FFT bin"),
    ],
)
def test_settings_that_make_no_picture_are_refused(drawn, tmp_path, flags, reason):
    with pytest.raises(UserError, match=reason):
        draw(drawn.with_name("tone.wav"), tmp_path / "picture.png", *flags.split())
    assert not any(tmp_path.iterdir())


def test_files_that_cannot_be_read_or_written(drawn, tmp_path):
    sound, picture, out = drawn.with_name("tone.wav"), tmp_path / "out.png", tmp_path / "out.wav"
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(drawn.read_bytes()[:-500])
    (tmp_path / "folder.png").mkdir()
    for work, source, target, reason in (
        (draw, tmp_path / "none.wav", picture, "none.wav: no such file"),
        (draw, tmp_path / "text.png", picture, "text.png: not an audio file"),
        (draw, sound, tmp_path / "out.jpg", "must end in .png"),
        (draw, sound, sound / "out.png", "can't make this folder"),
        (draw, sound, tmp_path / "folder.png", "folder.png: can't write this file"),
        (play, tmp_path / "none.png", out, "none.png: no such file"),
        (play, tmp_path / "text.png", out, "text.png: not a readable picture"),
        (play, tmp_path / "cut.png", out, "cut.png: not a readable picture"),
        (play, drawn, tmp_path / "out.mp3", "must end in .wav or .flac or .ogg"),
        (play, drawn, sound / "out.wav", "can't make this folder"),
    ):
        with pytest.raises(UserError, match=reason) as refusal:
            work(source, target)
        assert "\n" not in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.png", "folder.png", "text.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize("ending", ["png", "wav", "flac", "ogg"])
def test_a_full_disk_is_one_line(drawn, tmp_path, ending):
    target = tmp_path / f"out.{ending}"
    target.symlink_to("/dev/full")
    work, source = (draw, drawn.with_name("tone.wav")) if ending == "png" else (play, drawn)
    with pytest.raises(UserError, match="can't be written .No space left.*; about .* .B are needed"):
        work(source, target)
    if ending != "png":
        assert not target.is_symlink()  # what is written of a sound goes


def test_what_is_there_is_overwritten(drawn, tmp_path):
    (tmp_path / "out.png").write_text("old")
    draw(drawn.with_name("tone.wav"), tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == drawn.read_bytes()


def test_many_sounds_are_drawn_into_a_folder_and_rendered_again(drawn, tmp_path, capsys):
    songs, more, pictures, sounds = (tmp_path / name for name in ("songs", "more", "pictures", "sounds"))
    for folder, name in ((songs, "one.wav"), (songs, "two.flac"), (more, "one.wav"), (more, "skipped.ogg")):
        folder.mkdir(exist_ok=True)
        soundfile.write(folder / name, sine(440), RATE)
    (songs / "broken.wav").write_text("no sound")
    given = [str(songs), str(more / "o*.wav"), str(songs / "two.flac")]
    code = command.main(command.parse_args(["audio-to-image", "--audio", *given, "--image", str(pictures)]))
    printed, told = capsys.readouterr()
    assert code == 2
    assert sorted(path.name for path in pictures.iterdir()) == ["one-2.png", "one.png", "two.png"]
    assert (pictures / "one-2.png").read_bytes() == drawn.read_bytes()
    assert printed.count(": 51 x 512 pixels, 0.50 s\n") == 3
    assert f"{more / 'one.wav'}: will be one-2.png, because there is another one of its name\n" in told
    assert f"error: {songs / 'broken.wav'}: not an audio file" in told.splitlines()[-1]
    few = ["--num-griffin-lim-iters", "1", "--audio", str(sounds)]
    assert command.main(command.parse_args(["image-to-audio", "--image", str(pictures), *few])) == 0
    assert sorted(path.name for path in sounds.iterdir()) == ["one-2.wav", "one.wav", "two.wav"]
    assert pitch(soundfile.read(sounds / "two.wav")[0]) == pytest.approx(440, abs=5)


def test_a_folder_or_a_pattern_is_several_files_even_of_one(drawn, tmp_path):
    for given in (str(drawn.parent), str(drawn.parent / "*.wav")):
        command.main(command.parse_args(["audio-to-image", "--audio", given, "--image", str(tmp_path / "out")]))
        assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [drawn.read_bytes()]
        with pytest.raises(UserError, match=r"out.png: is the name of one file; of several files a folder is written"):
            command.main(command.parse_args(["audio-to-image", "--audio", given, "--image", str(tmp_path / "out.png")]))
    with pytest.raises(UserError, match="no file matches"):
        command.main(command.parse_args(["image-to-audio", "--image", "none*.png", "--audio", str(tmp_path)]))
    bracket = tmp_path / "[1].wav"
    soundfile.write(bracket, sine(440), RATE)
    assert draw(bracket, tmp_path / "bracket.png") == 0


def test_the_tags_are_printed(drawn, tmp_path, capsys):
    def printed(*pictures: Path) -> tuple[int, str, str]:
        code = command.main(command.parse_args(["print-exif", "--image", *map(str, pictures)]))
        return code, *capsys.readouterr()

    code, lines, told = printed(drawn)
    tags = dict(line.split(" = ") for line in lines.splitlines())
    assert (code, told) == (0, "")
    exif = Image.open(drawn).getexif()
    assert len(tags) == len(ExifTags)
    assert {name.strip(): value.strip() for name, value in tags.items()} == {
        tag.name: str(exif[tag]) for tag in ExifTags
    }
    Image.open(drawn).save(tmp_path / "bare.png", exif=b"")
    code, lines, told = printed(tmp_path / "bare.png", drawn)
    assert code == 2
    assert lines.startswith(f"{drawn}:\nSAMPLE_RATE          =           44100\n")
    assert told == f"error: {tmp_path / 'bare.png'}: has no tags of Riffusion's\n"


def test_narrow_pictures(drawn, tmp_path):
    picture = Image.open(drawn)
    save = {width: retagged(drawn, tmp_path / f"{width}.png", picture.resize((width, 512))) for width in (3, 7, 33)}
    with pytest.raises(UserError, match="3 pixels wide"):
        play(save[3], tmp_path / "again.wav")
    for width in (7, 33):
        play(save[width], tmp_path / "again.wav")
        assert soundfile.info(tmp_path / "again.wav").frames == (width - 1) * PARAMS.hop_length


def test_the_command_line_itself():
    environment = os.environ | {"PYTHONPATH": str(Path(command.__file__).parent.parent)}
    run = subprocess.run(
        [sys.executable, "-m", "riffusion", "--help"], capture_output=True, text=True, env=environment, check=True
    )
    assert "python -m riffusion audio-to-image --audio clip.wav --image clip.png" in run.stdout
    assert run.stderr == ""


def test_help_answers_at_once():
    ask = """
import resource, runpy, sys
sys.argv = ["riffusion", "--help"]
try:
    runpy.run_module("riffusion", run_name="__main__")
except SystemExit:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(usage.ru_utime + usage.ru_stime, "torch" in sys.modules)
"""
    process = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    seconds, has_torch = process.stdout.splitlines()[-1].split()
    assert has_torch == "False"
    assert float(seconds) < 1.0
    assert "audio-to-image" in process.stdout


def test_an_interruption_says_how_many_files_are_done(tmp_path):
    def work(source: Path, target: Path) -> list[str]:
        if source.name == "c":
            raise KeyboardInterrupt
        return []

    with pytest.raises(KeyboardInterrupt) as ending:
        command.convert_all(work, [tmp_path / name for name in "abcd"])
    assert ending.value.__notes__ == ["2 of 4 files done"]
