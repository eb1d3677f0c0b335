#!/usr/bin/env bash
# bm25s 0.3.16: `tokenize` cuts words at combining marks, so common words of Hindi, Tamil or Turkish cannot be found.
#
# The default pattern is Python's `\w`, which has no combining marks: no vowel signs of Hindi, Tamil or Thai, no vowel
# points of Arabic or Hebrew, no accent that stands apart from its letter. A word is cut at each mark, and what is one
# letter long is left out. So the Hindi words for water and tea are never indexed, and of the word for price the word for
# opinion is left, which finds it. Texts are put in lower case first, where the Turkish "İ" is "i" and a combining dot:
# "İzmir" becomes "zmir", although `stopwords="tr"` is offered. `Tokenizer` does the same. The documentation names the
# pattern, and not what it does to these languages. `re`, which reads a `token_pattern`, has no name for the marks.
#
# Seen: "हिन्दी भाषा भारत की राजभाषा है" becomes ["रत", "जभ"]; asked for "पानी" (water), the text "पानी ठंडा है" scores 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check bm25s==0.3.16 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import sys
from importlib.metadata import version

import bm25s
from bm25s.tokenization import Tokenizer

SEEN = {
    "हिन्दी भाषा भारत की राजभाषा है": ["रत", "जभ"],
    "தமிழ் மொழி": ["தம"],
    "ร้านกาแฟเปิดกี่โมง": ["านกาแฟเป", "ดก", "โมง"],
    "كَتَبَ الوَلَدُ": ["الو"],
    "שָׁלוֹם": ["לו"],
    "El nin\u0303o canto\u0301": ["el", "nin", "canto"],
    "İzmir güzel": ["zmir", "güzel"],
}
TEXTS = ["पानी ठंडा है", "चाय गरम है", "कीमत कम है"]  # The water is cold. The tea is hot. The price is low.
QUESTIONS = {"पानी": "water", "चाय": "tea", "मत": "opinion, which no text holds"}


def words_of(texts):
    return bm25s.tokenize(texts, stopwords=None, return_ids=False, show_progress=False)


words = words_of(list(SEEN))
also = Tokenizer(stopwords=None).tokenize(list(SEEN), return_as="string", show_progress=False)
index = bm25s.BM25()
index.index(bm25s.tokenize(TEXTS, show_progress=False), show_progress=False)
scores = {}
for asked in QUESTIONS:
    found, best = index.retrieve(bm25s.tokenize(asked, show_progress=False), k=len(TEXTS), show_progress=False)
    by_text = dict(zip(found[0].tolist(), best[0].tolist(), strict=True))
    scores[asked] = [round(by_text[text], 2) for text in range(len(TEXTS))]

print(f"bm25s {version('bm25s')}")
for text, told in zip(SEEN, words, strict=True):
    print(f"{text}: {told}")
print(f"scores of {TEXTS}:")
for asked, meaning in QUESTIONS.items():
    print(f"  {asked} ({meaning}): {scores[asked]}")
expected = words == also == list(SEEN.values()) and not any(scores["पानी"] + scores["चाय"])
expected = expected and [score > 0 for score in scores["मत"]] == [False, False, True]
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py"
