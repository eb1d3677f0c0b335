"""The plan of a build: what it takes on this machine if it has no other work, and how many passes fit into minutes of now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from lorary.bank.facts import Fact
from lorary.base.loading import Base
from lorary.errors import LoraryError
from lorary.memories.groups import side_by_side
from lorary.memories.recipe import Recipe
from lorary.memories.work import Speed, Work, bytes_of, counted_minutes, seconds_of, speed_of, tell_work, work_of
from lorary.tables import counted

Memories = Sequence[Sequence[Fact]]
"""The facts of each memory, as they are trained on."""


class BudgetError(LoraryError):
    """Minutes within which nothing can be written: says how many would do."""


class Planner:
    """Plans builds over a loaded base; it measures the machine once, when it is first asked.

    Args:
        processes: that write side by side, as `build` takes it.
        loading: seconds that the base took to load, as each of several processes will do again.
    """

    def __init__(self, base: Base, recipe: Recipe, split_layer: int, processes: int | None, loading: float) -> None:
        self.base, self.recipe, self.split_layer = base, recipe, split_layer
        self.processes, self.loading = processes, loading
        self._sample: Memories = ()

    @cached_property
    def speed(self) -> Speed:
        """Of this machine, with as many memories at once as the recipe wants."""
        return speed_of(self.base, self._sample, self.recipe, self.split_layer)

    def seconds(self, memories: Memories, recipe: Recipe) -> tuple[float, list[Work]]:
        """(seconds that writing takes, what each group takes)."""
        self._sample = self._sample or memories[: recipe.memories_at_once]
        size = recipe.memories_at_once
        groups = [work_of(self.base, memories[i : i + size], recipe) for i in range(0, len(memories), size)]
        processes = side_by_side(len(groups), self.processes, self.base.model.device)
        return seconds_of(groups, self.speed, processes, self.loading), groups

    def within(self, minutes: float, memories: Memories) -> Recipe:
        """The recipe with as many of its passes as fit into so many minutes, if the machine stays as busy as it is.

        Raises:
            BudgetError: two passes do not fit.
        """
        recipe, needs = self.recipe, math.inf
        least = min(2, recipe.max_epochs)
        for passes in range(recipe.max_epochs, least - 1, -1):
            fewer = replace(recipe, max_epochs=passes)
            needs = self.seconds(memories, fewer)[0] * self.speed.waiting / 60
            if needs <= minutes:
                return fewer
        raise BudgetError(
            f"--budget {minutes:g} is too short for these facts: {counted(least, 'pass')} over them take about "
            f"{counted_minutes(needs)} here; give {math.ceil(11 * needs) / 10:g} minutes or more, or fewer facts"
        )

    def plan(self, memories: Memories, recipe: Recipe) -> str:
        """What writing these memories takes, in a line."""
        seconds, groups = self.seconds(memories, recipe)
        size = bytes_of(self.base, memories, recipe, self.split_layer)
        return tell_work(groups, size, seconds, recipe.max_epochs, self.speed)
