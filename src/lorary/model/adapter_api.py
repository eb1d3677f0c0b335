"""The adapter methods that users of PEFT and transformers know, as far as they hold for a composite.

Those that cannot hold are refused by name; none succeeds without effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from lorary.bank.documents import read_documents
from lorary.bank.facts import Fact, read_facts
from lorary.errors import LoraryError
from lorary.model.requests import Request, current_request
from lorary.routing.policy import named_weights
from lorary.tables import counted

if TYPE_CHECKING:
    from lorary.answering.routed import Answer
    from lorary.bank.memory import Memory


def _holdings(*memories: Memory) -> str:
    """How many facts memories hold, and how many passages where they hold documents."""
    facts, passages = sum(len(m.facts) for m in memories), sum(len(m.documents) for m in memories)
    return f"{counted(facts, 'fact')}, {counted(passages, 'passage')}" if passages else counted(facts, "fact")


def _changes_base(name: str) -> Callable[..., NoReturn]:
    """A method that is refused, because it would change the base that the memories were written on."""

    def refused(*_: Any, **__: Any) -> NoReturn:
        raise LoraryError(
            f"{name} would change the base, and the memories were written on the base as it is; change the base first, "
            "then write or train the memories on it"
        )

    refused.__name__, refused.__doc__ = name, "Refused: it would change the base that the memories were written on."
    return refused


class AdapterApi:
    """What a composite has of PEFT's interface; `modeling.LoraryForCausalLM` takes it in."""

    _standing: tuple[str, ...] | None = None
    """The memories that `set_adapter` chose for all calls; None lets the router decide."""

    def load_adapter(  # type: ignore[override]
        self: Any,
        peft_model_id: str | Path | None = None,
        adapter_name: str | None = None,
        *,
        facts: str | Path | Sequence[Fact] = (),
        documents: str | Path | Sequence[str | Path] = (),
        same_base: bool = False,
        **options: Any,
    ) -> str:
        """Adds a stock PEFT LoRA folder as a memory that is reached at once; returns its name.

        Args:
            peft_model_id: the folder that PEFT saved; None adds documents alone, to the memory of that name or a new one.
            adapter_name: of the memory; the folder's name by default.
            facts: what it holds, as facts or as a JSONL file; without them only `adapter_names=` reaches it.
            documents: Markdown or text files that it holds; one takes the place of one of the same name.
            same_base: the adapter names its base otherwise, but it is this one.

        Raises:
            AdapterError: the folder holds no adapter that a weighted sum can represent, or one for another base.
            DocumentError: a file that is no document.
        """
        if options:
            raise LoraryError(
                f"load_adapter does not take {sorted(options)[0]!r}; it takes a folder, adapter_name, facts, documents, "
                "same_base"
            )
        known = tuple(read_facts(facts)) if isinstance(facts, str | Path) else tuple(facts)
        passages = read_documents([documents] if isinstance(documents, str | Path) else documents)
        encoder = self.router.get_encoder() if known or passages else None
        source = None if peft_model_id is None else Path(peft_model_id)
        memory = self.add_memory(
            source, name=adapter_name, facts=known, documents=passages, encoder=encoder, same_base=same_base
        )
        return memory.name

    def delete_adapter(self: Any, adapter_names: str | Sequence[str]) -> None:  # type: ignore[override]
        """Takes memories out of the composite. Raises BankError for one that it does not hold, before any leaves."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        for name in names:
            self.router.bank[name]
        for name in dict.fromkeys(names):
            self.remove_memory(name)

    def set_adapter(self: Any, adapter_name: str | Sequence[str] | None) -> None:  # type: ignore[override]
        """Lets these memories, each at weight 1, answer all calls that name no route themselves; None gives the choice
        back to the router. It holds for all threads; `routed` holds for one request.

        Raises:
            LoraryError: a name that the bank does not hold.
        """
        names = (adapter_name,) if isinstance(adapter_name, str) else adapter_name
        if names is not None:
            named_weights(names, self.memories)
        self._standing = None if names is None else tuple(names)

    def active_adapters(self: Any) -> list[str]:  # type: ignore[override]
        """The memories that may answer: those that `set_adapter` chose, or all where the router decides."""
        return self.memories if self._standing is None else list(self._standing)

    @contextmanager
    def disable_adapter(self: Any) -> Iterator[None]:
        """Lets the base alone answer inside the block, in this thread or task."""
        with self.routed(adapter_names=["__base__"]):
            yield

    def ask(self: Any, question: Any, **options: Any) -> Answer:
        """The answer to a question, or to a chat that ends with the user's turn; `answering.answers.answer` takes the
        options."""
        from lorary.answering.answers import answer

        return answer(self, question, **options)

    def push_to_hub(self: Any, repo_id: str, **options: Any) -> str | None:
        """Uploads the composite with its card; `saving.push_composite` takes the options, transformers' own among them."""
        from lorary.model.saving import push_composite

        return push_composite(self, repo_id, **options)

    def summary(self: Any) -> str:
        """What the composite holds, in a few lines for people."""
        bank, policy = self.router.bank, self.router.policy
        lines = [
            f"composite of {counted(len(bank), 'memory')} ({_holdings(*bank)}) over {bank.base}",
            f"gate: reads {', '.join(self.gate.features)}; decides once a {self.config.granularity}",
            f"policy: {policy}",
            f"encoder: {bank.encoder}; no memory adapts a layer below {self.config.split_layer}",
        ]
        return "\n".join([*lines, *(f"  {memory.name}: {_holdings(memory)}" for memory in bank)])

    def request(self: Any, **ways: Any) -> Request:
        """What a call asks: what it is given itself, else what `routed` says around it, else what `set_adapter` chose."""
        request = Request(self, **ways).over(current_request(self))
        if self._standing is None or request.by_caller or request.routing_text is not None:
            return request
        weights = named_weights(self._standing, self.memories).sum(0, keepdim=True) if self._standing else None
        if weights is None:
            weights = torch.zeros(1, len(self.memories))
        return Request(self, route_weights=weights, policy=request.policy, whole=request.whole, plan=request.plan)

    def add_adapter(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a composite trains no adapter."""
        raise LoraryError(
            "a composite cannot train a new adapter (add_adapter); train it with PEFT on the base, or with lorary.build, "
            "and add its folder by load_adapter"
        )

    def disable_adapters(self) -> NoReturn:
        """Refused: it would hold for every thread."""
        raise LoraryError("disable_adapters does not hold here; use `with model.disable_adapter():` around the calls")

    def enable_adapters(self) -> NoReturn:
        """Refused, as nothing is ever disabled."""
        raise LoraryError(
            "enable_adapters does not hold here, because memories are never disabled; use set_adapter(None)"
        )

    def get_adapter_state_dict(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: the bank holds the adapters."""
        raise LoraryError(
            "get_adapter_state_dict does not hold here; model.router.bank[NAME].tensors are a memory's tensors, and every "
            "memory in a saved composite is a stock PEFT folder"
        )

    def enable_peft_hotswap(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: memories join and leave without it."""
        raise LoraryError(
            "enable_peft_hotswap does not hold here; memories join by load_adapter, leave by delete_adapter"
        )

    resize_token_embeddings = _changes_base("resize_token_embeddings")
    set_input_embeddings = _changes_base("set_input_embeddings")
    set_output_embeddings = _changes_base("set_output_embeddings")
    set_decoder = _changes_base("set_decoder")
