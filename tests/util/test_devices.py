import pytest
import torch

from riffusion.util import devices

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "expected"),
    [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"avx512_bf16": False, "amx_bf16": True}, True)],
)
def test_bf16_is_chosen_where_the_processor_computes_in_it(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert devices.has_bf16(CPU) == expected
    assert devices.choose_dtype(CPU, None) == (torch.bfloat16 if expected else torch.float32)
    assert devices.choose_dtype(CPU, "fp16") == torch.float16


@pytest.mark.parametrize("able", [False, True])
def test_an_older_torch_is_asked_in_its_own_way(monkeypatch, able):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert devices.has_bf16(CPU) == able


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """A machine with an NVIDIA driver, seen by a torch that finds no GPU."""
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_gpu_that_cannot_be_used_is_named_with_the_reason(driver, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built for CPUs and can't use" in devices.unusable_gpu()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "is built for CUDA 13.0 and can't use" in devices.unusable_gpu()


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_nothing_is_said_of_a_hidden_gpu_or_of_none(driver, monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert devices.unusable_gpu() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(devices, "DRIVER", devices.DRIVER / "nowhere")
    assert devices.unusable_gpu() is None
