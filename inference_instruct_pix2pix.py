"""Paint a part into music by instruction, or into the images of a dataset.

    python inference_instruct_pix2pix.py --model_id checkpoints/small --audio song.wav --prompt "add a female vocal"
    python inference_instruct_pix2pix.py --model_id checkpoints/small --input a.mp3 --output b.flac --prompt "add drums"
    python inference_instruct_pix2pix.py --seed --max_samples 10 --num_inference_steps 100

Each result gets a folder in --base_save_path, and index.html there shows all of them: images, players, measurements.
A song, of any length, rate and number of channels, comes back as input.wav, painted.wav (the input and the new part)
and stem.wav (the new part alone). "Remove the bass" subtracts the painted stem from the input, "extract the bass"
outputs only the painted stem. The input is never touched: in wav and flac, painted minus stem is the input to the last
bit. The images of a dataset are rendered as audio beside their true targets. An interrupted run resumes.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riffusion.audio import FORMATS
from riffusion.diffusion.schedulers import SCHEDULERS
from riffusion.painting.options import LIMITS, PICTURES, SAMPLE_ORDERS, STDIN, PaintOptions
from riffusion.pairs.tasks import TASKS
from riffusion.util.errors import UserError
from riffusion.util.flags import (
    CONFIG_HELP,
    MODEL_HELP,
    PRECISIONS,
    Help,
    at_least,
    between,
    finite,
    folder_name,
    seconds,
    torch_device,
    utf8_text,
)
from riffusion.util.runtime import quiet_libraries, run_script
from riffusion.util.streams import require_pipes, write_to_stdout

if TYPE_CHECKING:
    from riffusion.painting.result import Result
    from riffusion.painting.run import Run

FOR_AUDIO = ("start", "end", "without_stem", "stem_gain_db", "pan", "format", "bits")  # flags that a dataset can't have


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument_group("input").add_argument
    add("--model_id", help=f"{MODEL_HELP} (default: %(default)s, named by the original's page; its script read v2)")
    add("--model_config", metavar="FOLDER", help=CONFIG_HELP)
    add("--dataset_id", help="dataset folder or Hub name")
    add("--max_samples", type=limited(int, "max_samples"), help="maximum number of dataset items to edit")
    order = "which of them, where there are more: the first, or those that the original project drew (default: first)"
    add("--sample_order", choices=SAMPLE_ORDERS, help=order)
    add("--sample_index", type=at_least(0), nargs="+", metavar="N", help="these items, counted from 0 (default: any)")
    images = "spectrogram pictures without a dataset: files, patterns, folders (default: the dataset's)"
    add("--images", nargs="+", metavar="FILE", help=images)
    add(
        "--audio", nargs="+", metavar="FILE", help="songs: files, patterns, folders; - for stdin (default: the dataset)"
    )
    add("--input", dest="audio", nargs=1, metavar="FILE", help="one song or picture (default: none)")
    add(
        "--prompt",
        type=utf8_text,
        action="append",
        help="instruction, needed for --audio and --images; several give one result each (default: the dataset's own)",
    )
    tasks = [task.name for task in TASKS]
    edits = "many edits: JSON lines or CSV, one a row, columns named after flags; see docs/inference.md (default: none)"
    add("--edits", type=Path, metavar="FILE", help=edits)
    add("--task", choices=tasks, help="what to do with the painted stem (default: what the instruction says)")
    without = "leave this stem out of a song in stems (.stem.mp4, folder) (default: none)"
    add("--without_stem", metavar="STEM", help=without)
    add("--start", type=seconds, metavar="TIME", help="paint from here on, as 75.5 or 1:15.5 (default: 0)")
    add("--end", type=seconds, metavar="TIME", help="stop painting here (default: the song's end)")

    add = parser.add_argument_group("output").add_argument
    add("--base_save_path", type=Path, help="where results go (default: %(default)s)")
    add("--output", type=Path, metavar="FILE", help="write the painted song only, here (default: a folder of results)")
    add("--output_stem", type=Path, metavar="FILE", help="with --output: the painted part goes here (default: nowhere)")
    add("--name", type=folder_name, help="name of the result's folder (default: the song's name)")
    add("--overwrite", action="store_true", help="replace existing results")
    gain = "make the painted stem louder or softer (default: 0)"
    add("--stem_gain_db", type=limited(float, "stem_gain_db"), help=gain)
    pan = "stereo position of the stem, from -1 (left) to 1 (default: the centre)"
    add("--pan", type=limited(float, "pan"), help=pan)
    add("--format", choices=FORMATS, help="format of the audio files (default: %(default)s)")
    bits = "bit depth of wav and flac files (default: as many as the input has)"
    add("--bits", type=int, choices=[16, 24, 32], help=bits)
    archive = "also write all sounds into sounds.zip, for the page's link, if they are this many MB at most; 0: never"
    add("--zip_mb", type=limited(float, "zip_mb"), help=archive)
    add("--require_edit", action="store_true", help="exit with 1 if an edit to add or keep was not performed")
    add("--quiet", action="store_true", help="no progress bars and no tables")

    add = parser.add_argument_group("sampling").add_argument
    seed = "seed of the noise; 0 if given without a value (default: a random one)"
    add("--seed", type=limited(int, "seed"), nargs="?", const=0, help=seed)
    steps = limited(int, "num_inference_steps")
    add("--num_inference_steps", type=steps, help="denoising steps")
    add("--scheduler", choices=SCHEDULERS, help="noise scheduler")
    several = "several values make a grid with a page of its own"
    add("--guidance_scale", type=finite, nargs="+", help="text guidance (default: the model's, else 15); " + several)
    add("--image_guidance_scale", type=finite, nargs="+", help="image guidance (default: the model's, else 1.5)")
    rescale = "0 to 1: rescale to the unguided standard deviation (default: 0)"
    add("--guidance_rescale", type=limited(float, "guidance_rescale"), help=rescale)
    interval = "share of the steps that are guided (default: 0 1); fewer are faster"
    add("--guidance_interval", type=between(0, 1), nargs=2, metavar=("FROM", "TO"), help=interval)
    add("--negative_prompt", type=utf8_text, help="what not to paint (default: nothing)")
    candidates = "paint this many and keep the best (default: 1)"
    add("--num_candidates", type=limited(int, "num_candidates"), help=candidates)
    again = "paint again, up to this many times, while an edit to add or keep isn't performed (default: 0)"
    add("--retries", type=limited(int, "retries"), help=again)

    add = parser.add_argument_group("hardware").add_argument
    add("--batch_size", type=limited(int, "batch_size"), help="clips sampled together")
    add("--device", type=torch_device, help="torch device (default: the GPU if there is one)")
    add(
        "--precision",
        choices=PRECISIONS,
        help="precision of the model (default: bf16 where the device has it, else fp32)",
    )
    add("--compile", action="store_true", help="torch.compile the UNet: a slow first step, then faster on a GPU")
    parser.set_defaults(**vars(PaintOptions()))
    args = parser.parse_args(argv)
    check_args(args, parser)
    return args


def limited(kind: Callable[[str], float], flag: str) -> Callable[[str], float]:
    """The type of a flag that has `LIMITS`."""
    return between(*LIMITS[flag], kind)


def check_args(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse flags that can't be meant together."""
    if args.audio and all(Path(given).suffix.lower() in PICTURES for given in args.audio):
        args.images, args.audio = args.audio, None
    if args.edits is not None:
        check_edits(args, parser)
    elif (args.audio or args.images) and args.prompt is None:
        parser.error("--audio and --images need a --prompt")
    if args.images and (args.audio or args.edits):
        parser.error("--images doesn't go with --audio or --edits")
    if args.output or args.output_stem:
        check_output(args, parser)
    if args.name and (args.audio is None or len(args.audio) > 1):
        parser.error("--name names the result of one --audio file")
    if args.audio and STDIN in args.audio and (len(args.audio) > 1 or len(args.prompt) > 1):
        parser.error("--audio - takes one song from stdin, with one --prompt, and writes one to stdout")
    if args.audio == [STDIN] and args.without_stem:
        parser.error("--without_stem needs a song in stems, which can't come from stdin")
    if args.end is not None and args.end <= args.start:
        parser.error("--end must be after --start")
    for name in FOR_AUDIO if args.audio is None and args.edits is None else ():
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} is for --audio: a dataset's pictures have no sound of their own")
    if args.guidance_interval[0] >= args.guidance_interval[1]:
        parser.error("--guidance_interval must be two shares of the steps, the first one below the second")


def check_edits(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse what a list of edits can't have beside it: flags are for all rows that don't say otherwise."""
    for name in ("audio", "prompt", "guidance_scale", "image_guidance_scale"):
        if len(getattr(args, name) or ()) > 1:
            parser.error(f"--edits takes one --{name} at most, for the rows that have none of their own")
    if args.name:
        parser.error("--name is a column of --edits")


def check_output(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse --output where there isn't one song and one result, and take the format from its ending."""
    if args.output is None:
        parser.error("--output_stem goes with --output")
    given = args.audio or args.images or ()
    if args.edits or [len(given), len(args.prompt or ())] != [1, 1] or args.audio == [STDIN]:
        parser.error("--output takes one song or picture (--input FILE) and one --prompt")
    if max(len(set(scales or ())) for scales in (args.guidance_scale, args.image_guidance_scale)) > 1:
        parser.error("--output takes one guidance")
    ending = args.output.suffix.lower().removeprefix(".")
    endings = ("png", "wav") if args.images else tuple(FORMATS)
    if ending not in endings or args.format not in (ending, parser.get_default("format")):
        parser.error(f"--output: its ending must be one of {', '.join(endings)}: {args.output}")
    if args.output_stem is not None and args.output_stem.suffix.lower() != args.output.suffix.lower():
        parser.error(f"--output_stem: must have the same ending as --output: {args.output_stem}")
    args.format = args.format if args.images else ending


def options_of(args: argparse.Namespace) -> PaintOptions:
    """The flags as a record."""
    given = vars(args).items()
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given}
    return PaintOptions(**values)


def main(args: argparse.Namespace) -> int:
    """Paint; returns the exit code."""
    started = time.perf_counter()
    from riffusion.diffusion.lean_import import import_diffusers
    from riffusion.diffusion.model_files import check_model

    check_model(args.model_id, config=args.model_config)  # before what takes seconds to import
    import_diffusers(args.model_id)
    from riffusion.painting.measurements import Verdict
    from riffusion.painting.one_file import check_targets, write_targets
    from riffusion.painting.run import plan_run
    from riffusion.util.devices import warn_of_unusable_gpu
    from riffusion.util.distributed import this_share

    warn_of_unusable_gpu(args.device)
    share, options = this_share(), options_of(args)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.quiet:
            stack.enter_context(quiet_libraries())
        if options.is_piped:
            require_pipes(share.count)
            stack.enter_context(redirect_stdout(sys.stderr))
        if options.writes_files_only:
            check_targets(options)
            options = replace(options, base_save_path=scratch / "results", zip_mb=0)
        run = plan_run(options, share, scratch)
        print_failures(run)
        if share.is_main:
            print_tasks(run)
        try:
            if run.todo:
                run.paint()
            run.failures = share.gather(run.failures)
        finally:
            if share.is_main:
                run.write_pages()
        results = run.results()
        if share.is_main:
            print_results(run, results, time.perf_counter() - started)
            print_failures(run)
        if options.is_piped:
            write_to_stdout(run.done[0].folder / f"painted.{options.format}")
        write_targets(run.done[0].folder, options)
        share.wait()
    missed = options.require_edit and any(result.measured.verdict is Verdict.FAILED for result in results)
    return 2 if run.failures else int(missed)


def print_tasks(run: "Run") -> None:
    """Say what is done already, which task each instruction is taken for, and warn where that is doubtful."""
    from riffusion.pairs.task_words import read_instruction

    if run.existing and not run.options.quiet:
        print(f"{len(run.existing)} of {len(run.jobs)} done already, skipped")
    asked = [(job.prompt, job.task, job.options.task) for job in run.songs]
    asked += [(job.prompt, job.task, run.options.task) for job in run.items]
    for prompt, task, given in dict.fromkeys(asked):
        if not run.options.quiet:
            print(f"task {task.name}: {prompt!r}")
        doubt = read_instruction(prompt).warning
        if doubt and given is None and run.songs:
            print(f"warning: {prompt!r} is read as {task.name!r}: {doubt}; --task overrides this", file=sys.stderr)


def print_failures(run: "Run") -> None:
    """Print a line for each on stderr. Where nothing else came out, the first one is raised as a UserError."""
    first, *others = ("", *run.failures.values()) if run.done else run.failures.values()
    for reason in others:
        print(f"error: {reason}", file=sys.stderr)
    if not run.done:
        raise UserError(first)


def print_results(run: "Run", results: Sequence["Result"], spent: float) -> None:
    """Print tables and advice, how long it took, and where to look."""
    from riffusion.painting.closing import closing_text
    from riffusion.painting.results import PAGE, SEARCH_PAGE

    options = run.options
    if options.quiet or not results:
        return
    print(closing_text(results, options) + "\n")
    existing = f", {len(run.existing)} already existed" if run.existing else ""
    taken = f"{run.seconds:.1f} s, {spent:.1f} s with loading and pages"
    print(f"painted {len(run.done) - len(run.existing)} in {taken}{existing}; seed {options.seed}")
    if options.output is not None:
        print(f"written: {' and '.join(str(path) for path in (options.output, options.output_stem) if path)}")
    elif not options.is_piped:
        print(f"look and listen: {options.base_save_path / (SEARCH_PAGE if options.is_search else PAGE)}")


if __name__ == "__main__":
    run_script(main, parse_args())
