"""Devices that torch cannot compute on are explained, whatever torch raises for them."""

import pytest
import torch

from algorithms.models.devices import find_device
from arpo_envs import ConfigError

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_a_device_is_returned(name: str) -> None:
    assert find_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["banana", "", "CPU", "cuda:x", "cuda:-1", "cdua"])
def test_no_name_of_a_device(name: str) -> None:
    with pytest.raises(ConfigError, match=f"Unknown --device '{name}'. Known: cpu, cuda"):
        find_device(name)


def test_a_slip_of_the_pen_is_corrected() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'cuda'"):
        find_device("cdua")


@no_cuda
@pytest.mark.parametrize("name", ["cuda", "cuda:9"])
def test_no_cuda(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--device {name}, but torch sees no CUDA device. Use --device cpu, or install"):
        find_device(name)


def test_too_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"--device cuda:2, but .+ counts 2 of them.+ Use --device cuda:1"):
        find_device("cuda:2")


@pytest.mark.parametrize("name", ["meta", "hpu", "vulkan"])  # no numbers in it; no such module; no such backend
def test_what_torch_cannot_compute_on(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--device {name}, but torch cannot compute on it: .+\. Use --device cpu"):
        find_device(name)


@no_cuda
def test_a_broken_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="--device cuda, but torch cannot compute on it"):
        find_device("cuda")
