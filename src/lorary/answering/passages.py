"""Passages for the prompt: of documents, and statements of facts, that the indexes find, put before the question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from lorary.bank.facts import Fact, comparable
from lorary.bank.memory import Memory
from lorary.base.prompts import Chat, chat_of, chat_question, chat_text, last_user, prompt_ids
from lorary.errors import LoraryError
from lorary.routing.router import Router
from lorary.tables import counted

if TYPE_CHECKING:
    from lorary.model.modeling import LoraryForCausalLM

_SPARE = 4
"""Facts that are looked up for a passage: several may have one statement."""
_WORDING_NEARER = 0.1
"""By how much a question is nearer (cosine) to another wording of it than to a sentence that answers it. With 2 to 24
wordings a fact it is 0.06 to 0.17 on the shipped topics, by the embedded encoder."""


class PassageError(LoraryError):
    """Passages were promised, and there are none, or they do not fit the base's context."""


@dataclass(frozen=True)
class FoundPassage:
    """A passage, the memory that holds it, and how near it is to what was asked.

    Args:
        similarity: cosine, of the passage or of the wording of a fact that led to it.
        source: the document that it comes from, "" where none is known.
    """

    text: str
    memory: str
    similarity: float
    source: str = ""


@dataclass(frozen=True)
class Prompt:
    """A chat as it is put to the model.

    Args:
        chat: its turns, with the passages in the last one.
        routing_text: what routes it. Give it to `generate`: the passages would draw the route along.
        passages: what stands before the question, nearest first.
        asked_as: the trained wording that stands in the chat in place of the question (`exchange.asked_as`); None where the
            question does.
    """

    chat: list[dict[str, str]]
    routing_text: str
    passages: tuple[FoundPassage, ...] = ()
    asked_as: str | None = None

    def text(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """What the model reads."""
        return chat_text(tokenizer, self.chat)


def passage_text(fact: Fact) -> str:
    """The sentence that tells a fact, on one line: its statement, or its question with the answer."""
    return " ".join((fact.statement or f"{fact.question} {fact.answer}").split())


def question_with(context: str, question: str) -> str:
    """A user's turn: what stands before the question, if anything, and the question."""
    return f"{context}\n\n{question}" if context else question


def nearest_passages(router: Router, texts: Sequence[str], wanted: int) -> list[list[FoundPassage]]:
    """For each text 1 to `wanted` passages, nearest first, none that stands in an earlier one.

    A passage is found by itself or by a wording of a fact that it tells. Wordings count as less near than they are,
    because any two questions are alike: else facts would crowd documents out.

    Raises:
        PassageError: a text for which there is none, or a number below 1.
    """
    if wanted < 1:
        raise PassageError(f"{wanted} passages cannot be found; give 1 or more")
    embedding = router.features(texts).embedding.cpu()
    by_wording = router.index.nearest(embedding, _SPARE * wanted)
    by_passage = router.passage_index.nearest(embedding, _SPARE * wanted)
    passages_of_texts = []
    for text, facts, numbers in zip(texts, by_wording, by_passage, strict=True):
        near = [(s - _WORDING_NEARER, _of_fact(router.bank[memory], fact, s)) for memory, fact, s in facts]
        near += [(s, _of_passage(router.bank[memory], number, s)) for memory, number, s in numbers]
        if not near:
            raise PassageError(
                f"no passages for {text!r}: no memory holds facts or documents; add some, or ask without passages"
            )
        ranked = (passage for _, passage in sorted(near, key=lambda pair: pair[0], reverse=True))
        passages_of_texts.append(_distinct(ranked)[:wanted])
    return passages_of_texts


def _of_fact(memory: Memory, number: int, similarity: float) -> FoundPassage:
    fact = memory.facts[number]
    passage = memory.passage_of(fact)
    if passage is None:
        return FoundPassage(passage_text(fact), memory.name, similarity, fact.source or "")
    return FoundPassage(passage.text, memory.name, similarity, passage.source)


def _of_passage(memory: Memory, number: int, similarity: float) -> FoundPassage:
    passage = memory.passages[number]
    return FoundPassage(passage.text, memory.name, similarity, passage.source)


def _distinct(passages: Iterable[FoundPassage]) -> list[FoundPassage]:
    """Those whose text no earlier one holds."""
    chosen: dict[str, FoundPassage] = {}
    for passage in passages:
        text = comparable(passage.text)
        if not any(text in earlier for earlier in chosen):
            chosen[text] = passage
    return list(chosen.values())


def with_passages(model: LoraryForCausalLM, question: str | Chat, wanted: int | None = None) -> Prompt:
    """The chat with the nearest passages before its last question.

    Args:
        question: one, or turns of a chat that end with the user's, or with what a tool told for it.
        wanted: how many passages; what the model's policy says where it is None. With 0 the chat is left as it is.

    Raises:
        PassageError: passages were asked for, and there are none.
        PromptError: a chat that has no such end.
    """
    chat = chat_of(question)
    wanted = model.router.policy.passages if wanted is None else wanted
    query = chat_question(chat)
    if not wanted:
        return Prompt(chat, query)
    passages = nearest_passages(model.router, [query], wanted)[0]
    context = "\n".join(passage.text for passage in passages)
    place = last_user(chat)
    chat[place] |= {"content": question_with(context, chat[place]["content"])}
    return Prompt(chat, query, tuple(passages))


def check_fits(model: LoraryForCausalLM, texts: Sequence[str], new_tokens: int) -> None:
    """Raises PassageError where the longest prompt and its answer exceed the base's positions."""
    room = getattr(model.config.text_config, "max_position_embeddings", None)
    needed = max(map(len, prompt_ids(model.tokenizer, texts)), default=0) + new_tokens
    if room is not None and needed > room:
        raise PassageError(
            f"the longest prompt needs {counted(needed, 'token')}, the base has {counted(room, 'position')}"
        )
