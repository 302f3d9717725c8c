from riffusion.diffusion.sampling import Settings
from riffusion.painting.measurements import Verdict
from riffusion.painting.metrics import LEVEL_RANGE_DB, PaintedLevel, StemAnalysis, Voicing
from riffusion.painting.retries import Candidate, best, is_settled, plan_rounds
from riffusion.painting.timbre import Timbre
from riffusion.pairs.instructions import asked_stem
from riffusion.pairs.tasks import ADD, KEEP, REMOVE, Task

SETTINGS = Settings(guidance_scale=2.0, image_guidance_scale=3.0, num_inference_steps=20, seed=0)


def candidate(
    number: int,
    performed: bool,
    voiced: float,
    active: float,
    task: Task = ADD,
    prompt: str = "add a vocal",
    overtones: float = 0.9,
) -> Candidate:
    attempt = plan_rounds(SETTINGS, 9, 0)[0][number]
    level = PaintedLevel(0.0 if performed else LEVEL_RANGE_DB[1] + 1, active)
    analysis = StemAnalysis(level, Voicing(voiced, 440.0), Timbre(overtones, 20.0, 0.1))
    stem = asked_stem(prompt)
    return Candidate(attempt, task, stem, analysis, analysis.measurements(task, stem))


def test_retries_take_new_noise_then_more_text_then_less_image():
    candidates, *retries = plan_rounds(SETTINGS, candidates=3, retries=4)
    assert [attempt.settings for attempt in candidates] == [SETTINGS] * 3
    scales = [(one.settings.guidance_scale, one.settings.image_guidance_scale) for (one,) in retries]
    assert scales == [(2.0, 3.0), (3.0, 3.0), (3.0, 2.0), (3.0, 2.0)]
    noises = [attempt.noise_name("song") for attempts in (candidates, *retries) for attempt in attempts]
    assert len(set(noises)) == 7
    assert noises[0] == plan_rounds(SETTINGS, 1, 0)[0][0].noise_name("song") == "song"


def test_the_best_is_performed_then_sung_then_heard():
    assert best([candidate(0, False, 0.9, 0.9), candidate(1, True, 0.2, 0.3)]).attempt.number == 1
    assert best([candidate(0, True, 0.2, 0.9), candidate(1, True, 0.6, 0.5)]).attempt.number == 1
    drums = [candidate(0, True, 0.2, 0.9, prompt="add drums"), candidate(1, True, 0.6, 0.5, prompt="add drums")]
    assert best(drums).attempt.number == 0
    whistles = candidate(0, True, 0.9, 0.9, overtones=0.2)
    assert whistles.measured.verdict is Verdict.FAILED
    assert best([whistles, candidate(1, True, 0.3, 0.3)]).attempt.number == 1
    assert best([candidate(0, True, 0.5, 0.5), candidate(1, True, 0.5, 0.5)]).attempt.number == 0
    assert best([candidate(0, True, 0.5, 0.5, KEEP), candidate(1, False, 0.0, 0.05, KEEP)]).attempt.number == 1


def test_only_what_failed_is_painted_again():
    assert not is_settled([candidate(0, False, 0.9, 0.9)])
    assert is_settled([candidate(0, False, 0.9, 0.9), candidate(1, True, 0.2, 0.3)])
    assert is_settled([candidate(0, False, 0.9, 0.9, REMOVE)])  # of that there is no verdict
    assert is_settled([candidate(0, False, 0.9, 0.05, KEEP)])
    assert not is_settled([candidate(0, True, 0.9, 0.9, KEEP)])
