"""result.json: what was painted into one song or dataset item, with which settings, and what was measured of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from riffusion.painting.measurements import Measurements
from riffusion.util import files

RECORD = "result.json"  # in the folder of a result
REQUIRED = {"title", "prompt", "measured", "controls", "settings", "seconds", "columns", "min_frequency"}
REQUIRED |= {"max_frequency", "tracks", "comparison"}  # a result.json without these is somebody else's


@dataclass(frozen=True)
class Track:
    """One signal of a result: its name, and the names of its sound and of its picture in the result's folder."""

    name: str
    sound: str
    picture: str


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt of a result: its number, from 0, the guidance it was painted with, and what was measured of it."""

    number: int
    guidance_scale: float
    image_guidance_scale: float
    measured: Measurements

    def to_json(self) -> dict[str, object]:
        """As result.json and tables have it."""
        scales = {"guidance_scale": self.guidance_scale, "image_guidance_scale": self.image_guidance_scale}
        return {"attempt": self.number} | scales | self.measured.row()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "AttemptRecord":
        """The inverse of `to_json`."""
        scales = value["guidance_scale"], value["image_guidance_scale"]
        return cls(value["attempt"], *scales, Measurements.from_row(value))


@dataclass(frozen=True)
class Result:
    """One result, as result.json has it under these keys:

    - `sample`: name of the result's folder
    - `title`: heading for people
    - `prompt`, `task`: the instruction, and what was done with the painted stem
    - `measured`: what was measured of the attempt that was kept, see `Measurements`
    - `controls`: the same of known pictures, by name ("copy the input", "oracle"); empty for songs
    - `kept attempt`: number of the attempt that the result is
    - `attempts`: all attempts in order: `attempt`, `guidance_scale`, `image_guidance_scale` and what was measured
    - `settings`: all that shapes the result; a run with the same settings takes it for finished
    - `seconds`: length of the signals
    - `columns`: width of the pictures in pixels
    - `min_frequency`, `max_frequency`: bottom and top of the pictures in Hz
    - `tracks`: the signals in order: `name`, `sound` and `picture`, two files in the result's folder
    - `comparison`: an animation of the pictures, a file there
    - `never heard`: instruments that the instruction asks for though the model wasn't trained on any; only if there
      are some
    """

    name: str
    title: str
    prompt: str
    task: str
    measured: Measurements
    controls: dict[str, Measurements]
    kept: int
    attempts: list[AttemptRecord]
    settings: dict[str, Any]
    seconds: float
    columns: int
    min_frequency: float
    max_frequency: float
    tracks: list[Track]
    comparison: str
    never_heard: tuple[str, ...] = ()

    @property
    def guidance(self) -> tuple[float, float]:
        """Text and image guidance that it was asked to be painted with."""
        return self.settings["guidance_scale"], self.settings["image_guidance_scale"]

    def to_json(self) -> dict[str, object]:
        """As result.json has it."""
        return {
            "sample": self.name,
            "title": self.title,
            "prompt": self.prompt,
            "task": self.task,
            "measured": self.measured.row(),
            "controls": {name: measured.row() for name, measured in self.controls.items()},
            "kept attempt": self.kept,
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "settings": self.settings,
            "seconds": self.seconds,
            "columns": self.columns,
            "min_frequency": self.min_frequency,
            "max_frequency": self.max_frequency,
            "tracks": [vars(track) for track in self.tracks],
            "comparison": self.comparison,
        } | ({"never heard": list(self.never_heard)} if self.never_heard else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any], name: str) -> "Result":
        """The inverse of `to_json`, for a result in a folder called `name`: people rename folders.

        Earlier versions wrote the task among the settings only, and no attempts.
        """
        return cls(
            name=name,
            title=value["title"],
            prompt=value["prompt"],
            task=value.get("task") or value["settings"].get("task", ""),
            measured=Measurements.from_row(value["measured"]),
            controls={control: Measurements.from_row(row) for control, row in value["controls"].items()},
            kept=value.get("kept attempt", 0),
            attempts=[AttemptRecord.from_json(one) for one in value.get("attempts", [])],
            settings=value["settings"],
            seconds=value["seconds"],
            columns=value["columns"],
            min_frequency=value["min_frequency"],
            max_frequency=value["max_frequency"],
            tracks=[Track(**track) for track in value["tracks"]],
            comparison=value["comparison"],
            never_heard=tuple(value.get("never heard", ())),
        )


def write_result(folder: Path, result: Result) -> None:
    """Write result.json into a folder."""
    files.save_json(folder / RECORD, result.to_json())


def read_result(folder: Path) -> Result | None:
    """The result in a folder; None if there is none, or if its result.json is another program's.

    Raises UserError if the file is no JSON object.
    """
    if not (folder / RECORD).is_file():
        return None
    value = files.load_json(folder / RECORD)
    return Result.from_json(value, folder.name) if set(value) >= REQUIRED else None
