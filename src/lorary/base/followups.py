"""Whether a user's turn follows up an earlier one, told by the small words of its language."""

from __future__ import annotations

import re

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


def follows_up(turn: str) -> bool:
    """Whether a user's turn points back to an earlier one, so that it needs that one's words to be understood.

    It does where it is short (eight words, or 16 letters of Chinese or Japanese) and either holds a word that points back
    ("and", "her", "there") or consists of words that say nothing by themselves ("Why?", "Wer ist das?"; not "Who are you?",
    which asks for the model). Whose words count is the language that has the most small words in the turn, English where
    two have as many: "also" points back in English, and means "so" in German. In a language without a list here no turn
    follows up: its own text routes alone.
    """
    for letters, pointing in _UNSPACED.items():
        if re.search(letters, turn):
            return len(re.findall(r"\w", turn)) <= _LONGEST_UNSPACED and bool(re.search(pointing, turn))
    if len(turn.split()) > _LONGEST:
        return False
    words = _words(turn)
    counts = {language: sum(word in _KNOWN[language] for word in words) for language in _KNOWN}
    language = max(counts, key=lambda name: counts[name])
    return any(word in _POINTING[language] for word in words) or (bool(words) and counts[language] == len(words))


_POINTING = {language: frozenset(pointing.split()) for language, (pointing, _) in _SMALL_WORDS.items()}
_KNOWN = {language: _POINTING[language] | {*others.split()} for language, (_, others) in _SMALL_WORDS.items()}


def _words(turn: str) -> list[str]:
    """The words of a turn in lower case, but for the German "Sie" and "Ihr" within a sentence: they address the reader."""
    words = re.findall(r"[^\W\d_]+", turn)
    return [
        word if place and word in ("Sie", "Ihr", "Ihre", "Ihnen") else word.lower() for place, word in enumerate(words)
    ]
