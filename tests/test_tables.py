"""How numbers stand in reports."""

from __future__ import annotations

from lorary.tables import aligned_table, counted, difference, figure, markdown_table, with_interval


def test_a_table_has_its_head_first_and_no_cell_breaks_it():
    assert markdown_table([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert markdown_table([["a"], ["x | y\nz"]]).splitlines()[-1] == r"| x \| y z |"
    assert markdown_table([]) == ""


def test_lines_of_a_table_are_aligned():
    assert aligned_table([["memory", "facts", ""], ["a", "10", ""], ["bcd", "9", "x"]]) == [
        "memory  facts",
        "a          10",
        "bcd         9  x",
    ]


def test_a_count_is_in_the_plural_but_for_one():
    assert [counted(number, "fact") for number in (0, 1, 2)] == ["0 facts", "1 fact", "2 facts"]
    assert [counted(2, noun) for noun in ("memory", "key", "pass")] == ["2 memories", "2 keys", "2 passes"]
    assert counted(6000, "fact") == "6,000 facts"
    assert [counted(number, "person", "people") for number in (1, 2)] == ["1 person", "2 people"]


def test_what_was_not_measured_is_a_dash():
    score = {"value": 0.12345, "low": -0.1, "high": 0.4}
    assert (figure(0.5), figure(0.0, 1), figure(None)) == ("0.500", "0.0", "–")
    assert with_interval(score, 4) == "0.1235 (-0.100 to 0.400)"
    assert difference(score) == "+0.123 (-0.100 to +0.400)"
    assert difference(score | {"low": 0.05}) == "**+0.123 (+0.050 to +0.400)**"
    assert with_interval(None) == difference(None) == "–"
