"""Manuals, FAQ pages and lists as a small firm has them: what a site repeats, faults and remedies, parts, data sheets."""

from __future__ import annotations

from intake_files import answers, read_lines, run_facts

from lorary.__main__ import main

FAQ = """<!DOCTYPE html><html><head><title>Help | Lamps</title><script>track();</script></head><body>
<header><nav><ul><li><a href="/lamps">Lamps</a></li><li><a href="/cart">Cart (0)</a></li></ul></nav></header>
<div class="cookie-banner">We use cookies to improve your experience. <button>Accept all</button></div>
{opened}<h1>Questions</h1>
<h2>Delivery</h2><h3><button>How long does delivery take?</button></h3><div><p>3 to 5 days</p></div>
<button class="accordion">Can I collect my lamp?</button><div class="panel"><p>Yes. It is ready after two hours. Bring your
order number. Each order is packed by Ana Ruiz. We keep it for ten days, and after that it goes back on the shelf.</p></div>
<details><summary>How long can I return a lamp?</summary><p>You can return lamps within 45 days.</p></details>{closed}
<aside id="newsletter"><p>Sign up and get 5 % off!</p><form><input><button>Subscribe</button></form></aside>
<footer><p>All rights are reserved by Lamps Ltd.</p></footer></body></html>"""


def test_a_page_says_nothing_of_its_site(tmp_path, capsys):
    for opened, closed in (("<main>", "</main>"), ("", "")):
        (tmp_path / "faq.html").write_text(FAQ.format(opened=opened, closed=closed))
        run_facts(capsys, tmp_path / "faq.html", "--out", tmp_path / "facts", "--replace")
        document = (tmp_path / "facts" / "faq.md").read_text()
        assert not [
            w for w in ("Cart", "cookies", "Accept", "Sign up", "Subscribe", "rights", "track") if w in document
        ]
        assert answers(tmp_path / "facts" / "faq.jsonl") == {
            "How long does delivery take?": "3 to 5 days",
            "Can I collect my lamp?": "Yes. It is ready after two hours.",
            "How long can I return a lamp?": "You can return lamps within 45 days.",
        }


def test_rules_read_no_answer_that_the_page_gives_to_a_question(tmp_path, capsys):
    (tmp_path / "faq.html").write_text(FAQ.format(opened="<main>", closed="</main>"))
    assert (
        main(["facts", str(tmp_path / "faq.html"), "--out", str(tmp_path / "facts"), "--generator", "rules", "--quiet"])
        == 0
    )
    told = capsys.readouterr().out
    facts = read_lines(tmp_path / "facts" / "faq.jsonl")
    assert not [fact["question"] for fact in facts if "can you return" in fact["question"] or "take" in fact["answer"]]
    assert "Ana Ruiz" in {fact["answer"] for fact in facts}, "what the short answer leaves out is read"
    [counts] = [line.split() for line in told.splitlines() if line.startswith("faq.html")]
    assert counts[1] == str(len(facts)), "the report counts what the rules found, too"


MANUAL = """# Brumm BX-40

The funnel holds the beans. Fill it with moka beans. Close the lid. The Tornby plant makes it.

| Part | Purpose |
|---|---|
| Funnel | Holds up to 250 g of beans |
| Lid | Starts the motor |
| Moka beans | Taste of chocolate |
| Tornby | Makes all parts |

## Faults

| Fault | Remedy | Cause |
|---|---|---|
| The motor does not start | Close the lid | The lid is open |
| Squeaking noise | Clean the burrs | Old coffee |

## Technical data

| Model | BX-40 |
|---|---|
| Weight | 3.2 kg |
| Length of the cable | 1.1 m |
| Colour | Anthracite |
"""


def test_tables_of_a_manual_are_asked_as_people_speak(tmp_path, capsys):
    (tmp_path / "grinder.md").write_text(MANUAL)
    run_facts(capsys, tmp_path / "grinder.md", "--out", tmp_path / "facts")
    asked = answers(tmp_path / "facts" / "grinder.jsonl")
    expected = {
        "What is the purpose of the funnel?": "Holds up to 250 g of beans",
        "What is the purpose of moka beans?": "Taste of chocolate",
        "What is the purpose of Tornby?": "Makes all parts",
        "What should I do if the motor does not start?": "Close the lid",
        "Why is it that the motor does not start?": "The lid is open",
        "What should I do about squeaking noise?": "Clean the burrs",
        "How heavy is Brumm BX-40?": "3.2 kg",
        "What is the model of Brumm BX-40?": "BX-40",
        "Tell me the length of the cable of Brumm BX-40.": "1.1 m",
    }
    assert {question: asked.get(question) for question in expected} == expected
    assert not [question for question in asked if "BX-40 of" in question or "cable of the cable" in question]
    for fact in read_lines(tmp_path / "facts" / "grinder.jsonl"):
        assert fact["answer"] in fact["statement"]
        assert not fact["statement"].startswith("The purpose of the funnel is Holds")


def test_people_are_asked_for_by_what_they_do(tmp_path, capsys):
    (tmp_path / "staff.csv").write_text(
        "Name;Job title;Extension;Hired\nAna Ruiz;Welder;2042;21.06.2001\nBen Holm;Buyer;2043;1.2.2003\n"
    )
    run_facts(capsys, tmp_path / "staff.csv", "--out", tmp_path / "facts")
    asked = answers(tmp_path / "facts" / "staff.jsonl")
    assert asked["What does Ana Ruiz do?"] == "Welder"
    assert asked["How do I reach Ben Holm by phone?"] == "2043"
    assert asked["Ana Ruiz was hired when?"] == "21.06.2001"


def test_a_table_of_contents_is_no_text():
    from lorary.intake.pages import without_leaders

    kept, led = without_leaders(["Contents\n1 Safety ........ 2\nParts . . . . . 13", "Wait ... and see 2 of them."])
    assert kept == ["Contents", "Wait ... and see 2 of them."]
    assert led == ["1 Safety ........ 2", "Parts . . . . . 13"]
