"""The house's rules: who may import whom, how much a function may do, and what a script may load to answer --help."""

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ("preprocess_musdb", "upload_musdb", "train_instruct_pix2pix", "inference_instruct_pix2pix")
FLOORS = (  # lowest first; a room may import those on floors below its own
    {"util"},
    {"recordings"},
    {"audio", "spectrogram_params", "spectrogram", "image", "phase"},
    {"pairs"},
    {"diffusion"},
    {"training"},
    {"painting"},
    {"__init__", "__main__"},
)
HEAVY = ("torch", "diffusers", "transformers", "datasets", "accelerate", "librosa")
MOST_ROOMS = 12
MOST_NAMESPACES = 35
MOST_LINES, LONG_SHARE = 40, 0.01


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources() -> list[Path]:
    """All Python files but tests."""
    folders = ("riffusion", "benchmarks", "recipes")
    return [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & set(modules()) or {str(node.module)}
    return found


@cache
def modules() -> dict[str, Path]:
    """The package's files by their dotted names."""
    files = (ROOT / "riffusion").rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in sources():
        yield from ((path, node) for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef))


def room(path: Path) -> str:
    return path.relative_to(ROOT / "riffusion").parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def test_every_room_is_on_a_floor_and_there_are_few():
    rooms = {room(path) for path in modules().values()}
    assert rooms == set().union(*FLOORS)
    assert len(rooms - {"__init__"}) <= MOST_ROOMS


def test_no_room_imports_one_above_it():
    upwards = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules().values()
        for name in imports(path)
        if name.startswith("riffusion.") and name in modules()
        if floor(room(modules()[name])) > floor(room(path))
    ]
    assert upwards == []


def test_painting_knows_nothing_of_training():
    paths = [path for path in modules().values() if room(path) == "painting"]
    assert paths
    assert not any(name.startswith("riffusion.training") for path in paths for name in imports(path))


def test_no_modules_import_each_other_in_a_circle():
    known = {name: path for name, path in modules().items() if name != "riffusion"}  # its `paint` imports when called
    rest = {name: (imports(path) & set(known)) - {name} for name, path in known.items()}
    while free := [name for name, targets in rest.items() if not targets & set(rest)]:
        for name in free:
            del rest[name]
    assert set(rest) == set()


def test_scripts_import_no_scripts_and_rooms_none_either():
    for path in [*modules().values(), *(ROOT / f"{name}.py" for name in SCRIPTS)]:
        assert not imports(path) & set(SCRIPTS), path


def test_few_functions_take_a_command_line():
    takers = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, node in functions()
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.annotation is not None and argparse.Namespace.__name__ in ast.unparse(argument.annotation)
    ]
    assert len(takers) <= MOST_NAMESPACES, takers


def test_few_functions_are_longer_than_a_screen():
    lengths = {f"{path.relative_to(ROOT)}:{node.name}": lines(node) for path, node in functions()}
    long = {name: length for name, length in lengths.items() if length > MOST_LINES}
    assert len(long) < LONG_SHARE * len(lengths), long


def lines(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("script", [*(f"{name}.py" for name in SCRIPTS), "riffusion/__main__.py"])
def test_help_loads_nothing_that_takes_long(script):
    code = f"""
import json, runpy, sys
sys.argv = [{script!r}, "--help"]
sys.path.insert(0, {str(ROOT)!r})
try:
    runpy.run_path({str(ROOT / script)!r}, run_name="__main__")
finally:
    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "usage: " in run.stdout
    assert json.loads(run.stdout.splitlines()[-1]) == []
