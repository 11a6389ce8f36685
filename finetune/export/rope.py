"""Rotary embeddings as llama.cpp wants them: a base, a scaling type and factors per frequency."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider.errors import ConfigurationError

_KNOWN = ("default", "llama3", "linear", "yarn")


@dataclass(frozen=True)
class Rope:
    """`factors` divide the frequencies one by one (tensor `rope_freqs.weight`); `factor` and
    `original_context` belong to the scaling of type `kind` (linear, yarn)."""

    theta: float
    kind: str | None = None
    factor: float = 1.0
    original_context: int | None = None
    factors: NDArray[np.float32] | None = None


def read_rope(stated: Mapping[str, Any], dimensions: int) -> Rope:
    """From a config's `rope_parameters`; `dimensions` are those of one head.

    `ConfigurationError` for a kind of scaling that llama.cpp has no equal of.
    """
    kind = stated.get("rope_type") or stated.get("type") or "default"
    if kind not in _KNOWN or stated.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConfigurationError(
            f"config.json has rope scaling {dict(stated)}; expected one of {', '.join(_KNOWN)} "
            "over whole heads; serve this model in the format that it is in."
        )
    theta = float(stated["rope_theta"])
    if kind == "default":
        return Rope(theta)
    if kind == "llama3":
        return Rope(theta, factors=llama3_factors(stated, theta, dimensions))
    original = stated.get("original_max_position_embeddings")
    return Rope(theta, kind, float(stated["factor"]), original)


def llama3_factors(stated: Mapping[str, Any], theta: float, dimensions: int) -> NDArray[np.float32]:
    """What each of the `dimensions / 2` frequencies is divided by: 1 for short wavelengths, the
    factor for long ones, and a blend between (Llama 3.1's rule, which EXAONE-3.5 uses)."""
    factor, original = float(stated["factor"]), float(stated["original_max_position_embeddings"])
    low, high = float(stated["low_freq_factor"]), float(stated["high_freq_factor"])
    found = []
    for index in range(dimensions // 2):
        wavelength = 2 * math.pi * theta ** (2 * index / dimensions)
        if wavelength < original / high:
            found.append(1.0)
        elif wavelength > original / low:
            found.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            found.append(1.0 / ((1.0 - smooth) / factor + smooth))
    return np.array(found, dtype=np.float32)
