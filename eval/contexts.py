"""Passages for the prompt: statements of facts, found by the index, by BM25, by topic, or all of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lorary.answering.passages import PassageError, nearest_passages, passage_text
from lorary.eval.questions import Question
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.lexicon import Lexicon

KINDS = ("index", "bm25", "topic", "all")


class Contexts:
    """What stands before questions: passages of a composite's bank, one a fact, each text once. Each kind is found once.

    Args:
        wanted: how many passages a question gets from the index and from BM25.
    """

    def __init__(self, model: LoraryForCausalLM, wanted: int = 3) -> None:
        self.model, self.wanted = model, wanted
        self.by_memory = {memory.name: [passage_text(fact) for fact in memory.facts] for memory in model.router.bank}
        self.topics = sorted(name for name, texts in self.by_memory.items() if texts)
        self.all = list(dict.fromkeys(text for texts in self.by_memory.values() for text in texts))
        self.lexicon = Lexicon()
        self.lexicon.add("passages", self.all)
        self._kept: dict[tuple[str, tuple[str, ...]], list[str]] = {}

    def of(self, kind: str, questions: Sequence[Question]) -> list[str]:
        """What stands before each question: "" for no kind, else at least one passage, a line each.

        Raises:
            PassageError: a question for which there is none.
        """
        if not kind:
            return [""] * len(questions)
        key = kind, tuple(question.text for question in questions)
        if key not in self._kept:
            passages = self._find(kind, questions)
            for question, texts in zip(questions, passages, strict=True):
                if not any(text.strip() for text in texts):
                    raise PassageError(
                        f"no passages by {kind!r} for {question.text!r}; give facts a 'statement', or leave the condition out"
                    )
            self._kept[key] = ["\n".join(texts) for texts in passages]
        return self._kept[key]

    def _find(self, kind: str, questions: Sequence[Question]) -> list[list[str]]:
        if kind == "all":
            return [self.all] * len(questions)
        if kind == "topic":
            return [self._on_topic(question) for question in questions]
        if kind == "index":
            found = nearest_passages(self.model.router, [question.text for question in questions], self.wanted)
            return [[passage.text for passage in row] for row in found]
        if kind == "bm25":
            return self._lexical([question.text for question in questions])
        raise PassageError(f"passages by {kind!r} are unknown; choose from {list(KINDS)}")

    def _on_topic(self, question: Question) -> list[str]:
        """All of its topics' passages. Where no memory holds it there is no right topic: it meets a random one, by seed
        of its text, so that its prompt is as long as the others' and no topic is favoured."""
        topics = question.memories or random.Random(question.text).sample(self.topics, min(len(self.topics), 1))
        return list(dict.fromkeys(text for name in topics for text in self.by_memory[name]))

    def _lexical(self, texts: Sequence[str]) -> list[list[str]]:
        """By BM25 over the passages, as the lexicon scores them."""
        best = self.lexicon.scores(texts).topk(min(self.wanted, len(self.all)), dim=-1).indices
        return [[self.all[i] for i in row] for row in best.tolist()]
