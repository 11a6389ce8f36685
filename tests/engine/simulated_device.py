"""A device that is not the host: tensors on it can be computed with, but not read without a wait.

Within `Simulated` the device `meta` holds real tensors (of the host's memory). Whatever makes the
host wait for a GPU is counted: reading an element, a copy to the host that is not `non_blocking`,
shapes that depend on values, and copies to the device from memory that a GPU cannot fetch by
itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("meta")
_READ = ("item", "_local_scalar_dense", "is_nonzero", "equal", "allclose")
_SHAPED_BY_VALUES = ("nonzero", "masked_select", "_unique2", "unique_dim", "repeat_interleave")


class OnDevice(torch.Tensor):
    """A tensor that says that it is on `DEVICE`."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise RuntimeError("a tensor of the simulated device was used outside `Simulated`")


class Simulated(TorchDispatchMode):
    """Counts waits; `waits` names the operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        there = any(isinstance(x, OnDevice) for x in _flat((args, kwargs)))
        wanted = _device(func, args, kwargs)
        if not there and (wanted is None or wanted.type != DEVICE.type):
            return func(*args, **kwargs)
        name = func.overloadpacket._qualified_op_name.split("::")[1]
        self._count(name, wanted, there, args, kwargs)
        out = func(*tree_map(_host, args), **tree_map(_host, kwargs))
        if name in _READ or (wanted is not None and wanted.type == "cpu"):
            return out
        if name in ("copy_", "index_copy_", "add_", "zero_", "fill_", "set_"):
            return args[0]
        return tree_map(lambda x: OnDevice(x) if isinstance(x, torch.Tensor) else x, out)

    def _count(self, name: str, wanted: Any, there: bool, args: Any, kwargs: Any) -> None:
        if name in _READ or name in _SHAPED_BY_VALUES or _masks(name, args):
            self.waits.append(name)
        if name in ("to", "_to_copy") and wanted is not None:
            leaves, arrives = there and wanted.type == "cpu", not there
            blocking = not (kwargs.get("non_blocking") or True in args[2:4])
            if (leaves or arrives) and blocking:
                self.waits.append(f"{name} {'to the host' if leaves else 'to the device'}")
        crosses = name == "copy_" and isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice)
        if crosses and not (kwargs.get("non_blocking") or True in args[2:]):
            self.waits.append("copy_")


def _masks(name: str, args: Any) -> bool:
    """Whether a tensor is indexed by a mask, whose true elements must be counted first."""
    if name not in ("index", "index_put_", "index_put", "_index_put_impl_"):
        return False
    return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])


def _device(func: Any, args: Any, kwargs: Any) -> torch.device | None:
    stated = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.device)]
    return stated[0] if stated else None


def _host(x: Any) -> Any:
    if isinstance(x, OnDevice):
        return x.held
    return torch.device("cpu") if isinstance(x, torch.device) else x


def _flat(tree: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(tree)
