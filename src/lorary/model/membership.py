"""Membership: how memories join and leave a composite, each at its own cost, not at the cost of all that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from lorary.bank.memory import Memory
from lorary.base.layers import bare_twin, decoder_layers, twin, unhook
from lorary.model.factors import BankFactors
from lorary.model.mixture import lay, mixtures, take_up
from lorary.model.planning import decide_at_split
from lorary.model.streams import widen
from lorary.model.trained_factors import hold_factors, release_factors, trained_layers


class Membership:
    """What a composite does when its bank changes; `modeling.LoraryForCausalLM` takes it in."""

    _left: Mapping[str, int] = MappingProxyType({})
    """How often a memory of each name has left."""

    @property
    def versions(self: Any) -> tuple[int, ...]:
        """For each memory, how many of its name have left before it: what tells it from those."""
        if not self._left:
            return (0,) * len(self.router.bank)
        return tuple(self._left.get(name, 0) for name in self.memories)

    def add_memory(self: Any, source: Memory | str | Path | None = None, **options: Any) -> Memory:
        """Adds a memory, a stock PEFT LoRA folder or documents, reached at once; nothing is trained.

        Args:
            options: what `MemoryBank.add` takes.
        """
        with self._frozen():
            bank = self.router.bank
            before = dict(bank.memories)
            memory = bank.add(source, **options)
            old = before.get(memory.name)
            if old is not None and _differ_in_documents_alone(memory, old):
                self.router.add_passages(memory)
                return memory
            try:
                if old is not None:
                    self._replace(memory, old, list(before).index(memory.name))
                self.router.add(memory)
            except Exception:  # no encoder, for one: all is as it was
                bank.memories.clear()
                bank.memories.update(before)
                raise
            self._join(memory)
        return memory

    def _replace(self: Any, memory: Memory, old: Memory, number: int) -> None:
        """Takes out the earlier memory of a name, which stood as `number`; its successor in the bank stands last."""
        if "asked" in self.gate.features:
            self.router.get_encoder()  # what may fail fails before anything leaves
            self.router.names  # noqa: B018
        self.router.bank.memories[memory.name] = self.router.bank.memories.pop(memory.name)
        self.router.remove(memory.name, number)
        self._leave(old)

    def remove_memory(self: Any, name: str) -> None:
        """Takes a memory out of the bank, the gate and the index, and out of what `set_adapter` chose; where nothing of
        that is left, the router chooses."""
        self.router.bank[name]  # an unknown one is told before anything is made anew
        with self._frozen():
            number = self.memories.index(name)
            memory = self.router.bank.remove(name)
            self.router.remove(name, number)
            self._leave(memory)
        if self._standing is not None and name in self._standing:
            self._standing = tuple(other for other in self._standing if other != name) or None

    def put_back(self: Any, memories: Mapping[str, Memory], gate: Mapping[str, Tensor]) -> None:
        """Makes the bank what it was before a change that could not be written.

        Args:
            memories: the bank's, by name and in order.
            gate: what the gate's `state_dict` was; its keys stand for these memories.
        """
        now = self.router.bank.memories
        for name in [name for name, memory in now.items() if memories.get(name) is not memory]:
            self.remove_memory(name)
        for memory in memories.values():
            if memory.name not in now:
                self.add_memory(memory)
        self.gate.keep(torch.tensor([self.memories.index(name) for name in memories], dtype=torch.long))
        self.router.bank.memories = dict(memories)
        self.gate.load_state_dict(gate)
        self._draw_factors()

    def named_parameters(
        self: Any, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters, those of the memories' factors last. Who walks so far has them made (`unfreeze_memories`), since a
        training loop that finds its parameters so must not miss them."""
        seen = set[str]()
        for name, parameter in super().named_parameters(prefix, recurse, remove_duplicate):  # type: ignore[misc]
            seen.add(name)
            yield name, parameter
        if recurse and "router" in self.__dict__ and len(self.router.bank) and not trained_layers(self):
            self.unfreeze_memories()
            every = super().named_parameters(prefix, recurse, remove_duplicate)  # type: ignore[misc]
            yield from ((name, parameter) for name, parameter in every if name not in seen)

    def unfreeze_memories(self: Any) -> None:
        """Makes parameters of the factors of all memories (`…down`, `…up`), for any optimizer; none has a gradient yet.

        They take as much memory as the whole bank, whatever the budget. `save_pretrained` writes what was trained, and
        memories may join and leave meanwhile, which makes new parameters.
        """
        hold_factors(self, trained_layers(self))

    def freeze_memories(self: Any) -> None:
        """Takes what was trained into the bank, and lets the layers read it from there again."""
        if trained_layers(self):
            release_factors(self)

    @contextmanager
    def _frozen(self: Any) -> Iterator[None]:
        """Takes what was trained into the bank while that changes."""
        if not (trained := trained_layers(self)):
            yield
            return
        release_factors(self)
        try:
            yield
        finally:
            hold_factors(self, trained)

    def __setstate__(self: Any, state: dict[str, Any]) -> None:
        """A copy, also in another process, draws from its own bank into its own cache of factors."""
        super().__setstate__(state)  # type: ignore[misc]
        self._draw_factors()

    def _install(self: Any) -> None:
        """Makes module objects of its own for the whole bank."""
        bank, base = self.router.bank, bare_twin(self.base)
        lay(base, bank.paths)
        self.base = base
        self._draw_factors()
        if len(bank):
            self.config.split_layer = min(self.config.split_layer, bank.split_layer)
        self._decide_at_split()

    def _draw_factors(self: Any) -> None:
        """Lets the layers draw from the bank as it stands now; a pass that runs meanwhile has drawn what it needs."""
        bank, layers = self.router.bank, mixtures(self.base)
        linears = {path: layer.base_layer for path, layer in layers.items()}
        in_layers = any(layer.holds_factors for layer in layers.values())
        self.factors = BankFactors(list(bank), bank.shapes, linears, self.factor_cache, in_layers)
        for layer in layers.values():
            layer.source = self.factors

    def _join(self: Any, memory: Memory) -> None:
        """Lets the bank's last memory act; it costs what that memory costs, not what the bank does."""
        bank = self.router.bank
        lay(self.base, {*memory.paths} - {*mixtures(self.base)})
        self._draw_factors()
        lowest = memory.split_layer(bank.layers_path)
        if lowest < self.config.split_layer:
            self.config.split_layer = lowest
            self._decide_at_split()

    def _leave(self: Any, memory: Memory) -> None:
        """Lets a memory that has left the bank act no longer; a pass that runs meanwhile ends as it began."""
        left = {*memory.paths} - self.router.bank.paths
        if left:
            base = twin(self.base)
            take_up(base, left)
            self.base = base
        self._draw_factors()
        self.factor_cache.drop(memory)
        self._left = {**self._left, memory.name: self._left.get(memory.name, 0) + 1}

    def _decide_at_split(self: Any) -> None:
        layers = decoder_layers(self.base)
        unhook(layers)
        layers[self.config.split_layer].register_forward_pre_hook(decide_at_split, with_kwargs=True)
        for layer in layers[self.config.split_layer :]:
            layer.register_forward_pre_hook(widen, with_kwargs=True)


def _differ_in_documents_alone(memory: Memory, other: Memory) -> bool:
    adapters = memory.tensors is other.tensors and memory.adapter_config == other.adapter_config
    return adapters and (memory.facts, memory.key_facts) == (other.facts, other.key_facts)
