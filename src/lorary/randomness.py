"""Random numbers of one's own: a seed for a block of code that leaves the caller's random states as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, NumPy's and torch's random numbers follow `seed` in the block; the caller's go on after it as before.

    Libraries seed a process once and for all, which would make a program that calls them draw the same numbers each time.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, legacy = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng(devices=devices):
        try:
            random.seed(seed)
            numpy.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(legacy)
