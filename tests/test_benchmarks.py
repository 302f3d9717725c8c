"""Every measure of every benchmark runs once, on a model and songs so small that its figures mean nothing."""

import argparse
import json
import sys
from pathlib import Path

import datasets
import edit_quality
import harness
import inference
import phase
import preprocess
import pytest
import robustness
import scaling
import torch
import train
import warm_python
from conftest import TINY_CLIP, write_song

import preprocess_musdb
from riffusion.util.errors import UserError

pytestmark = pytest.mark.slow

BENCHMARKS = (edit_quality, inference, phase, preprocess, robustness, scaling, train)
MEASURES = [(benchmark, measure) for benchmark in BENCHMARKS for measure in benchmark.MEASURES]
NEEDS_GPU = [(inference, "gpu")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Songs in stems, two to train on and two held out, and short pairs of them."""
    folder = tmp_path_factory.mktemp("corpus")
    for split in ("train", "valid"):
        for name in ("first", "second"):
            write_song(folder / "songs" / "everythingisfree" / split / f"{split} {name}", seconds=6.0)
    for split in ("train", "valid"):
        songs = folder / "songs" / "everythingisfree" / split
        flags = ["--root_data_dir", str(songs), "--output_dir", str(folder / "pairs" / split), "--num_proc", "1"]
        preprocess_musdb.main(preprocess_musdb.parse_args([*flags, "--silence", *TINY_CLIP]))
    return folder


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """Scripts that benchmarks start are forks, so that they needn't import torch each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(warm_python.serve(tmp_path_factory.mktemp("warm"))))
        yield


@pytest.fixture
def flags(corpus, tiny_models, tiny_base) -> dict:
    """The smallest settings of each benchmark."""
    songs, pairs, model_id = corpus / "songs", corpus / "pairs", tiny_models["stem"]
    few = "--num_inference_steps 1 --seeds 0 --max_samples 6 --batch_size 8 --max_vocals 2 --max_train_stems 20"
    return {
        edit_quality: f"--model_id {model_id} --dataset_id {pairs}/valid --root_data_dir {songs} {few}",
        inference: f"--model_id {model_id} --dataset_id {pairs}/valid --num_inference_steps 1 --slow_steps 1"
        " --batch_sizes 2 --repeats 1 --max_samples 2 --seeds 0 --song_seconds 2 --song_steps 1",
        phase: f"--model_id {model_id} --num_inference_steps 1 --song_seconds 2 --max_pictures 2",
        preprocess: f"--root_data_dir {songs}/everythingisfree/train --max_songs 1 --max_shifted_songs 1 --kills 1"
        " --num_proc 1 --long_seconds 6 --many_songs 1 --records 200",
        robustness: f"--model_id {model_id} --mutations 12 --dataset_mutations 6 --paint 1 --workers 2",
        scaling: f"--model_id {model_id} --work songs minutes pairs batches files --sizes 1 2 --num_proc 1",
        train: f"--model {tiny_base} --train_data_dir {pairs} --pairs 4 --epochs 1 --steps 1 --precisions no"
        " --batch_sizes 2 --kills 1 --overfit_steps 10",
    }


def run(benchmark, measure: str, flags: dict, output: Path, *more: str) -> int:
    chosen = [*flags[benchmark].split(), "--measure", measure, "--json", str(output / "figures.json"), *more]
    return benchmark.main(benchmark.parse_args(chosen))


@pytest.mark.parametrize(
    ("benchmark", "measure"),
    [pytest.param(*case, id=f"{case[0].__name__}-{case[1]}") for case in MEASURES if case not in NEEDS_GPU],
)
def test_a_measure_gives_a_table_and_its_figures(benchmark, measure, corpus, flags, tmp_path, capsys):
    more = ("--root_data_dir", str(corpus / "songs")) if measure == "song" else ()
    assert run(benchmark, measure, flags, tmp_path, *more) == 0
    rows = json.loads((tmp_path / "figures.json").read_text())[measure]
    assert rows
    printed = capsys.readouterr().out
    assert all(name in printed for row in rows for name in row)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("benchmark", "measure"), NEEDS_GPU)
def test_without_a_gpu_a_measure_that_needs_one_says_so(benchmark, measure, flags, tmp_path, capsys):
    assert run(benchmark, measure, flags, tmp_path) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: --measure {measure}: needs a GPU with CUDA, and there is none here"
    ]


def test_without_songs_a_measure_that_needs_them_says_so(flags, corpus, tmp_path, capsys):
    assert run(phase, "song", flags, tmp_path) == 2
    assert (
        capsys.readouterr().err == "error: --measure song: needs --root_data_dir, with everythingisfree/valid in it\n"
    )
    without = flags | {edit_quality: flags[edit_quality].replace(f"--root_data_dir {corpus / 'songs'}", "")}
    assert run(edit_quality, "separation", without, tmp_path) == 2
    assert "error: --measure separation: needs --root_data_dir" in capsys.readouterr().err
    assert run(edit_quality, "separation", flags, tmp_path, "--root_data_dir", str(corpus / "others")) == 2
    error = capsys.readouterr().err
    assert "is of a song there" in error
    assert "unpack" not in error


def test_a_measure_that_fails_takes_no_figures_with_it(tmp_path, capsys):
    args = argparse.Namespace(measure=["first", "second", "third"], json=tmp_path / "figures.json")

    def take(name: str) -> list[dict[str, object]]:
        if name == "second":
            raise UserError("lacks something")
        return [{"model": name, "level dB": 1.0}]

    assert harness.run_measures(args, take) == 2
    assert set(json.loads(args.json.read_text())) == {"settings", "first", "third"}
    printed, error = capsys.readouterr()
    assert error == "error: --measure second: lacks something\n"
    assert printed.count("level dB: ") == 1


def test_without_vocals_what_is_asked_of_them_says_so():
    pairs = datasets.Dataset.from_dict({"task": ["add"], "painted_stem": ["bass"], "song": ["one"]})
    with pytest.raises(UserError, match="no held-out pair asks to add vocals"):
        _ = edit_quality.Bench(None, [], pairs, max_vocals=2).vocals
