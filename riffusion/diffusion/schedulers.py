"""Noise schedulers by name. Nothing here imports diffusers before one is made: `--help` can list them at once."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

SCHEDULERS = {  # diffusers' class names
    "ddim": "DDIMScheduler",  # arXiv 2010.02502
    "dpm++": "DPMSolverMultistepScheduler",  # arXiv 2211.01095, second order
    "unipc": "UniPCMultistepScheduler",  # arXiv 2302.04867
    "euler_a": "EulerAncestralDiscreteScheduler",
}
STOCHASTIC = ("euler_a",)  # draw new noise at every step
DEFAULT_SCHEDULER, DEFAULT_STEPS = "unipc", 9  # as near to 100 steps of DDIM as 20 of its own are


def make_scheduler(model_scheduler: "SchedulerMixin", name: str) -> "SchedulerMixin":
    """A solver of `SCHEDULERS` for the noise schedule that a model was trained with, which its own scheduler knows.

    A model's own scheduler is returned as it is if it is the one. Others begin at pure noise, which a model's "leading"
    steps would leave out (arXiv 2305.08891).
    """
    import diffusers

    kind = getattr(diffusers, SCHEDULERS[name])
    if isinstance(model_scheduler, kind):
        return model_scheduler
    return kind.from_config(model_scheduler.config, timestep_spacing="trailing")
