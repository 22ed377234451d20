"""Finding out whether torch can compute on a device, before any work depends on it."""

import torch

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name

_USUAL = ("cpu", "cuda", "mps", "xpu")


def find_device(name: str) -> torch.device:
    """Returns the device that the user named with --device.

    Args:
        name: cpu, cuda, cuda:N for one of several, or another kind of device that this PyTorch was built for.

    Raises:
        ConfigError: there is no such kind of device, there is none here, or torch cannot compute on it.

    >>> find_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown_name("--device", name, _USUAL) from None
    if device.type == "cuda":
        _require_cuda(device, name)
    try:
        (torch.ones(1, device=device) + 1).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # no such backend, not compiled in, no such module
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise ConfigError(f"--device {name}, but torch cannot compute on it: {reason}. Use --device cpu.") from error
    return device


def device_name(device: torch.device) -> str:
    """Returns how a record of a measurement names a device: the model of the card, if it is one.

    >>> device_name(torch.device("cpu"))
    'cpu'
    """
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _require_cuda(device: torch.device, name: str) -> None:
    if not torch.cuda.is_available():
        raise ConfigError(
            f"--device {name}, but torch sees no CUDA device. Use --device cpu, or install a CUDA build of torch."
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise ConfigError(
            f"--device {name}, but torch counts {count} of them, beginning with cuda:0. Use --device cuda:{count - 1}."
        )
