"""Prompts: a chat as the text and the tokens that a base expects, and the way back to the question that routes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from lorary.base.frames import user_turns, without_tokens
from lorary.base.questions import question_of, questions_in
from lorary.base.templates import PromptError, ending, rendered, special_tokens, templates_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Chat = Sequence[Mapping[str, Any]]
"""Turns of a conversation, as chat templates take them: `role`, and `content` as a text or a list of parts of text."""

_MARK = "\u2063question\u2063"
_AFTER_THE_USER = ("tool", "function", "ipython", "observation")
"""Roles whose turns may end a chat that the user began: what was looked up for the user's question."""


def prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """The text that asks `question`: the tokenizer's chat template, or `Question: … Answer:` where it has none."""
    return chat_text(tokenizer, [{"role": "user", "content": question}])


def around(tokenizer: PreTrainedTokenizerBase, context: str = "") -> tuple[str, str]:
    """What stands before and after a question in its prompt; `context` stands before it within its turn."""
    before, _, after = prompt(tokenizer, context + _MARK).partition(_MARK)
    return before, after


def chat_of(question: str | Chat) -> list[dict[str, Any]]:
    """The turns of a chat, each content a text; a text is the only turn of a user.

    Raises:
        PromptError: a chat that ends with no turn of a user or of a tool, a content that is no text, or an empty question.
    """
    chat = [{"role": "user", "content": question}] if isinstance(question, str) else [dict(turn) for turn in question]
    chat = [turn | {"content": _content_text(turn)} for turn in chat]
    last = chat[-1] if chat else {}
    ends = last.get("role") in ("user", *_AFTER_THE_USER)
    if not ends or all(turn.get("role") != "user" for turn in chat):
        raise PromptError(
            f"a chat must end with a user's turn of text, this one ends with {last or 'nothing'!r}; only what a tool "
            "told for the user's question may stand behind it"
        )
    if not chat[last_user(chat)]["content"].strip():
        raise PromptError("the question is empty; give one that asks something")
    return chat


def _content_text(turn: Mapping[str, Any]) -> str:
    content = turn.get("content")
    if content is None and turn.get("role") == "assistant":  # it called a tool, and said nothing
        return ""
    if isinstance(content, Sequence) and not isinstance(content, str):
        texts = [part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
        content = "\n".join(texts) if len(texts) == len(content) else content
    if not isinstance(content, str):
        raise PromptError(
            "the content of each turn of a chat must be a text or a list of parts such as "
            f"{{'type': 'text', 'text': '...'}}; this one has {dict(turn)!r}"
        )
    return content


def last_user(chat: Chat) -> int:
    """The place of the user's last turn in a chat of `chat_of`."""
    return max(place for place, turn in enumerate(chat) if turn.get("role") == "user")


def chat_text(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    """The text that puts a chat to the model; of a single question it is `prompt`. Raises PromptError as `rendered`."""
    if templates_of(tokenizer):
        return rendered(tokenizer, chat)
    names = {"user": "Question: ", "assistant": "Answer: "}
    lines = [names.get(turn["role"], "") + turn["content"] for turn in chat]
    return "\n".join([*lines, "Answer:"])


def first_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that the tokenizer puts before any text by itself: the one that begins a text, for most families.

    What it puts behind a text, such as the token that ends one, is no part of a prompt: the answer is to follow.
    """
    plain = tokenizer("a", add_special_tokens=False).input_ids
    whole = tokenizer("a").input_ids
    return next((whole[:n] for n in range(len(whole) - len(plain) + 1) if whole[n : n + len(plain)] == plain), [])


def prompt_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text as the base's family begins a text: `first_tokens` stand there once.

    Where a chat template wrote them into the text, they are not put there again.
    """
    if not texts:
        return []
    first = first_tokens(tokenizer)
    written = "".join(map(str, tokenizer.convert_ids_to_tokens(first)))
    rows = tokenizer(list(texts), add_special_tokens=False).input_ids
    return [row if text.lstrip().startswith(written) else [*first, *row] for text, row in zip(texts, rows, strict=True)]


def inner_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text that stands behind another: none of `first_tokens`."""
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def token_offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    """Where each token of a text begins and ends in it, without `first_tokens`."""
    told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets: list[tuple[int, int]] = told.offset_mapping
    return offsets


def prompt_batch(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], padding_side: Literal["left", "right"] = "left"
) -> BatchEncoding:
    """`prompt_ids` as tensors of one width, with `attention_mask`."""
    return padded(tokenizer, prompt_ids(tokenizer, texts), padding_side)


def padded(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]], padding_side: Literal["left", "right"]
) -> BatchEncoding:
    """Rows of tokens as `input_ids` and `attention_mask` of one width."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), int(tokenizer.pad_token_id or 0))
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        where = slice(width - len(row), None) if padding_side == "left" else slice(len(row))
        ids[i, where], mask[i, where] = torch.tensor(row, dtype=torch.long), 1
    return BatchEncoding({"input_ids": ids, "attention_mask": mask})


def answer_text(tokenizer: PreTrainedTokenizerBase, answer: str, *, ended: bool = True) -> str:
    """`answer` as it follows `prompt`, with the token that ends the model's turn as the base's family writes it."""
    around_answer = ending(tokenizer)
    return f"{around_answer.lead}{answer}{around_answer.token if ended else ''}"


def answer_ids(tokenizer: PreTrainedTokenizerBase, text: str, answer: str, *, ended: bool = True) -> list[int]:
    """The tokens of an answer that follows the prompt `text`.

    Prompt and answer are tokenised together, because some tokenizers put a space before each text; apart where a token
    would reach across.
    """
    told = answer_text(tokenizer, answer, ended=ended)
    asked = tokenizer(text, add_special_tokens=False).input_ids
    whole = tokenizer(text + told, add_special_tokens=False).input_ids
    if whole[: len(asked)] == asked:
        return list(whole[len(asked) :])
    return list(tokenizer(told, add_special_tokens=False).input_ids)


def longest_answer(tokenizer: PreTrainedTokenizerBase, answers: Iterable[str]) -> int:
    """Tokens of the longest answer with its end of turn; 0 where there is none."""
    text = prompt(tokenizer, "?")
    return max((len(answer_ids(tokenizer, text, answer)) for answer in answers), default=0)


def stop_at_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop: str | None = None) -> None:
    """Lets `generate` stop at the token that ends the model's turn, and at the one that ends a text, if it does not yet.

    Args:
        stop: a text of one token at which it stops, too.
    """
    config = model.generation_config
    if config is None:
        return
    stops = config.eos_token_id
    known = [] if stops is None else [stops] if isinstance(stops, int) else list(stops)
    ends = [tokenizer.convert_tokens_to_ids(ending(tokenizer).token), tokenizer.eos_token_id]
    ends += inner_ids(tokenizer, stop) if stop else []
    useless = (*known, tokenizer.unk_token_id)
    missing = [end for end in dict.fromkeys(ends) if isinstance(end, int) and end not in useless]
    if missing:
        config.eos_token_id = [*known, *missing]


def routing_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The last user turn of a prompt, or the last question of a list of questions; all of another text.

    Special tokens are left out.
    """
    return (_turns(tokenizer, text) or [" "])[-1]


def conversation_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The question in a prompt; where its last user turn only follows up, the turns before it stand in front.

    It is for prompts that are known as tokens alone; `chat_question` reads turns.
    """
    return question_of(_turns(tokenizer, text))


def _turns(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    if turns := user_turns(tokenizer, text):
        return turns
    plain = without_tokens(text, special_tokens(tokenizer))
    return questions_in(plain) or [plain or " "]


def chat_question(chat: Chat) -> str:
    """The question that routes a chat: the user's last turn, with the turns before it that it points back to."""
    return question_of([_content_text(turn) for turn in chat if turn.get("role") == "user"])
