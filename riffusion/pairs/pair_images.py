"""A backing and the edits asked of it, drawn on one scale."""

import hashlib
from collections.abc import Collection, Iterator
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

MAX_NAME_BYTES = 200  # of the stems in an image's name; most file systems allow 255 for all of it


@dataclass(frozen=True)
class ClipImages:
    """Images of one clip: of a backing, and of what each edit of it asks for, by the stems that they show.

    `edited` are the stems in each edit's image. `mels` (bands, frames) also hold what measured edits paint, alone. All
    signals were multiplied by `gain`, so that none clips; `max_value` is black in every image.
    """

    clip: Clip
    backing: Stems
    edited: dict[Edit, Stems]
    mels: dict[Stems, np.ndarray]
    images: dict[Stems, Image.Image]
    params: SpectrogramParams
    gain: float
    max_value: float

    def changed_share(self, edit: Edit) -> float:
        """Share of the backing's pixels that an edit changes; of a stem drawn alone, if it came on top or went away."""
        if not edit.stem:
            return 0.0
        pixels = np.asarray(self.images[self.edited[edit]])
        if self.edited[edit] == edit.painted():
            before, after = self.mels[self.backing], self.mels[self.edited[edit]]
            result = np.maximum(edit.task.apply(before, after), 0)
            pixels = pixels_from_mel(result, self.max_value, self.params.power_for_image)
        return changed_share(np.asarray(self.images[self.backing]), pixels)

    def save(self, edit: Edit, prefix: Path, with_wav: bool) -> ImageFiles:
        """Write both images of a pair beside `prefix`, and their sound `with_wav`; returns their names.

        Images that were written for another edit of this backing stay.
        """
        mixes = (self.backing, self.edited[edit])
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
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"{len(mix)}-stems-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def draw_images(
    clip: Clip,
    plan: list[tuple[Stems, list[Edit]]],
    target: str,
    converter: SpectrogramConverter,
    measured: Collection[Edit] | None = None,
) -> Iterator[ClipImages]:
    """Draw each backing with its edits: for target "stem" what comes or goes, alone, else the whole result.

    Of the edits that are `measured` (None: of all) the stem is transformed alone, too.
    """
    asked = [
        (backing, {edit: edit.painted() if target == "stem" else edit.result(backing) for edit in edits})
        for backing, edits in plan
    ]
    backings = [backing for backing, _ in asked]
    edited = [mix for _, mixes in asked for mix in mixes.values()]
    painted = {edit: edit.painted() for _, mixes in asked for edit in mixes}
    seen = {painted[edit] for edit in painted if measured is None or edit in measured}
    unseen = set(painted.values()).difference(seen, backings, edited)
    mels = mels_of_mixes(clip, [*backings, *edited, *painted.values()], converter, unseen)
    for backing, mixes in asked:
        yield _on_one_scale(clip, backing, mixes, mels, converter.params)


def _on_one_scale(
    clip: Clip, backing: Stems, edited: dict[Edit, Stems], mels: dict[Stems, np.ndarray], params: SpectrogramParams
) -> ClipImages:
    """The images of a backing and its edits, with one gain and one maximum for all of them."""
    sums = {backing | edit.painted() for edit in edited}
    gain = 1 / max(1.0, *(float(np.abs(clip.mix(names)).max()) for names in sums))
    drawn = (backing, *edited.values(), *(edit.painted() for edit in edited))
    shown = {mix: gain * mels[mix] for mix in drawn if mix in mels}
    max_value = shared_max_value(shown[backing], np.stack([shown[mix] for mix in edited.values()]))
    images = {mix: image_from_spectrogram(shown[mix][None], params, max_value) for mix in (backing, *edited.values())}
    return ClipImages(clip, backing, edited, shown, images, params, gain, max_value)


def mels_of_mixes(
    clip: Clip, mixes: list[Stems], converter: SpectrogramConverter, unseen: Collection[Stems] = ()
) -> dict[Stems, np.ndarray]:
    """Mel amplitudes (bands, frames) of several mixes but for `unseen` ones, zeros for the one of no stems.

    Spectra add up, so the stems that are in the same mixes are summed first, and each such group is transformed once;
    only where there are more groups than mixes, and many of them, the mixes are.
    """
    audible = [mix for mix in dict.fromkeys(mixes) if mix]
    if not audible:
        return {}
    groups = groups_of_stems(clip, audible)
    are_many = len(audible) <= len(groups) > FEW_STEMS
    audible = [mix for mix in audible if mix not in unseen]
    if are_many:
        waveforms, weights = [clip.mix(mix) for mix in audible], None
    else:
        waveforms = [clip.mix(stems) for stems in groups.values()]
        members = [[mix in group for mix in audible] for group in groups]
        weights = torch.tensor(members, dtype=torch.float32).T
    mels = converter.mel_amplitudes_from_waveform(torch.from_numpy(np.stack(waveforms)), weights).cpu().numpy()
    return dict(zip(audible, mels, strict=True)) | {frozenset(): np.zeros_like(mels[0])}


def groups_of_stems(clip: Clip, mixes: list[Stems]) -> dict[frozenset[Stems], list[str]]:
    """The stems that always go together, by the mixes that they are in; those in none are left out."""
    groups: dict[frozenset[Stems], list[str]] = {}
    for stem in clip.stems:
        groups.setdefault(frozenset(mix for mix in mixes if stem in mix), []).append(stem)
    groups.pop(frozenset(), None)
    return groups
