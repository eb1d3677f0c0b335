"""Batch: the rows that are written at once. Rows join with one pass over their prompts, and leave when they are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import DynamicCache

from lorary.base.layers import decoder_layers
from lorary.base.prompts import padded
from lorary.base.rows import positions
from lorary.model.active_route import apply_route
from lorary.model.mixture import lay, mixtures
from lorary.model.modeling import LoraryForCausalLM
from lorary.serving.job import Row
from lorary.serving.prefixes import Prefix, Prefixes, begun
from lorary.serving.row_route import RowRoute, RowRoutes
from lorary.serving.sampling import Token, choose
from lorary.serving.slots import Slots


def next_rows(waiting: deque[Row], room: int, tokens: int) -> list[Row]:
    """The rows that are read in the next pass, of at most so many tokens with padding; they wait no longer."""
    rows: list[Row] = []
    while waiting and len(rows) < room:
        widest = max(len(row.job.ids) for row in (*rows, waiting[0]))
        if rows and widest * (len(rows) + 1) > tokens:
            break
        rows.append(waiting.popleft())
    return rows


class Batch:
    """The rows that a composite writes at once, each under its own route.

    Args:
        most: rows at once.
        prefixes: what was read of conversations before; rows that go on from them read the rest alone.
    """

    def __init__(self, model: LoraryForCausalLM, most: int, prefixes: Prefixes) -> None:
        self.model, self.most, self.prefixes = model, most, prefixes
        self.rows: list[Row] = []
        self._slots = Slots(most, len(decoder_layers(model.base)))
        self._routes = RowRoutes(most)
        self._base, self._paths = model.base, set[str]()

    @property
    def room(self) -> int:
        """Rows that may join."""
        return self.most - len(self.rows)

    @torch.inference_mode()
    def join(self, rows: Sequence[Row]) -> list[Token]:
        """The first token of each of the rows, which then belong to the batch.

        Rows of whose prompt a prefix is known are read one by one, all others together.

        Raises:
            Exception: what the base raises; who asked lets all rows go (`clear`).
        """
        split = self.model.config.split_layer
        known = {row: found for row in rows if (found := self.prefixes.longest(row.job.ids, split)) is not None}
        others = [row for row in rows if row not in known]
        tokens = dict(zip(others, self._read(others), strict=True)) if others else {}
        for row, found in known.items():
            tokens[row] = self._read([row], found)[0]
        return [tokens[row] for row in rows]

    def _read(self, rows: Sequence[Row], start: tuple[Prefix, int] | None = None) -> list[Token]:
        """The first token of rows, whose prompts are read in one pass; of one row, from where a prefix ends."""
        first = len(self.rows)
        for place, row in enumerate(rows, first):
            self._routes.write(place, row.job.shares)
        self._keep_mixtures()
        route, count = self._routes.of(first, first + len(rows)), 0
        made = DynamicCache()
        if start is not None:
            prefix, count = start
            made = begun(self.model, prefix, count, rows[0].job.shares, route)
            rows[0].read = [prefix.hidden[:count]]
        rest = padded(self.model.tokenizer, [row.job.ids[count:] for row in rows], "left").to(self.model.device)
        mask = functional.pad(rest.attention_mask, (count, 0), value=1)
        with apply_route(route):
            output = self.model.base(
                input_ids=rest.input_ids,
                attention_mask=mask,
                position_ids=positions(mask)[:, count:],
                past_key_values=made,
                use_cache=True,
                logits_to_keep=1,
            )
        tokens = self._chosen(rows, output.logits[:, -1])
        for row, hidden in zip(rows, self._hidden(route, rows), strict=True):
            row.read.append(hidden[len(hidden) - len(row.job.ids) + count :])
        self._slots.join(made, [len(row.job.ids) for row in rows])
        self.rows += rows
        return tokens

    def _hidden(self, route: RowRoute, rows: Sequence[Row]) -> list[Tensor]:
        """What entered the split, of each row; nothing where no prefix is kept."""
        assert route.hidden is not None, "the base has run"
        hidden, route.hidden = route.hidden, None
        return [*hidden] if self.prefixes.most else [hidden[0, :0]] * len(rows)

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """The next token of each row."""
        self._keep_mixtures()
        device = self.model.device
        latest = torch.tensor([[row.answer[-1]] for row in self.rows], device=device)
        route = self._routes.of(0, len(self.rows))
        with apply_route(route):
            output = self.model.base(
                input_ids=latest,
                attention_mask=self._slots.mask().to(device),
                position_ids=self._slots.positions().to(device),
                past_key_values=self._slots,
                use_cache=True,
                logits_to_keep=1,
            )
        self._slots.step()
        for row, hidden in zip(self.rows, self._hidden(route, self.rows), strict=True):
            row.read.append(hidden)
        return self._chosen(self.rows, output.logits[:, -1])

    @torch.inference_mode()
    def leave(self, row: Row) -> None:
        """Lets a row go, of which a prefix is kept; the last one takes its place."""
        place = self.rows.index(row)
        tokens = [*row.job.ids, *row.answer[:-1]]  # the last one was written, and not read
        if row.keeps and self.prefixes.wants(len(tokens)):
            split, hidden = self.model.config.split_layer, torch.cat(row.read)
            self.prefixes.keep(Prefix(tokens, split, row.job.shares, self._slots.row(place), hidden))
        self._slots.leave(place)
        last = self.rows.pop()
        if last is not row:
            self.rows[place] = last
            self._routes.copy(place, len(self.rows))
        if not row.keeps and all(other.keeps for other in self.rows):
            self._wipe()

    @torch.inference_mode()
    def forget(self, waiting: Iterable[Row]) -> None:
        """Lets go of what was read before, because a memory was forgotten. The rows in progress, and those that wait, end as they
        began, and nothing of them is kept."""
        self.prefixes.forget()
        for row in (*self.rows, *waiting):
            row.keeps = False
        self._wipe()

    def _wipe(self) -> None:
        """Clears what rows that have left stand in."""
        for place in range(len(self.rows), self.most):
            self._routes.write(place, ())
        self._slots.wipe()

    def _keep_mixtures(self) -> None:
        """Puts mixtures where rows apply a memory that has left the bank since, and with it the mixtures that were its alone."""
        if self._base is not self.model.base or self._paths != self._routes.paths:
            self._base, self._paths = self.model.base, self._routes.paths
            lay(self._base, self._paths - {*mixtures(self._base)})

    def clear(self) -> None:
        """Lets all rows go, and all that they held."""
        self.__init__(self.model, self.most, self.prefixes)  # type: ignore[misc]

    def _chosen(self, rows: Sequence[Row], logits: Float[Tensor, "rows vocabulary"]) -> list[Token]:
        settings = [row.job.sampling for row in rows]
        return choose(logits, settings, [row.generator for row in rows], [row.answer for row in rows])
