"""Which question of a text, or of a user's turns, routes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lorary.base.followups import follows_up

_LABELS = (
    ("question|q", "answer|a"),
    ("input|instruction|query|task", "output|response|answer|result"),
    ("problem", "solution|answer"),
    ("user|human", "assistant|ai|bot|model"),
    ("frage|f", "antwort|a"),
    ("pregunta|p", "respuesta|r"),
    ("pergunta|p", "resposta|r"),
    ("question|q", "réponse|r"),
    ("domanda|d", "risposta|r"),
    ("вопрос", "ответ"),
    ("问题|问|問題|問|質問", "答案|回答|答え|答"),
)
"""Pairs of what stands before a question and before its answer where a text is a list of such."""
_ANSWERS = "|".join(dict.fromkeys(word for _, labels in _LABELS for word in labels.split("|") if len(word) > 1))
_OPTIONS = re.compile(r"\n\s*(?:(?:choices|options)\b|\(?A[.):])", re.IGNORECASE)
_ASKS = re.compile(r"[?？؟]")
_CUE = re.compile(r"(?:^|\n)[ \t]*([^\s:：][^\n:：]{0,24}[:：])\s*$")


def question_of(turns: Sequence[str]) -> str:
    """The question that routes a user's turns: the last one, with the turns before it that it points back to.

    The chain goes back to the first turn that does not follow up (`follows_up`). The model's own turns are left out: a
    wrong answer would draw the route along. Of a turn that is a list of questions with answers, the last question counts.
    """
    asked = [last_question(turn) for turn in turns]
    first = max((i for i, turn in enumerate(asked) if not follows_up(turn)), default=0)
    return " ".join(asked[first:]).strip() or " "


def last_question(text: str) -> str:
    """The last question of a text that lists questions with their answers; the whole text where it is no such list."""
    asked = questions_in(text)
    return asked[-1] if asked else text


def asking_part(text: str, fits: Callable[[str], bool]) -> str:
    """The part of a text too long to be read whole that asks: its last line with a question mark, else its last line.

    Of a line that is too long itself it is the last sentence, chosen alike, and of that as much of the end as fits. A text
    that fits is left as it is.
    """
    for separator in (r"\n+", r"(?<=[.!?])\s+|(?<=[。！？؟])"):
        if fits(text):
            return text
        pieces = [piece for piece in re.split(separator, text.strip()) if piece]
        text = next((piece for piece in reversed(pieces) if _ASKS.search(piece)), pieces[-1])
    while not fits(text):
        text = text[len(text) // 4 + 1 :]
    return text.strip()


def questions_in(text: str) -> list[str]:
    """The questions of a text that lists them with their answers, as prompts with examples do; none of another text.

    They are told by labels: "Question: … Answer:", "Q: … A:", "### Input: … ### Output:", "User: … Assistant:", and those
    of other languages. Where only answers have a label ("… Answer: B"), the last question is what stands between the last
    label and the blank line before it. A label that is none of these counts where the text ends with it and has it before.
    """
    lists = [found for labels in _LABELS if (found := _labelled(text, *labels))]
    if lists:
        return [_without_options(question) for _, question in max(lists, key=lambda found: found[-1][0])]
    return [_without_options(question) for question in _unlabelled(text)]


def _label(words: str, start: str = "\n") -> str:
    """A pattern of a label at the start of a line, or after any white space where `start` says so."""
    number = r"[ \t]*\d{0,3}[ \t]*"
    return rf"(?:^|{start})[ \t]*(?:[#*>]*[ \t]*(?:{words}){number}\**[:：]\**|#+[ \t]*(?:{words}){number}(?=\n|$))\s*"


def _answer_label(words: str) -> str:
    """The same for an answer's label, which may stand within a line where it is more than a letter."""
    longer = "|".join(word for word in words.split("|") if len(word) > 1)
    within = _label(longer, start=r"[^\S\n]")
    return f"{_label(words)}|{within}"


def _labelled(text: str, asks: str, answers: str) -> list[tuple[int, str]]:
    """(place, question) of each label that asks, if any label of an answer follows one."""
    asking = list(re.finditer(_label(asks), text, re.IGNORECASE))
    ends = [found.start() for found in re.finditer(_answer_label(answers), text, re.IGNORECASE)]
    if not asking or not ends or ends[-1] < asking[0].start():
        return []
    starts = [found.start() for found in asking[1:]]
    return [
        (found.start(), text[found.end() : min(end for end in (*starts, *ends, len(text)) if end >= found.end() - 1)])
        for found in asking
    ]


def _unlabelled(text: str) -> list[str]:
    """The last question of a list whose questions have no label."""
    if cue := _CUE.search(text):
        before = re.split(rf"\n[ \t]*{re.escape(cue[1])}", text[: cue.start()])
        if len(before) == 1 and not re.fullmatch(_label(_ANSWERS), cue[1] + "\n", re.IGNORECASE):
            return []
        block = before[-1]
        if len(before) > 1:  # the answer before ends with its line
            block = block.partition("\n")[2] or block
    else:
        *before, answer = re.split(_label(_ANSWERS), text, flags=re.IGNORECASE)
        if not before or "\n" in answer.strip():
            return []
        block = before[-1]
    question = block.strip().rpartition("\n\n")[2]
    label, _, rest = question.partition(":")
    repeated = len(label) <= 24 and len(re.findall(rf"(?:^|\n)[ \t]*{re.escape(label)}:", text)) > 1
    return [rest.strip() if repeated else question]


def _without_options(question: str) -> str:
    """The question without a list of options behind it: those of other memories would draw the route along."""
    return (_OPTIONS.split(question, maxsplit=1)[0].strip() or question).strip()
