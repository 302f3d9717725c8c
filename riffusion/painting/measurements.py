"""What is measured of a painted stem, as result.json, tables and pages name it, with the verdict on the edit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any

OUTSIDE = "outside, grey levels"
BACKING_CHANGED = "backing samples changed"


class Verdict(Enum):
    """Whether an edit was performed. The values are the words of result.json, tables and pages."""

    PERFORMED = "yes"
    FAILED = "no"
    UNKNOWN = "-"

    @classmethod
    def of(cls, performed: bool | None) -> "Verdict":
        """The verdict of a judgement; None is one that can't be made."""
        return {True: cls.PERFORMED, False: cls.FAILED, None: cls.UNKNOWN}[performed]


def named(key: str) -> Any:
    """A measurement, and what result.json, tables and pages call it."""
    return field(default=None, metadata={"key": key})


@dataclass(frozen=True)
class Measurements:
    """What is measured of one painted stem. None stands for what isn't measured, NaN for what has no value there.

    | field | recorded as | unit and meaning |
    | --- | --- | --- |
    | verdict | edit performed | "yes", "no", or "-" where nobody can tell |
    | level_db | stem level dB | against the input in the stem's active frames; -inf without any |
    | active_percent | active % | frames in which the stem is active |
    | voiced_percent | voiced % | frames with a clear pitch |
    | pitch_hz | median pitch Hz | of the voiced frames |
    | overtones_percent | overtones % | overtones that stand out in voiced frames |
    | onsets_db | onsets dB | rise at the median onset over that at the median moment |
    | low_percent | below 300 Hz % | power below 300 Hz |
    | limited_db | limited dB | how far the stem was turned down where a song would clip |
    | limited_seconds | limited s | for how long |
    | samples_cut | samples cut | samples where that was not enough |
    | clipped_samples | input samples clipped | samples of the input beyond full scale |
    | backing_changed | backing samples changed | samples of the input that the result lacks, in lossless formats |
    | outside_grey | outside, grey levels | rms change of a dataset's picture where nothing was to change |
    """

    verdict: Verdict = field(metadata={"key": "edit performed"})
    level_db: float | None = named("stem level dB")
    active_percent: float | None = named("active %")
    voiced_percent: float | None = named("voiced %")
    pitch_hz: float | None = named("median pitch Hz")
    overtones_percent: float | None = named("overtones %")
    onsets_db: float | None = named("onsets dB")
    low_percent: float | None = named("below 300 Hz %")
    limited_db: float | None = named("limited dB")
    limited_seconds: float | None = named("limited s")
    samples_cut: int | None = named("samples cut")
    clipped_samples: int | None = named("input samples clipped")
    backing_changed: int | None = named(BACKING_CHANGED)
    outside_grey: float | None = named(OUTSIDE)

    def row(self) -> dict[str, object]:
        """What was measured, by its names in result.json and in tables."""
        known = {one.metadata["key"]: getattr(self, one.name) for one in fields(self)}
        return {key: value for key, value in known.items() if value is not None} | {
            "edit performed": self.verdict.value
        }

    def of_stem(self) -> "Measurements":
        """What is measured of the stem's sound alone, not of the rest of a result."""
        mixing = replace(self, limited_db=None, limited_seconds=None, samples_cut=None, clipped_samples=None)
        return replace(mixing, backing_changed=None, outside_grey=None)

    @classmethod
    def key(cls, name: str) -> str:
        """What result.json, tables and pages call a field."""
        return next(one.metadata["key"] for one in fields(cls) if one.name == name)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Measurements":
        """The inverse of `row`, also of rows that earlier versions wrote; JSON's null is NaN."""
        values = {one.name: row[one.metadata["key"]] for one in fields(cls) if one.metadata["key"] in row}
        values = {name: float("nan") if value is None else value for name, value in values.items()}
        return cls(**values | {"verdict": Verdict(row.get("edit performed", "-"))})
