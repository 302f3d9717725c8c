"""The notebook: its code cells run in order in a fresh interpreter, as a notebook's kernel would run them."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tour.ipynb"
MOST_LINES = 16  # of a cell
# runs cells, and tells what a notebook would show of the last expression of each
KERNEL = """
import ast, json, sys
cells, scope, shown = json.loads(sys.stdin.read()), {"__name__": "__main__"}, []
for cell in cells:
    tree = ast.parse(cell)
    last = tree.body.pop().value if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), scope)
    value = None if last is None else eval(compile(ast.Expression(last), "cell", "eval"), scope)
    kinds = [kind for kind in ("_repr_html_", "_repr_png_") if hasattr(value, kind)]
    shown.append([type(value).__name__, *[(kind, len(getattr(value, kind)())) for kind in kinds]])
print("\\n" + json.dumps(shown))
"""


def cells(kind: str) -> list[dict]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def test_cells_are_short_and_hold_no_outputs():
    sources = ["".join(cell["source"]) for cell in cells("code")]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells("code"))
    assert 0 < max(len(source.splitlines()) for source in sources) <= MOST_LINES
    for source in sources:
        ast.parse(source)
    named = [cell["id"] for kind in ("code", "markdown") for cell in cells(kind)]
    assert len(named) == len(set(named))


def test_cells_import_what_is_there():
    trees = [ast.parse("".join(cell["source"])) for cell in cells("code")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert nodes
    for node in nodes:
        module = importlib.import_module(str(node.module))
        assert [name.name for name in node.names if not hasattr(module, name.name)] == [], node.module


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last():
    sources = json.dumps(["".join(cell["source"]) for cell in cells("code")])
    command = [sys.executable, "-c", KERNEL]
    run = subprocess.run(
        command, cwd=NOTEBOOK.parent, input=sources, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stderr
    shown = json.loads(run.stdout.splitlines()[-1])
    assert [kind for kind, *_ in shown].count("Painting") == 4
    assert [kind for kind, *_ in shown].count("Image") == 2
    assert all(length > 1000 for _, *displays in shown for _, length in displays if displays and length is not None)
