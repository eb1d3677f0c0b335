"""Words of texts: as `re` finds them where there are no marks, and whole where there are."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest

from lorary.words import lowered, words_of


def test_every_letter_that_is_no_mark_and_no_joiner_stands_in_words_as_it_does_for_re():
    known = [
        letter for letter in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(letter) not in ("Cn", "Cs")
    ]
    text = "a".join(c for c in known if unicodedata.category(c)[0] != "M" and c not in "\u200c\u200d")
    assert words_of(text) == re.findall(r"\w+", text)
    text = "It's 3.5 m² in x-9020_b: José's naïve façade, 東京 и Öl."
    assert words_of(text) == re.findall(r"\w+", text)


@pytest.mark.parametrize(
    "text",
    [
        "हिन्दी भाषा भारत की राजभाषा है",
        "தமிழ் மொழி",
        "ร้านกาแฟ เปิดกี่โมง",
        "كَتَبَ الوَلَدُ",
        "שָׁלוֹם לכולם",
        "El nin\u0303o canto\u0301",
        "می\u200cخواهم",
    ],
)
def test_words_with_marks_are_whole(text):
    assert words_of(f"¿{text}?") == text.split() != re.findall(r"\w+", text)


def test_marks_and_joiners_of_emojis_are_no_words():
    assert words_of("❤\ufe0f 👩\u200d⚕\ufe0f Ada") == ["Ada"]


def test_accents_in_one_piece_and_apart_are_equal_in_lower_case():
    assert lowered("CAN\u0303O\u0301N") == lowered("CAÑÓN") == "cañón"
    assert words_of(lowered("İzmir")) == ["i\u0307zmir"], "whose small letter has its dot apart"
