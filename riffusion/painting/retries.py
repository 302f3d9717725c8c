"""Painting more than once: candidates and retries, and which one is kept."""

from dataclasses import dataclass, replace

from riffusion.diffusion.sampling import Settings
from riffusion.painting.measurements import Measurements, Verdict
from riffusion.painting.metrics import StemAnalysis
from riffusion.painting.result import AttemptRecord
from riffusion.pairs.tasks import Success, Task

MORE_TEXT = 1.5  # times the text guidance, from the second retry on
LESS_IMAGE = 0.5  # of what the image guidance is over 1, from the third retry on


@dataclass(frozen=True)
class Attempt:
    """One painting of a song or item: its number, which chooses the noise, and how it is sampled."""

    number: int
    settings: Settings

    def noise_name(self, name: str) -> str:
        """The name that chooses the noise; a first attempt has the same one however many follow."""
        return f"{name} {self.number}" if self.number else name


def plan_rounds(settings: Settings, candidates: int, retries: int) -> list[list[Attempt]]:
    """All candidates at once, and then one retry after another, to be painted as long as no edit was performed.

    The first retry has new noise, the second more text guidance too, the third and later ones less image guidance.
    """
    rounds = [[Attempt(number, settings) for number in range(candidates)]]
    for retry in range(1, retries + 1):
        changed = settings
        if retry >= 2:
            changed = replace(changed, guidance_scale=MORE_TEXT * settings.guidance_scale)
        if retry >= 3:
            less = 1 + LESS_IMAGE * (settings.image_guidance_scale - 1)
            changed = replace(changed, image_guidance_scale=min(less, settings.image_guidance_scale))
        rounds.append([Attempt(candidates + retry - 1, changed)])
    return rounds


@dataclass(frozen=True)
class Candidate:
    """What was painted in an attempt, as far as it is measured; `stem` is the one that was asked for, "" if unknown."""

    attempt: Attempt
    task: Task
    stem: str
    analysis: StemAnalysis
    measured: Measurements

    def rank(self) -> tuple[float, ...]:
        """What makes a better candidate, first things first: performed; then the more is sung, or is heard at all.

        A part that is sung is one that the instruction calls vocals.
        """
        level = self.analysis.level
        if self.task.success is Success.SILENCE:
            return (-level.active_share,)
        sung = self.analysis.sung_share if self.stem == "vocals" else 0.0
        performed = self.analysis.is_new_part(self.stem)
        return performed, level.is_part, sung, level.active_share, -self.attempt.number

    def record(self) -> AttemptRecord:
        """This candidate among the attempts of result.json."""
        settings = self.attempt.settings
        scales = settings.guidance_scale, settings.image_guidance_scale
        return AttemptRecord(self.attempt.number, *scales, self.measured.of_stem())


def is_settled(candidates: list[Candidate]) -> bool:
    """Whether a candidate performed the edit, or none can be said to have failed."""
    return any(candidate.measured.verdict is not Verdict.FAILED for candidate in candidates)


def best(candidates: list[Candidate]) -> Candidate:
    """The candidate to keep: the first of those that rank highest."""
    return max(candidates, key=Candidate.rank)
