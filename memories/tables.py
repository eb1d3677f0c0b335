"""Numbers as reports tell them: Markdown tables, and the intervals of a share and of a paired difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose first row is its head."""
    return [f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]]


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """(low, high) of the 95 % interval of a share of `count` facts (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""
    centre, spread = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    return max(0.0, (centre - spread) / (1 + z * z / count)), min(1.0, (centre + spread) / (1 + z * z / count))


def paired_difference(
    first: Sequence[float], second: Sequence[float], resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high) of `second` less `first`, fact by fact, with the 95 % interval of a bootstrap over facts.

    The interval is the percentiles' (Efron 1979, doi 10.1214/aos/1176344552).
    """
    gain = np.asarray(second, float) - np.asarray(first, float)
    drawn = np.random.default_rng(seed).integers(len(gain), size=(resamples, len(gain)))
    low, high = np.percentile(gain[drawn].mean(axis=1), [2.5, 97.5])
    return float(gain.mean()), float(low), float(high)
