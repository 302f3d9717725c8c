"""The figures of benchmarks/gpu.sh in one JSON and one Markdown file.

python benchmarks/gpu_report.py OUT
"""

import csv
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from riffusion.util import files, tables

RESULTS = {"finetune": "finetuned", "two-processes": "two"}  # rows that train, and where their result.json lies
TRAINING = ("step", "loss", "held_out_loss", "samples_per_second", "peak_gpu_memory_gb")


def report(out: Path) -> int:
    """Write figures.json and figures.md into `out`; exit code 2 if a row failed."""
    with (out / "rows.tsv").open(newline="") as file:
        rows = [
            {"row": name, "seconds": int(spent), "exit code": int(code)}
            for name, spent, code in csv.reader(file, delimiter="\t")
        ]
    figures: dict[str, Any] = {
        "machine": machine(),
        "tests": last_line(out / "tests.log"),
        "rows": rows,
    }
    for row in rows:
        name = str(row["row"])
        figures |= {f"{name}: {measure}": found for measure, found in measured(out, name).items()}
    files.save_json(out / "figures.json", figures)
    text = [f"# On {figures['machine']}", f"Tests that need a GPU: {figures['tests']}"]
    for name, found in figures.items():
        if isinstance(found, list):
            text.append(f"## {name}\n\n{tables.markdown_table(found)}")
    (out / "figures.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    print("\n\n".join(text))
    failed = [str(row["row"]) for row in rows if row["exit code"]]
    if failed:
        print(f"\nfailed: {', '.join(failed)}; see {out}/ROW.log", file=sys.stderr)
    return 2 if failed else 0


def measured(out: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    """The tables that a row has made, by what they measure."""
    if name in RESULTS:
        path = out / RESULTS[name] / "result.json"
        found = json.loads(path.read_text()) if path.is_file() else {}
        return {"training": [{key: found[key] for key in TRAINING if key in found}]} if found else {}
    path = out / f"{name}.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    return {measure: table for measure, table in found.items() if measure != "settings"}


def machine() -> str:
    """The GPU and the versions of what computes on it."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{gpu}, torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"


def last_line(log: Path) -> str:
    """The last line that a row printed."""
    lines = log.read_text(encoding="utf-8").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else "unknown"


if __name__ == "__main__":
    sys.exit(report(Path(sys.argv[1])))
