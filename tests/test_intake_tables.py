"""Tables → facts: a row an entity, a column an attribute, a cell a fact in several wordings."""

from __future__ import annotations

import pytest
from intake_files import answers, read_lines, run_facts, staff_xlsx

from lorary.bank.facts import comparable
from lorary.intake.kinds import Kind, kind_of
from lorary.intake.wordings import statement, wordings

HEADER = "Name,Alarm code,Keeper,Founded,City,Price (EUR)"


@pytest.fixture
def stations(tmp_path):
    """200 rows of 6 columns."""
    people = ("Ana Ruiz", "Ben Holm", "Marta Oule", "Ivo Brandt")
    rows = [f"Station {n},E-{n},{people[n % 4]},{1900 + n % 90},Ormen,{n}.50" for n in range(1, 201)]
    path = tmp_path / "stations.csv"
    path.write_text("\n".join([HEADER, *rows]))
    return path


def test_200_rows_of_6_columns_are_1000_facts_by_one_command(stations, tmp_path, capsys):
    status, told = run_facts(capsys, stations, "--out", tmp_path / "facts", "--facts-a-topic", 1000)
    assert (status, told["left_out"], told["notes"]) == (0, [], [])
    assert told["topics"] == [{"topic": "stations", "facts": 1000, "passages": 0}]
    facts = read_lines(tmp_path / "facts" / "stations.jsonl")
    all_wordings = [comparable(w) for fact in facts for w in (fact["question"], *fact["questions"])]
    assert len(set(all_wordings)) == len(all_wordings)
    assert min(len(fact["questions"]) for fact in facts) >= 4
    assert all(
        fact["answer"] in fact["statement"] and fact["source"].startswith("stations.csv, line ") for fact in facts
    )
    asked = answers(tmp_path / "facts" / "stations.jsonl")
    assert asked["What is the alarm code of Station 7?"] == "E-7"
    assert asked["Who is the keeper of Station 8?"] == "Ana Ruiz"
    assert asked["When was Station 5 founded?"] == "1905"
    assert asked["In which city is Station 3?"] == "Ormen"
    assert asked["How much does Station 2 cost?"] == "2.50 EUR"


def test_a_topic_that_is_too_large_is_split_between_rows(stations, tmp_path, capsys):
    _, told = run_facts(capsys, stations, "--out", tmp_path / "facts")
    topics = {topic["topic"]: topic["facts"] for topic in told["topics"]}
    assert topics == {f"stations-{number}": 200 for number in range(1, 6)}
    assert told["notes"] == [
        "stations has 1,000 facts, and a memory holds 200 well: it became 5 topics, stations-1 to stations-5"
    ]
    owners = {}
    for topic in topics:
        for fact in read_lines(tmp_path / "facts" / f"{topic}.jsonl"):
            owners.setdefault(fact["source"], set()).add(topic)
    assert len(owners) == 200
    assert all(len(topics_of_row) == 1 for topics_of_row in owners.values())
    status, error = run_facts(capsys, stations, "--out", tmp_path / "none", "--facts-a-topic", 0)
    assert (status, "give --facts-a-topic 1 or more" in error) == (2, True)


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("oil", ["ISO 32", "ISO 46"], Kind.TEXT),
        ("due", ["2024-03-01", "2024-04-02"], Kind.DATE),
        ("due", ["1 March 2024", "May 3, 2024"], Kind.DATE),
        ("founded", ["1999", "2004"], Kind.YEAR),
        ("code", ["1999", "2004"], Kind.NUMBER),
        ("price", ["24.90", "1,200.00"], Kind.NUMBER),
        ("price", ["€24.90", "12 EUR"], Kind.MONEY),
        ("weight", ["1.2 kg", "900 g"], Kind.MEASURE),
        ("opens", ["9:00", "10:30 am"], Kind.TIME),
        ("in stock", ["yes", "No"], Kind.YES_NO),
        ("owner", ["Marta Oule", "Ivo van Brandt"], Kind.PERSON),
        ("colour", ["Dark Blue", "Red"], Kind.TEXT),
        ("city", ["Ormen", "New Velka"], Kind.PLACE),
        ("mail", ["a@b.org", "c@d.org"], Kind.ADDRESS),
    ],
)
def test_kinds_of_columns(column, values, kind):
    assert kind_of(column, values) is kind


@pytest.mark.parametrize(
    ("column", "kind", "value", "question", "stated"),
    [
        ("owner", Kind.PERSON, "Ana", "Who is Ormen's owner?", "The owner of Ormen is Ana."),
        ("founded by", Kind.PERSON, "Ana", "Who founded Ormen?", "Ormen was founded by Ana."),
        ("founded", Kind.YEAR, "1999", "In which year was Ormen founded?", "Ormen was founded in 1999."),
        ("closed until", Kind.DATE, "1 May", "Until when is Ormen closed?", "Ormen is closed until 1 May."),
        ("opens", Kind.TIME, "9:00", "At what time does Ormen open?", "Ormen opens at 9:00."),
        ("lamps", Kind.NUMBER, "12", "How many lamps does Ormen have?", "The lamps of Ormen are 12."),
        ("in use", Kind.YES_NO, "no", "Is Ormen in use?", "Is Ormen in use? No."),
        ("has a key", Kind.YES_NO, "yes", "Does Ormen have a key?", "Does Ormen have a key? Yes."),
        ("country", Kind.PLACE, "Velka", "In which country is Ormen?", "The country of Ormen is Velka."),
    ],
)
def test_wordings_and_statement_suit_the_kind(column, kind, value, question, stated):
    asked = wordings(column, "Ormen", kind)
    assert question in asked
    assert len({comparable(w) for w in asked}) == len(asked) >= 5
    assert statement(column, "Ormen", value, kind) == stated


@pytest.mark.parametrize(
    ("column", "first", "stated"),
    [
        ("what it is", "What is the gate?", "The gate, what it is: a door"),
        ("what it holds", "The gate: what it holds?", None),
    ],
)
def test_a_column_that_is_a_clause(column, first, stated):
    asked = wordings(column, "the gate", Kind.TEXT)
    assert asked[0] == first
    assert len({comparable(w) for w in asked}) == len(asked) >= 5
    assert stated in (statement(column, "the gate", "a door", Kind.TEXT), None)


def test_a_table_that_no_bank_could_hold_is_refused(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("Name,Room\n" + "".join(f"Ana {n},{n}\n" for n in range(100_001)))
    status, error = run_facts(capsys, tmp_path / "t.csv", "--out", tmp_path / "facts")
    assert status == 2
    assert "the table has more than 200,000 cells; give the rows that matter" in error


def test_a_workbook_is_read_as_people_see_it(tmp_path, capsys):
    status, told = run_facts(capsys, staff_xlsx(tmp_path / "staff.xlsx"), "--out", tmp_path / "facts")
    asked = answers(tmp_path / "facts" / "staff.jsonl")
    assert status == 0
    assert asked["When was Ana Ruiz born?"] == "1990-05-02"
    assert asked["What is the bonus of Ana Ruiz?"] == "8%"
    assert asked["How much does Ben Holm earn?"] == "2900.50 €"
    assert asked["Does Ana Ruiz have a key?"] == "yes"
    assert asked["What is the room of Ben Holm?"] == "14"
    reasons = {item["why"] for item in told["left_out"]}
    assert reasons == {"it stands above the table", "it holds no table: no row has two cells"}


def test_templates_come_first_and_may_be_for_one_column(tmp_path, capsys):
    (tmp_path / "staff.csv").write_text("Name,Boss,Phone\nAna,Ben,555\nBen,Eva,556\n")
    templates = (
        "Whom does {entity} have as {column}?",
        "phone=On which number do I reach {Boss}'s colleague {entity}?",
    )
    run_facts(capsys, tmp_path / "staff.csv", "--out", tmp_path / "facts", "--template", *templates)
    facts = read_lines(tmp_path / "facts" / "staff.jsonl")
    assert [fact["question"] for fact in facts[:2]] == ["Whom does Ana have as boss?", "Whom does Ana have as phone?"]
    assert facts[1]["questions"][0] == "On which number do I reach Ben's colleague Ana?"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("What does it cost?", "does not say {entity}"),
        ("Who is {entity}?", "would be the same for every column"),
        ("Who is {entity}'s {column} in {town}?", "asks for 'town'; a row has"),
        ("Who is {entity", "cannot be read"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template, told, stations, tmp_path, capsys):
    status, error = run_facts(capsys, stations, "--out", tmp_path / "facts", "--template", template)
    assert status == 2
    assert told in error
    assert not (tmp_path / "facts").exists()


def test_rows_of_one_name_are_told_apart_or_told_as_left_out(tmp_path, capsys):
    rows = "Lamp,hall,red\nLamp,yard,blue\nChair,hall,red\nChair,hall,red\nDesk,hall,red\nDesk,hall,blue\nShelf,,-\nBed,x,red"
    (tmp_path / "things.csv").write_text(f"Thing,Place,Colour\n{rows}\n")
    _, told = run_facts(capsys, tmp_path / "things.csv", "--out", tmp_path / "facts")
    asked = answers(tmp_path / "facts" / "things.jsonl")
    assert asked["What is the colour of Lamp (place yard)?"] == "blue"
    assert asked["What is the colour of Chair?"] == "red"
    assert asked["What is the place of Desk (colour blue)?"] == "hall"
    assert sorted((item["where"], item["why"]) for item in told["left_out"]) == [
        ("things.csv, line 5", "the same row stands twice"),
        ("things.csv, line 8", "the cell is empty"),
        ("things.csv, line 8", "the cell is empty"),
    ]
    assert told["notes"] == [
        "things.csv: 2 rows are called Lamp; their place is added to the name",
        "things.csv: 2 rows are called Desk; their colour is added to the name",
    ]


def test_the_entity_is_the_first_column_of_names_or_the_one_that_is_given(tmp_path, capsys):
    (tmp_path / "orders.csv").write_text("Order no;Customer;Paid\n4711;Ana Ruiz;2024-01-02\n4712;Ana Ruiz;2024-02-03\n")
    run_facts(capsys, tmp_path / "orders.csv", "--out", tmp_path / "facts")
    assert answers(tmp_path / "facts" / "orders.jsonl")["Who is the customer of order 4711?"] == "Ana Ruiz"
    (tmp_path / "staff.csv").write_text("ID,Name,Room\n1,Ana,12\n2,Ben,14\n")
    run_facts(capsys, tmp_path / "staff.csv", "--out", tmp_path / "named")
    assert answers(tmp_path / "named" / "staff.jsonl")["What is the room of Ben?"] == "14"
    run_facts(capsys, tmp_path / "staff.csv", "--out", tmp_path / "numbered", "--entity", "id")
    assert answers(tmp_path / "numbered" / "staff.jsonl")["What is the name of number 1?"] == "Ana"
    status, error = run_facts(capsys, tmp_path / "staff.csv", "--out", tmp_path / "none", "--entity", "Nick")
    assert status == 2
    assert "the table has no column 'Nick'" in error


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Ana,12\nBen,14\n", "the first row is no header ('12' is no name of a column)"),
        ("Name,Room\n", "a header and no rows"),
        ("Name\nAna\n", "no row has two cells"),
        ("Name,Room,Room\nAna,1,2\n", "two columns have one name"),
    ],
)
def test_a_table_without_a_header_or_rows_is_told(text, told, tmp_path, capsys):
    (tmp_path / "t.csv").write_text(text)
    status, error = run_facts(capsys, tmp_path / "t.csv", "--out", tmp_path / "facts")
    assert status == 2
    assert told in error


def test_ragged_rows_and_long_cells(tmp_path, capsys):
    long = "word " * 50
    (tmp_path / "t.csv").write_text(f"Name,Room\nAna,12\nBen\nEva,13,14\nIvo,{long}\n")
    _, told = run_facts(capsys, tmp_path / "t.csv", "--out", tmp_path / "facts")
    assert sorted((item["where"], item["why"]) for item in told["left_out"]) == [
        ("t.csv, line 3", "the cell is empty"),
        ("t.csv, line 4", "the row has more cells than the header"),
    ]
    assert (tmp_path / "facts" / "t.md").read_text().startswith("Room of Ivo: word word")


def test_a_column_without_a_name_is_told(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("Name,,Room\nAna,x,12\nBen,y,14\n")
    _, told = run_facts(capsys, tmp_path / "t.csv", "--out", tmp_path / "facts")
    assert [(item["what"], item["why"]) for item in told["left_out"]] == [("column 2", "the column has no name")]
