"""A backing and the edits asked of it, drawn on one scale."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from riffusion.audio import save_wav
from riffusion.image import changed_share, image_from_spectrogram, pixels_from_mel, save_png, shared_max_value
from riffusion.pairs.clips import FEW_STEMS, Clip
from riffusion.pairs.pair import ImageFiles
from riffusion.pairs.tasks import Edit, Stems
from riffusion.spectrogram import SpectrogramConverter, SpectrogramParams

MOST_NAME_BYTES = 200  # of the stems in a picture's name; most file systems allow 255 for all of it


@dataclass(frozen=True)
class Pictures:
    """Pictures of one clip: of a backing and of the answers to its edits, by the stems that they show.

    `mels` (bands, frames) also hold what each edit paints, alone. All signals were multiplied by `gain`, so that none
    clips; `max_value` is black in every picture.
    """

    clip: Clip
    backing: Stems
    answers: dict[Edit, Stems]
    mels: dict[Stems, np.ndarray]
    images: dict[Stems, Image.Image]
    params: SpectrogramParams
    gain: float
    max_value: float

    def changed_share(self, edit: Edit) -> float:
        """Share of the backing's pixels that an edit changes; of a stem drawn alone, if it came on top or went away."""
        if not edit.stem:
            return 0.0
        before, after = self.mels[self.backing], self.mels[self.answers[edit]]
        if self.answers[edit] == edit.painted():
            after = np.maximum(edit.task.apply(before, after), 0)
        pixels = pixels_from_mel(after, self.max_value, self.params.power_for_image)
        return changed_share(np.asarray(self.images[self.backing]), pixels)

    def save(self, edit: Edit, prefix: Path, with_wav: bool) -> ImageFiles:
        """Write both pictures of a pair beside `prefix`, and their sound `with_wav`; returns their names.

        Pictures that were written for another edit of this backing stay.
        """
        mixes = (self.backing, self.answers[edit])
        return ImageFiles(*(self._save_mix(mix, prefix, with_wav) for mix in mixes))

    def _save_mix(self, mix: Stems, prefix: Path, with_wav: bool) -> str:
        what = "original" if mix == self.backing else _file_name(mix)
        path = prefix.with_name(f"{prefix.name}_{what}.png")
        if not path.is_file():
            save_png(self.images[mix], path)
            if with_wav:
                sound = self.gain * self.clip.mix(mix)
                save_wav(path.with_suffix(".wav"), sound[None], self.clip.sample_rate)
        return path.name


def _file_name(mix: Stems) -> str:
    """The stems of a mix as part of a file's name, which file systems want short."""
    name = "+".join(sorted(mix)) or "silence"
    if len(name.encode()) <= MOST_NAME_BYTES:
        return name
    return f"{len(mix)}-stems-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def draw_pictures(
    clip: Clip, plan: list[tuple[Stems, list[Edit]]], target: str, converter: SpectrogramConverter
) -> Iterator[Pictures]:
    """Draw each backing with its edits: for target "stem" what comes or goes, alone, else the whole result."""
    answers = [
        {edit: edit.painted() if target == "stem" else edit.result(backing) for edit in edits}
        for backing, edits in plan
    ]
    painted = [edit.painted() for _, edits in plan for edit in edits]
    mixes = [backing for backing, _ in plan] + [mix for group in answers for mix in group.values()] + painted
    mels = _transform(clip, mixes, converter)
    for (backing, edits), results in zip(plan, answers, strict=True):
        sums = {backing | edit.painted() for edit in edits}
        gain = 1 / max(1.0, *(float(np.abs(clip.mix(names)).max()) for names in sums))
        shown = {mix: gain * mels[mix] for mix in (backing, *results.values(), *(edit.painted() for edit in edits))}
        max_value = shared_max_value(shown[backing], np.stack([shown[mix] for mix in results.values()]))
        images = {
            mix: image_from_spectrogram(shown[mix][None], converter.params, max_value)
            for mix in (backing, *results.values())
        }
        yield Pictures(clip, backing, results, shown, images, converter.params, gain, max_value)


def _transform(clip: Clip, mixes: list[Stems], converter: SpectrogramConverter) -> dict[Stems, np.ndarray]:
    """Mel amplitudes of several mixes, by as few transforms as there are mixes or parts of them that are told apart."""
    heard = [mix for mix in dict.fromkeys(mixes) if mix]
    if not heard:
        return {}
    parts = _parts(clip, heard)
    if len(heard) <= len(parts) > FEW_STEMS:
        waveforms, weights = [clip.mix(mix) for mix in heard], None
    else:
        waveforms = [clip.mix(part) for part in parts.values()]
        weights = torch.tensor(list(parts), dtype=torch.float32).T
    mels = converter.mel_amplitudes_from_waveform(torch.from_numpy(np.stack(waveforms)), weights).cpu().numpy()
    return dict(zip(heard, mels, strict=True)) | {frozenset(): np.zeros_like(mels[0])}


def _parts(clip: Clip, mixes: list[Stems]) -> dict[tuple[bool, ...], list[str]]:
    """The stems that always go together, by the mixes that they are in; those in none are left out."""
    parts: dict[tuple[bool, ...], list[str]] = {}
    for stem in clip.stems:
        parts.setdefault(tuple(stem in mix for mix in mixes), []).append(stem)
    parts.pop((False,) * len(mixes), None)
    return parts
