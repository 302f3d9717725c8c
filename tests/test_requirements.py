from pathlib import Path

ROOT = Path(__file__).parents[1]


def pins(name: str) -> dict[str, str]:
    """The pinned versions of a requirements file, by package."""
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith(("#", "-r")))


def test_a_gpu_box_differs_only_in_torch_and_xformers():
    plain, gpu = pins("requirements.txt"), pins("requirements-gpu.txt")
    assert gpu.pop("xformers")
    assert gpu.pop("torch") != plain.pop("torch")
    assert gpu == plain


def test_what_development_needs_is_not_installed_to_run():
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text()
    assert not pins("requirements-dev.txt").keys() & pins("requirements.txt").keys()
