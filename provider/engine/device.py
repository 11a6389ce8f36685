"""Where a model runs and in which precision.

`auto` takes the first of CUDA, Apple's GPU (mps) and the CPU that is there, and the fastest
precision that the device computes natively.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import psutil  # type: ignore[import-untyped]
import torch

from provider.errors import ConfigurationError

DType = Literal["auto", "bf16", "fp16", "fp32"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def resolve_device(name: str = "auto", *, setting: str = "LOCAL_LLM_DEVICE") -> torch.device:
    """The device `name` means here; `ConfigurationError` when this machine has none such."""
    if name == "auto":
        return torch.device(_best())
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"{setting}={name!r} is no device; expected auto, cuda, cuda:N, mps or cpu."
        ) from error
    if not _present(device):
        raise ConfigurationError(
            f"{setting}={name!r} is not on this machine (or torch was installed without it); "
            f"expected one of {', '.join(_names())}; set {setting}=auto."
        )
    return device


def resolve_dtype(name: DType, device: torch.device) -> torch.dtype:
    """The precision `name` means on `device`.

    `auto`: bfloat16 on GPUs with it, and on CPUs with AVX512-BF16 or AMX; float16 on other GPUs and
    on mps; float32 on other CPUs, where anything narrower is emulated and slower.
    """
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        with torch.cuda.device(device):  # it asks for the current one
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices natively."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "bf16"))


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`; on a CPU within its container's limit.

    What torch keeps of freed tensors (a model's loading leaves much) is given back first, since
    CUDA counts it as used.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    return min([available, *_container_room()])


def works(device: torch.device) -> bool:
    """Whether a device still computes. A kernel's error can break CUDA for the whole process."""
    try:
        return float(torch.ones(2, device=device).sum()) == 2
    except RuntimeError:
        return False


def make_current(device: torch.device) -> None:
    """Libraries that ask for the current device in this thread get this one."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def _container_room() -> list[int]:
    limits = [path.read_text().strip() for path in _CGROUP_LIMITS if path.is_file()]
    used = psutil.Process().memory_info().rss
    return [int(limit) - used for limit in limits if limit.isdigit()]


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _present(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"


def _names() -> list[str]:
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["auto", *cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def quiet_libraries() -> None:
    """Silence what libraries say at import and per product and nobody here can act on.

    bitsandbytes warns of kernels that it would fetch from the hub, whether or not it is used.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
