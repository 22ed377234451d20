"""The process that measures: it says what the machine is, and then one entry after the other, each on a line of JSON.

Libraries may crash it, hang, or write where they like; so the entries leave by a descriptor of their own, and `suite` goes on
with another process.
"""

import contextlib
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import IO

from arpo_envs import ConfigError

from ...cli.results import Value
from ...metrics import as_json
from .measures import MEASURES, Broken, Measure, Numbers, Setting, Skipped

OURS = ("algorithms", "arpo_envs", "wrappers")
PACKAGES = ("torch", "transformers", "triton", "vllm")
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # see `transfer_sync`; nothing here listens to others
}


def main(arguments: Sequence[str]) -> None:
    """Measures what the arguments name, after a setting in JSON, and writes to standard output."""
    entries = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.update(_ENVIRONMENT)
    measures = {one.name: one for one in MEASURES}
    with entries:
        measure_all(alone(Setting(**json.loads(arguments[0]))), [measures[name] for name in arguments[1:]], entries)


def alone(setting: Setting) -> Setting:
    """Makes one of several GPUs the only one that this process and its engines see, as vLLM always takes the first."""
    kind, _, number = setting.device.partition(":")
    if kind != "cuda" or not number.isdecimal():
        return setting
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(number)] if int(number) < len(visible) else number
    return replace(setting, device="cuda")


def measure_all(setting: Setting, measures: Sequence[Measure], entries: IO[str]) -> None:
    """Writes what the machine is, and an entry for each measure as soon as it is there."""

    def write(line: Numbers) -> None:
        entries.write(json.dumps(as_json(line), allow_nan=False) + "\n")
        entries.flush()

    facts = machine(setting)
    write(facts)
    if "absent" not in facts:
        for measure in measures:
            write(entry(measure, setting))
            _tidy()


def machine(setting: Setting) -> Numbers:
    """Returns what is measured on; under "absent", why nothing can be."""
    found: Numbers = {"python": sys.version.split()[0], **{name: _version(name) for name in PACKAGES}}
    try:
        from ...models.devices import device_name, find_device

        device = find_device(setting.device)
    except ConfigError as error:
        return found | {"absent": str(error)}
    except ModuleNotFoundError as error:
        return found | {"absent": f"{error.name} is not installed"}
    return found | {"device": device_name(device), "processors": os.cpu_count()} | _card(setting.device)


def _card(device: str) -> Numbers:
    if not device.startswith("cuda"):
        return {}
    import torch

    return {"device_gigabytes": torch.cuda.get_device_properties(device).total_memory / 2**30, "cuda": torch.version.cuda}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def entry(measure: Measure, setting: Setting) -> Numbers:
    """Returns the entry of a measure: its outcome and seconds, a reason unless it was measured, and its numbers.

    An exception that nobody expected is an outcome as well: "failed".
    """
    began = time.monotonic()
    numbers: Numbers = {}
    outcome, reason = "measured", ""
    try:
        numbers = measure.run(setting)
    except Skipped as error:
        outcome, reason = "skipped", str(error)
    except Broken as error:
        outcome, reason, numbers = "broken", str(error), error.numbers
    except Exception as error:  # noqa: BLE001  # whatever a library raises must not cost the other measures
        outcome, reason = _explained(error)
        if outcome == "failed":
            traceback.print_exc()
    found: Numbers = {"outcome": outcome, "seconds": round(time.monotonic() - began, 1)}
    return found | ({"reason": reason} if reason else {}) | {name: _short(value) for name, value in numbers.items()}


def _explained(error: Exception) -> tuple[str, str]:
    """Returns outcome and reason."""
    if (missing := _missing(error)) and missing.partition(".")[0] not in OURS:
        return "skipped", f"{missing} is not installed"
    said = f"{type(error).__name__}: {error}".partition("\n")[0]
    if type(error).__name__ == "OutOfMemoryError":  # torch's
        return "skipped", f"too little memory on the device: {said}"
    return "failed", said


def _missing(error: BaseException | None) -> str:
    """Returns which module an error is about, "" if about none; transformers hides the name in what its error came from."""
    if not isinstance(error, ImportError):
        return ""
    named = error.name if isinstance(error, ModuleNotFoundError) else None
    return named or _missing(error.__cause__ or error.__context__)


def _short(value: Value) -> Value:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _tidy() -> None:
    """Gives the device's memory back before the next measure, and forgets what was compiled."""
    gc.collect()
    if "torch" in sys.modules:
        import torch

        with contextlib.suppress(RuntimeError):  # a broken context: the next measure says so
            torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:  # a function is compiled for a few shapes only, and then no more
        torch.compiler.reset()


if __name__ == "__main__":
    main(sys.argv[1:])
