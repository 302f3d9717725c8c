"""Painting more than once: what is tried, and which answer is kept."""

from dataclasses import dataclass, field, replace

from riffusion.diffusion.sampling import Settings
from riffusion.painting import metrics
from riffusion.pairs.instructions import asked_stem
from riffusion.pairs.tasks import Success, Task

MORE_TEXT = 1.5  # times the text guidance, from the second retry on
LESS_IMAGE = 0.5  # of what the image guidance is over 1, from the third retry on


@dataclass(frozen=True)
class Attempt:
    """One painting of a sample: its number, which chooses the noise, and how it is sampled."""

    number: int
    settings: Settings

    def noise_name(self, name: str) -> str:
        """The name that chooses a sample's noise; a first attempt has the same one however many follow."""
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
class Tried:
    """What came of an attempt."""

    attempt: Attempt
    task: Task
    prompt: str
    measured: metrics.Measured
    more: dict[str, object] = field(default_factory=dict)  # measured beside it

    @property
    def performed(self) -> bool | None:
        """Whether the edit was performed, None if that can't be told."""
        return self.measured.performed(self.task, asked_stem(self.prompt))

    def rank(self) -> tuple:
        """What makes a better answer, first things first: performed; then the more is sung, or is heard at all.

        A part that is sung is one that the instruction calls vocals.
        """
        edit, stem = self.measured.edit, asked_stem(self.prompt)
        if self.task.success is Success.SILENCE:
            return (-edit.active_share,)
        sung = self.measured.sung_share if stem == "vocals" else 0.0
        return self.measured.is_new_part(stem), edit.performed, sung, edit.active_share, -self.attempt.number

    def record(self) -> dict[str, object]:
        """This attempt as results.json tells it."""
        settings = self.attempt.settings
        return {
            "attempt": self.attempt.number,
            "guidance_scale": settings.guidance_scale,
            "image_guidance_scale": settings.image_guidance_scale,
        } | self.measured.row(self.task, asked_stem(self.prompt))


def is_settled(tried: list[Tried]) -> bool:
    """Whether an attempt performed the edit, or none can be told to have failed."""
    return any(one.performed is not False for one in tried)


def best(tried: list[Tried]) -> Tried:
    """The attempt to keep: the first of those that rank highest."""
    return max(tried, key=Tried.rank)
