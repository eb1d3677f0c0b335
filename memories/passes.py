"""What one pass over the rows shows: which texts of each fact, in which batches."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from lorary.memories.recipe import Recipe
from lorary.memories.rows import Store

_FEWEST = 96
"""Texts of a memory that a pass shows at least, if it has them: of few facts twelve each would be too few steps to learn by."""
CERTAIN = 0.9
"""The least probability of a row's tokens from which on it is visited one time in four."""


def batches_of_pass(
    store: Store,
    recipe: Recipe,
    order: random.Random,
    wanted: Sequence[int],
    sure: Mapping[int, float],
    epoch: int,
) -> list[list[int]]:
    """The batches of one pass over the rows in `wanted`: the next texts of each fact, or each fact `visits` times.

    Rounds of visits show each fact once, under the next of its texts, so the number of texts changes neither how often
    a fact is shown, nor the steps, nor what a batch holds.

    Args:
        wanted: the rows, by number.
        sure: row → the least probability that one of its tokens had when it was last shown.
        epoch: the number of the pass, from 1.
    """
    by_fact: dict[tuple[int, int], list[int]] = {}
    for i in wanted:
        by_fact.setdefault((store.rows[i].memory, store.rows[i].fact), []).append(i)
    texts = list(by_fact.values())
    if recipe.visits is None:
        facts = Counter(memory for memory, _ in by_fact)
        most = [most_texts(recipe, facts[memory]) for memory, _ in by_fact]
        turn = sorted(i for fact, own in enumerate(texts) for i in _next(own, most[fact], epoch, fact))
        # A row whose every token is already certain teaches little: it is visited one time in four.
        rounds = [[i for i in turn if sure.get(i, 0.0) < CERTAIN or order.random() < 0.25]]
    else:
        # Facts start at different texts, so that where visits do not divide evenly no kind of text goes short.
        numbers = range((epoch - 1) * recipe.visits, epoch * recipe.visits)
        rounds = [[own[(n + fact) % len(own)] for fact, own in enumerate(texts)] for n in numbers]
    size = rows_a_step(recipe, sum(map(len, rounds)))
    return [chunk for shown in rounds for chunk in store.batches(shown, size, order)]


def rows_a_step(recipe: Recipe, rows: int) -> int:
    """The rows of a step where a pass shows so many: small sets take smaller steps, 30 a pass.

    Four sample topics at once recall 0.78 of their validation wordings by steps of 8 rows, and 0.74 by steps of 16; one alone
    0.75 by steps of 8, and 0.53 by steps of 15.
    """
    return min(recipe.batch_size, max(1, rows // 30))


def most_texts(recipe: Recipe, facts: int) -> int | None:
    """The texts of a fact that a pass shows at most, where its memory holds so many facts; None for all."""
    return None if recipe.texts_a_pass is None else max(recipe.texts_a_pass, _FEWEST // facts)


def _next(texts: Sequence[int], most: int | None, epoch: int, fact: int) -> Sequence[int]:
    """The texts of a fact that a pass shows, where it shows at most so many; facts start at different ones."""
    if most is None or most >= len(texts):
        return texts
    return [texts[(fact + (epoch - 1) * most + n) % len(texts)] for n in range(most)]
