"""Painting over the pictures of dataset items: several are sampled together, and the best candidate of each is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from riffusion import audio
from riffusion.diffusion.sampling import Settings, edit_images
from riffusion.image import image_from_spectrogram
from riffusion.painting.dataset_items import ItemAudio, PaintedItem
from riffusion.painting.jobs import ItemJob
from riffusion.painting.long_song import Painter, unedited_images
from riffusion.painting.options import PaintOptions
from riffusion.painting.results import working_folder
from riffusion.painting.retries import Attempt, Candidate, best, is_settled, plan_rounds
from riffusion.painting.save_result import Signals, save_result
from riffusion.pairs.instructions import asked_stem


@dataclass(frozen=True)
class ItemRequest:
    """One picture to paint: of which item, by which instruction, and the name that chooses the noise."""

    audio: ItemAudio
    prompt: str
    noise: str


def paint_items(
    requests: Sequence[ItemRequest], settings: Settings, painter: Painter, progress: tqdm | None = None
) -> list[PaintedItem]:
    """Paint over pictures, as many at once as the painter's batch holds, and measure what was painted.

    `progress` counts denoising steps, one for each picture.
    """
    painted: list[PaintedItem] = []
    for first in range(0, len(requests), painter.batch_size):
        batch = requests[first : first + painter.batch_size]
        pictures = edit_images(
            painter.pipeline,
            [request.audio.item.original for request in batch],
            [request.prompt for request in batch],
            [request.noise for request in batch],
            settings,
            progress,
        )
        painted += [
            request.audio.painted(picture, painter.target) for request, picture in zip(batch, pictures, strict=True)
        ]
    return painted


@dataclass
class ItemRun:
    """A dataset item's job while it is painted: its candidates so far, and what each of them is, by number."""

    job: ItemJob
    audio: ItemAudio
    candidates: list[Candidate] = field(default_factory=list)
    painted: dict[int, PaintedItem] = field(default_factory=dict)

    def request(self, attempt: Attempt) -> ItemRequest:
        """What is to be painted in an attempt."""
        return ItemRequest(self.audio, self.job.prompt, attempt.noise_name(self.job.item.sha256))

    def add(self, attempt: Attempt, painted: PaintedItem) -> None:
        """Take what was painted in an attempt for a candidate."""
        stem = asked_stem(self.job.prompt)
        self.candidates.append(Candidate(attempt, self.job.task, stem, painted.analysis, painted.measured))
        self.painted[attempt.number] = painted


def paint_item_jobs(jobs: Sequence[ItemJob], painter: Painter, progress: tqdm, options: PaintOptions) -> None:
    """Paint a few items that are sampled alike, and write their folders.

    `progress` counts denoising steps, one for each picture; steps of retries are added to its total.
    """
    unedited = unedited_images([job.item.original for job in jobs], painter)
    runs = [
        ItemRun(job, ItemAudio(job.item, painter.converter, picture))
        for job, picture in zip(jobs, unedited, strict=True)
    ]
    for attempts in plan_rounds(jobs[0].settings, options.num_candidates, options.retries):
        unsettled = [run for run in runs if not is_settled(run.candidates)]
        asked = [(run, attempt) for run in unsettled for attempt in attempts]
        if attempts[0].number >= options.num_candidates:
            progress.total += len(asked) * options.num_inference_steps
        requests = [run.request(attempt) for run, attempt in asked]
        painted = paint_items(requests, attempts[0].settings, painter, progress)
        for (run, attempt), one in zip(asked, painted, strict=True):
            run.add(attempt, one)
    for run in runs:
        save_item(run, painter)


def save_item(run: ItemRun, painter: Painter) -> None:
    """Write the best candidate's pictures and sound: original, painted, stem and target."""
    item, item_audio, params = run.job.item, run.audio, run.job.item.params
    kept = run.painted[best(run.candidates).attempt.number]
    sounds = item_audio.signals(kept.stem)
    peak = max(float(sound.abs().max()) for sound in sounds.values())
    gain = 1 / max(peak, 1e-9) if peak > 1 or item.max_value is None else 1.0  # else the level is unknown
    shown = item.shown(item_audio.unedited, kept.picture, painter.target)
    max_value, seconds = float(item.max_value or 1.0), item_audio.backing.shape[-1] / params.sample_rate
    pictures = {name: image_from_spectrogram(shown[name], params, max_value) for name in sounds}
    controls = {name: one.measured for name, one in item_audio.controls(painter.target).items()}
    with working_folder(run.job.folder) as folder:
        for name, sound in sounds.items():
            audio.save_wav(folder / f"{name}.wav", gain * sound.numpy(), params.sample_rate)
        signals, unknown = Signals(pictures, "wav", seconds, params), painter.never_heard(run.job.prompt)
        save_result(folder, run.job, run.candidates, signals, controls, unknown)
