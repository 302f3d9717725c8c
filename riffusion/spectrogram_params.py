"""What a spectrogram picture means, and its EXIF tags, by Riffusion V1's names; no heavy imports."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

INT16_SCALE = 32768  # of Riffusion's amplitudes over those of samples in [-1, 1]
FLOAT_LIMIT = 5e4  # beyond mel amplitudes of samples in [-1, 1], even doubled; below those of int16 down to -60 dBFS
ANALYSIS_RATE = 24000  # Hz: all that a picture which ends at 10 kHz needs


class ExifTags(enum.IntEnum):
    """Riffusion's private EXIF tags."""

    SAMPLE_RATE = 11000
    STEREO = 11005
    STEP_SIZE_MS = 11010
    WINDOW_DURATION_MS = 11020
    PADDED_DURATION_MS = 11030
    NUM_FREQUENCIES = 11040
    MIN_FREQUENCY = 11050
    MAX_FREQUENCY = 11060
    POWER_FOR_IMAGE = 11070
    MAX_VALUE = 11080


@dataclass(frozen=True)
class SpectrogramParams:
    """What a spectrogram picture means. Field names and defaults are Riffusion V1's; `num_frames` is ours.

    Durations are in milliseconds, frequencies in Hz. `num_frames` is the width of one clip's picture.
    """

    stereo: bool = False
    sample_rate: int = 44100
    step_size_ms: int = 10
    window_duration_ms: int = 100
    padded_duration_ms: int = 400
    num_frequencies: int = 512
    min_frequency: int = 0
    max_frequency: int = 10000
    power_for_image: float = 0.25
    num_griffin_lim_iters: int = 32
    num_frames: int = 512

    @property
    def n_fft(self) -> int:
        """Samples of one zero-padded frame."""
        return int(self.padded_duration_ms / 1000 * self.sample_rate)

    @property
    def win_length(self) -> int:
        """Samples under the Hann window."""
        return int(self.window_duration_ms / 1000 * self.sample_rate)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return int(self.step_size_ms / 1000 * self.sample_rate)

    @property
    def clip_samples(self) -> int:
        """Samples whose centred STFT has exactly `num_frames` frames."""
        return (self.num_frames - 1) * self.hop_length

    @property
    def clip_seconds(self) -> float:
        """Seconds of one clip."""
        return self.clip_samples / self.sample_rate

    def at_analysis_rate(self) -> "SpectrogramParams":
        """Params of the same frames and bins at `ANALYSIS_RATE`, or these where that would lose something.

        Frames and bins are the same if every duration is a whole number of samples at both rates.
        """
        lower = replace(self, sample_rate=ANALYSIS_RATE)
        rates = (self.sample_rate / ANALYSIS_RATE,) * 3
        ratios = (self.n_fft / lower.n_fft, self.win_length / lower.win_length, self.hop_length / lower.hop_length)
        return lower if self.sample_rate > ANALYSIS_RATE and self.max_frequency <= 10000 and ratios == rates else self

    def to_exif(self, max_value: float) -> dict[int, int | float | bool]:
        """EXIF tags that let anybody decode the picture; `max_value` is the amplitude of a black pixel."""
        fields = {tag: getattr(self, tag.name.lower()) for tag in ExifTags if tag is not ExifTags.MAX_VALUE}
        return {int(tag): value for tag, value in fields.items()} | {int(ExifTags.MAX_VALUE): float(max_value)}

    @classmethod
    def from_exif(cls, exif: Mapping[int, object]) -> "SpectrogramParams":
        """Params from a picture's EXIF; a tag that is missing keeps Riffusion's default."""
        fields = {}
        for tag in ExifTags:
            if tag is ExifTags.MAX_VALUE or tag not in exif:
                continue
            name = tag.name.lower()
            fields[name] = type(getattr(cls, name))(exif[tag])
        return cls(**fields)


def max_value_from_exif(exif: Mapping[int, object]) -> float | None:
    """The amplitude of black for samples in [-1, 1], from a picture's EXIF; None if it doesn't say.

    Riffusion's own tools write it for 16-bit integers, which shows in its size: a Hann window and V1's mel filters
    give samples in [-1, 1] at most 1.5e4, by the Cauchy-Schwarz inequality, and a pair's black is at most twice that.
    """
    if ExifTags.MAX_VALUE not in exif:
        return None
    value = float(exif[ExifTags.MAX_VALUE])  # type: ignore[arg-type]
    return value / INT16_SCALE if value > FLOAT_LIMIT else value
