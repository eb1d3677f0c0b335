"""Memory: one topic's adapter with its facts, their embeddings and a card, as files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from lorary.bank.adapters import CONFIG, WEIGHTS, check_finite, check_layout, factors_of, paths_of
from lorary.bank.documents import Passage, replaced
from lorary.bank.facts import Fact, comparable
from lorary.bank.files import to_json
from lorary.bank.lora_config import check_config
from lorary.bank.parts import CARD, EXAMPLES, FACTS, KEYS, PASSAGES, READ
from lorary.bank.stored import Outlines, StoredFiles, StoredTensors, open_adapter
from lorary.base.layers import layer_of
from lorary.routing.encoder import Encoder, EncoderWarning
from lorary.tables import counted


@dataclass(frozen=True)
class Memory:
    """One topic: a stock PEFT LoRA adapter, its facts, its documents, embeddings of both, and a card.

    A memory is never changed in place: a changed one is another object, which is how a bank knows what to write. Of one that
    was opened in a bank, each part is read from its file when it is first used, and the file is checked then.

    Args:
        keys: [wordings, embedding], unit vectors.
        key_facts: the fact that each key belongs to.
        card: topic, version, recipe, certificate, source hashes.
        documents: the passages of its documents, in order.
        passage_keys: [passages, dimension], a unit vector for each of `passages`; [0, 0] where they are not made.
        examples: prompts that it is routed by beside its facts' wordings; they say nothing of what it answers.
        example_keys: [examples, width], a unit vector for each.
    """

    name: str
    adapter_config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    facts: tuple[Fact, ...] = field(default_factory=tuple)
    keys: Float[Tensor, "wordings embedding"] = field(default_factory=lambda: torch.zeros(0, 0))
    key_facts: tuple[int, ...] = field(default_factory=tuple)
    card: Mapping[str, Any] = field(default_factory=dict)
    documents: tuple[Passage, ...] = field(default_factory=tuple)
    passage_keys: Float[Tensor, "passages dimension"] = field(default_factory=lambda: torch.zeros(0, 0))
    examples: tuple[str, ...] = field(default_factory=tuple)
    example_keys: Float[Tensor, "examples width"] = field(default_factory=lambda: torch.zeros(0, 0))

    def factors(self, shapes: Mapping[str, tuple[int, int]] | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """The adapter's factors, scaled. Raises AdapterError where they do not fit `shapes`."""
        tensors = dict(self.tensors.items())
        return factors_of(self.adapter_config, tensors, shapes, f"memory {self.name!r}")

    def check(self, shapes: Mapping[str, tuple[int, int]], where: str | None = None) -> None:
        """Reads all of it, and compares the adapter with the base.

        Raises:
            AdapterError: what the mixture computes of the adapter is not what PEFT computes on this base.
            BankError, FactError, DocumentError: a file is missing, damaged or holds something else.
        """
        where = where or f"memory {self.name!r}"
        check_config(self.adapter_config, where)
        check_layout(self.adapter_config, self.outline, shapes, where)
        check_finite(dict(self.tensors.items()), where)
        for part in READ:
            getattr(self, part)

    @property
    def outline(self) -> Mapping[str, Tensor]:
        """The adapter's tensors as far as names, shapes and dtypes go; of a bank's memory nothing is read for that."""
        return self.tensors.outline if isinstance(self.tensors, StoredTensors) else self.tensors

    def is_file_by_file(self, other: Memory) -> bool:
        """Whether two memories of banks were opened from files with the same adapter, facts and documents."""
        own, their = (memory.__dict__.get("_files") for memory in (self, other))
        same = (CONFIG, WEIGHTS, FACTS, PASSAGES)
        return own is not None and their is not None and all(own.hashes.get(f) == their.hashes.get(f) for f in same)

    @property
    def paths(self) -> list[str]:
        """The module paths that the adapter adapts."""
        return list(paths_of(self.outline))

    def split_layer(self, layers_path: str) -> int:
        """The lowest decoder layer that the adapter adapts.

        Args:
            layers_path: of the base's decoder layers, such as `model.layers`.
        """
        return min(layer_of(path, layers_path) for path in self.paths)

    @property
    def wordings(self) -> list[str]:
        """The trained wordings of its facts, in order: what its keys embed."""
        return [wording for fact in self.facts for wording in fact.trained]

    @property
    def routing_texts(self) -> list[str]:
        """All that it is routed by: the trained wordings of its facts, then its examples."""
        return [*self.wordings, *self.examples]

    @property
    def routing_keys(self) -> Float[Tensor, "texts embedding"]:
        """The embeddings of `routing_texts`."""
        if not self.examples:
            return self.keys
        return torch.cat([self.keys, self.example_keys]) if len(self.keys) else self.example_keys

    @cached_property
    def passages(self) -> tuple[Passage, ...]:
        """All its text, each passage once: those of its documents, then the statements of facts that none of these holds."""
        passages = dict[str, Passage]()
        for passage in (*self.documents, *map(self.passage_of, self.facts)):
            if passage is not None:
                passages.setdefault(passage.text, passage)
        return tuple(passages.values())

    def passage_of(self, fact: Fact) -> Passage | None:
        """The passage that tells a fact: a document's that holds its statement, else the statement; None without one."""
        if not fact.statement:
            return None
        statement = comparable(fact.statement)
        written = zip(self.documents, self._written, strict=True)
        stated = Passage(" ".join(fact.statement.split()), fact.source or "")
        return next((passage for passage, text in written if statement in text), stated)

    @cached_property
    def _written(self) -> tuple[str, ...]:
        """What the documents' passages are compared by."""
        return tuple(comparable(passage.text) for passage in self.documents)

    def with_documents(self, documents: Sequence[Passage]) -> Memory:
        """The same memory with these documents, in place of those of the same source, and without keys of passages."""
        return replace(self, documents=replaced(self.documents, documents), passage_keys=torch.zeros(0, 0))

    def with_examples(self, prompts: Iterable[str], encoder: Encoder) -> Memory:
        """The same memory with other examples; those that a wording of its facts says already are left out."""
        known = {comparable(wording) for wording in self.wordings}
        distinct = {comparable(prompt): prompt for prompt in prompts if comparable(prompt) not in known}
        examples = tuple(distinct.values())
        return replace(self, examples=examples, example_keys=self._encoded([*examples], "example", encoder))

    def with_keys(self, encoder: Encoder) -> Memory:
        """The same memory with its trained wordings, its passages and its examples embedded.

        Warns of those that the encoder cannot read.
        """
        asked = [(wording, i) for i, fact in enumerate(self.facts) for wording in fact.trained]
        keys = self._encoded([wording for wording, _ in asked], "wording", encoder)
        passage_keys = self._encoded([passage.text for passage in self.passages], "passage", encoder)
        example_keys = self._encoded([*self.examples], "example", encoder)
        numbers = tuple(i for _, i in asked)
        return replace(self, keys=keys, key_facts=numbers, passage_keys=passage_keys, example_keys=example_keys)

    def _encoded(self, texts: list[str], kind: str, encoder: Encoder) -> Float[Tensor, "texts embedding"]:
        keys = encoder.encode(texts) if texts else torch.zeros(0, encoder.dimension)
        unread = [text for text, readable in zip(texts, keys.any(-1).tolist(), strict=True) if not readable]
        if unread:
            warnings.warn(
                f"encoder {encoder.name!r} cannot read {len(unread)} of {counted(len(texts), kind)} of memory "
                f"{self.name!r}: {unread[0]!r}, for one; no question finds what it cannot read: word it "
                "otherwise, or use another encoder",
                EncoderWarning,
                stacklevel=3,
            )
        return keys

    def files(self) -> dict[str, bytes]:
        """File name → content, as they lie in the memory's folder."""
        facts = "".join(json.dumps(fact.to_json(), ensure_ascii=False) + "\n" for fact in self.facts)
        keys = {"keys": self.keys.contiguous(), "facts": torch.tensor(self.key_facts, dtype=torch.long)}
        if len(self.passage_keys):
            keys["passages"] = self.passage_keys.contiguous()
        if self.examples:
            keys["examples"] = self.example_keys.contiguous()
        passages = "".join(json.dumps(passage.to_json(), ensure_ascii=False) + "\n" for passage in self.documents)
        files = {
            # In its own order: of two patterns that match a module, the first counts.
            CONFIG: to_json(self.adapter_config, sort_keys=False),
            WEIGHTS: save({k: t.contiguous() for k, t in self.tensors.items()}, metadata={"format": "pt"}),
            CARD: to_json({"topic": self.name, "version": 1, **self.card}),
            FACTS: facts.encode(),
            KEYS: save(keys),
        }
        examples = "".join(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in self.examples)
        held = {PASSAGES: passages.encode(), EXAMPLES: examples.encode()}
        return files | {name: content for name, content in held.items() if content}

    @staticmethod
    def stored(name: str, files: StoredFiles, shapes: Mapping[str, tuple[int, int]], outlines: Outlines) -> Memory:
        """The memory in one folder of a bank, of which nothing is read yet that can wait.

        Raises:
            AdapterError, BankError: naming the file.
        """
        memory = object.__new__(Memory)
        config, tensors = open_adapter(files, shapes, outlines)
        memory.__dict__.update(name=name, adapter_config=config, tensors=tensors, _files=files)
        return memory

    if not TYPE_CHECKING:

        def __getattr__(self, part: str) -> Any:
            """A part that lies on disk still."""
            files = self.__dict__.get("_files")
            if files is None or part not in READ:
                raise AttributeError(f"a memory has no {part!r}")
            self.__dict__.update(READ[part](self, files))
            return self.__dict__[part]
