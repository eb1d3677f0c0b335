"""Questions in texts: the last of a list, those that point back to an earlier turn, and the parts of one that asks twice.

What routes a chat is its last question, with the turns before it that it points back to.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import regex

from lorary.words import LETTER

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


_LONGEST = 8
"""Words of a follow-up, at most."""
_LONGEST_UNSPACED = 16
"""Letters of a follow-up in a script that writes no spaces, at most."""

_SMALL_WORDS = {
    "English": (
        "and also too then else he him his she her hers they them their it its there that this those these one same",
        "a an the of in on at to for from by with is are was were be do does did has have had can could will would what "
        "who whom whose which when where why how many much so but or not no yes please me my i we more about ok",
    ),
    "German": (
        "und auch dann sonst er ihn ihm sein seine seinen seiner sie ihr ihre ihren ihrer dort da dorthin daher davon damit "
        "dazu dafür dabei darin darauf diese dieser dieses diesen diesem jene jener dessen deren derselbe dieselbe "
        "dasselbe",
        "der die das den dem des ein eine einen einem einer ist sind war waren wird werden hat haben hatte kann können "
        "was wer wen wem wessen welche welcher welches welchen wann wo wohin woher warum wieso wie viel viele nicht kein "
        "keine ja nein bitte mir mich ich wir in im an am auf aus bei mit von vom zu zum zur für über also aber oder "
        "denn noch mehr es man heißt gibt",
    ),
    "Spanish": (
        "y e también entonces él ella ellos ellas lo le les su sus suyo suya allí allá ahí ese esa eso esos esas este esta "
        "esto estos estas aquel aquella mismo misma",
        "el la los las un una unos unas de del en a al por para con sin es son fue era está están ser hay ha han tiene "
        "qué quién quiénes cuál cuáles cuándo dónde cómo cuánto cuántos cuánta cuántas que no sí me mi yo se o pero más "
        "favor",
    ),
    "French": (
        "et aussi alors il elle ils elles lui leur leurs son sa ses y là celui celle ceux celles ce cette cet ces cela ça "
        "même",
        "le la les l un une des du de d en à au aux par pour avec sans est sont était a ont qui que quoi quel quelle quels "
        "quelles quand où comment pourquoi combien ne pas non oui me mon ma je nous se ou mais plus dans sur qu c "
        "s n j",
    ),
}
"""Of each language written with spaces: words that point back, and other words that say nothing by themselves."""
_UNSPACED = {
    r"[\u3040-\u30ff]": r"それ|その|そこ|あれ|あの|あそこ|これ|この|ここ|彼|彼女|じゃあ|では|また|同じ",
    r"[\u4e00-\u9fff]": r"他|她|它|那|这|這|此|其|呢|还有|還有|另外|同样|也",
}
"""Of each script written without spaces: its letters, and what points back in it. Japanese first: it has Chinese letters."""
_POINTING = {language: frozenset(pointing.split()) for language, (pointing, _) in _SMALL_WORDS.items()}
_KNOWN = {language: _POINTING[language] | {*others.split()} for language, (_, others) in _SMALL_WORDS.items()}


def follows_up(turn: str) -> bool:
    """Whether a user's turn points back to an earlier one, so that it needs that one's words to be understood.

    It does where it is short (eight words, or 16 letters of Chinese or Japanese) and either holds a word that points back
    ("and", "her", "there") or consists of words that say nothing by themselves ("Why?", "Wer ist das?"; not "Who are you?",
    which asks for the model). Whose words count is the language that has the most small words in the turn, English where
    two have as many: "also" points back in English, and means "so" in German. In a language without a list here no turn
    follows up: its own text routes alone.
    """
    turn = unicodedata.normalize("NFC", turn)
    for letters, pointing in _UNSPACED.items():
        if re.search(letters, turn):
            return len(re.findall(r"\w", turn)) <= _LONGEST_UNSPACED and bool(re.search(pointing, turn))
    if len(turn.split()) > _LONGEST:
        return False
    words = _words(turn)
    counts = {language: sum(word in _KNOWN[language] for word in words) for language in _KNOWN}
    language = max(counts, key=lambda name: counts[name])
    return any(word in _POINTING[language] for word in words) or (bool(words) and counts[language] == len(words))


_WORD = regex.compile(rf"(?!\d)[\p{{L}}\p{{N}}](?:(?![\d_]){LETTER})*")
"""A word without digits."""


def _words(turn: str) -> list[str]:
    """The words of a turn in lower case, but for the German "Sie" and "Ihr" within a sentence: they address the reader."""
    words = _WORD.findall(turn)
    return [
        word if place and word in ("Sie", "Ihr", "Ihre", "Ihnen") else word.lower() for place, word in enumerate(words)
    ]


_END = re.compile(r"(?<=\?)\s+")
_CONNECTIVE = re.compile(r"^(and|also|but|then)\b[\s,:]*", re.IGNORECASE)


def parts_of(question: str) -> list[str]:
    """The parts of a question, in order; what has no two parts is left as it is, to the letter.

    A part ends at a question mark. What asks nothing ("Two things:", "Please answer both.") stays before the part that
    it introduces, or behind the last: it may tell what the part is about. A part that points back, as a follow-up in a
    chat does ("And who is her cook?"), cannot stand alone and stays with the part before it. An "and" within a sentence
    parts nothing: it joins names and things as often as questions.
    """
    parts: list[str] = []
    for piece in _END.split(question.strip()):
        asking = _CONNECTIVE.sub("", piece.rpartition(":")[2].strip())
        alone = "?" in piece and not follows_up(asking)
        if alone or not parts:
            # What stands alone is no follow-up in a chat either, so it does not begin like one.
            parts.append(asking[:1].upper() + asking[1:] if parts and ":" not in piece else piece)
        else:
            parts[-1] += f" {piece}"
    return parts if len(parts) > 1 else [question]


_LINK = re.compile(r"(?:\s*[,;])?\s+(?:and|plus|und|et|y|e)\s+(?:also\s+)?|\s*;\s+|(?<=[.!?])\s+", re.IGNORECASE)
_FEWEST = 3
"""Words of a clause, at least."""


def clauses_of(question: str) -> list[str]:
    """What may be two questions, parted at the first "and" or end of a sentence that leaves three words on both sides.

    An "and" joins names and things as often as questions: who asks must judge whether each clause stands for itself.
    """
    for link in _LINK.finditer(question):
        first, second = question[: link.start()].strip(), question[link.end() :].strip()
        if min(len(first.split()), len(second.split())) >= _FEWEST:
            return [first + "?" * (question.rstrip()[-1:] == "?"), second[:1].upper() + second[1:]]
    return [question]
