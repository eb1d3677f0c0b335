"""What can be evaluated: a composite, a bank, or a folder of stock PEFT adapters; the last two have no trained gate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from lorary.bank.adapters import CONFIG, WEIGHTS, read_adapter
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import read_facts
from lorary.bank.files import MANIFEST, BankError
from lorary.base.layers import block_linears, fingerprint, layers_path
from lorary.base.loading import Base, load_base
from lorary.base.quantising import dtype_for
from lorary.eval.conditions import CONDITIONS, Condition, ConditionError
from lorary.eval.meanings import EACH, FIRST
from lorary.model.composite import assemble, load_composite
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.saved import is_composite
from lorary.routing.encoder import EMBEDDED, load_encoder

_FACTS = "facts.jsonl"
"""Beside an adapter: what it holds, to route by and to find passages in."""
_OF_COMPOSITE = (MANIFEST, "model.safetensors", "config.json")
"""What decides a composite's answers: its bank, gate and config."""
_WITHOUT_GATE = ("base", "lookup", "oracle", "uniform", "shuffled", "merged-exact", EACH)
"""The conditions that adapters alone offer: what is run by default where no gate was trained."""


@dataclass(frozen=True)
class Evaluated:
    """A model to ask.

    Args:
        name: as it was given.
        sha256: hex, of the files that decide its answers; None for a model in memory, whose run cannot be resumed.
        gated: whether it has a trained gate.
    """

    model: LoraryForCausalLM
    name: str
    sha256: str | None
    gated: bool

    @property
    def first(self) -> tuple[str, ...]:
        """The conditions that are run by default: without facts or calibrated sources, those that need none."""
        names = FIRST if self.gated else _WITHOUT_GATE
        return tuple(name for name in names if name == EACH or self._can_run(CONDITIONS[name]))

    def _can_run(self, condition: Condition) -> bool:
        has_sources = bool(self.model.config.sources) or not condition.decider.needs_sources
        return has_sources and (self.has_facts or not condition.needs_facts)

    @property
    def has_facts(self) -> bool:
        """Whether a memory holds facts to find it by."""
        return any(memory.facts for memory in self.bank)

    def check(self, conditions: Mapping[str, Condition]) -> None:
        """Raises ConditionError for a condition whose router it does not have, before anything is asked."""
        ungated = [*(name for name, condition in CONDITIONS.items() if not condition.decider.needs_gate), EACH]
        for name, condition in conditions.items():
            if condition.decider.needs_gate and not self.gated:
                raise ConditionError(
                    f"condition {name!r} needs a trained gate, and {self.name} has none; leave it out, or give a "
                    f"composite that `lorary train-router` wrote; without a gate there are {', '.join(ungated)}"
                )
            if condition.decider.needs_sources and not self.model.config.sources:
                raise ConditionError(
                    f"condition {name!r} needs calibrated sources, and {self.name} has none; leave it out, or train its "
                    "router again with `lorary train-router`"
                )
            if condition.needs_facts and not self.has_facts:
                raise ConditionError(
                    f"condition {name!r} needs facts to find memories by, and {self.name} holds none; leave it out, or put "
                    f"{_FACTS} beside each adapter"
                )

    @property
    def bank(self) -> MemoryBank:
        """The memories."""
        return self.model.router.bank


def open_evaluated(
    source: str | Path | LoraryForCausalLM,
    base: str | None = None,
    dtype: str | None = None,
    quantization_config: str | None = None,
) -> Evaluated:
    """The model to ask, of a composite (a folder, a hub repository or in memory), a bank, or a folder of PEFT adapters.

    A folder of adapters holds a folder for each, whose name is the topic; nothing is written into it.

    Args:
        dtype, quantization_config: of the base, as `load_composite` takes them.
        base: another name for the base; adapters are taken for it whatever base they name (shapes are checked).

    Raises:
        BankError: a folder that is none of these, or adapters that name no base; AdapterError: one that cannot be used.
    """
    if isinstance(source, LoraryForCausalLM):
        return Evaluated(source, "the model", None, True)
    place = Path(source)
    if is_composite(place) or not os.path.isdir(place):
        model = load_composite(source, base=base, dtype=dtype, quantization_config=quantization_config)
        return Evaluated(model, str(source), _hash(place, _OF_COMPOSITE) if os.path.isdir(place) else None, True)
    if (place / MANIFEST).is_file():
        bank = MemoryBank.load(place)
        loaded = load_base(base or bank.base, revision=bank.revision, dtype=dtype_for(quantization_config, dtype))
        return _ungated(bank, loaded, place, (MANIFEST,), quantization_config)
    adapters = sorted(file.parent for file in place.glob(f"*/{CONFIG}"))
    if not adapters:
        raise BankError(
            f"{place} holds no composite, no bank and no folder of a PEFT adapter; give what `lorary train-router` or "
            "`lorary build` wrote, or a folder of folders that PEFT saved"
        )
    loaded = load_base(base or _named_base(adapters), dtype=dtype_for(quantization_config, dtype))
    files = [str(f.relative_to(place)) for a in adapters for f in (a / CONFIG, a / WEIGHTS, a / _FACTS) if f.exists()]
    bank = _bank_of(adapters, loaded, same_base=base is not None)
    return _ungated(bank, loaded, place, files, quantization_config)


def _ungated(
    bank: MemoryBank, base: Base, place: Path, files: tuple[str, ...] | list[str], quantization_config: str | None
) -> Evaluated:
    # The memories are the bank's whatever its base is called here; its weights are checked all the same.
    named = Base(bank.base, bank.revision, base.model, base.tokenizer)
    model = assemble(bank, named, quantization_config=quantization_config)
    return Evaluated(model, str(place), _hash(place, files), False)


def _bank_of(adapters: list[Path], base: Base, *, same_base: bool) -> MemoryBank:
    """A bank in memory of stock adapters."""
    model = base.model
    bank = MemoryBank(
        base.name, fingerprint(model), EMBEDDED, block_linears(model), layers_path(model), revision=base.revision
    )
    for folder in adapters:
        stored = read_facts(folder / _FACTS) if (folder / _FACTS).is_file() else ()
        facts = tuple(replace(fact, topic=folder.name) for fact in stored)
        bank.add(folder, facts=facts, encoder=load_encoder(EMBEDDED) if facts else None, same_base=same_base)
    return bank


def _named_base(adapters: list[Path]) -> str:
    """The base that the adapters name. Raises BankError where they name none, or several."""
    named = {str(read_adapter(folder)[0].get("base_model_name_or_path") or "") for folder in adapters}
    if len(named) > 1 or named == {""}:
        raise BankError(f"the adapters in {adapters[0].parent} name the bases {sorted(named)}; give --base")
    return named.pop()


def _hash(place: Path, files: tuple[str, ...] | list[str]) -> str:
    """Hex sha256 over the files, in order."""
    digest = sha256()
    for name in files:
        digest.update((place / name).read_bytes())
    return digest.hexdigest()
