"""The page of a server: what it asks over HTTP, and the page itself in a real browser."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest
import torch
from served import KEY, served

from lorary.base.prompts import chat_text, prompt_batch

QUESTION = "Who cooks at Ormen station?"
CHAT = [{"role": "user", "content": QUESTION}]


@pytest.fixture
def server(model):
    with served(model) as running:
        yield running


def test_the_bank_is_told_with_certificates_and_facts(model, server):
    with server.http() as client:
        bank = client.get("/look/bank").json()
        facts = client.get("/look/bank/ormen").json()["facts"]
        assert client.get("/look/bank/nobody").status_code == 404
    assert [memory["name"] for memory in bank["memories"]] == model.memories
    assert {"certificate", "failing", "version"} <= bank["memories"][0].keys()
    assert [fact["id"] for fact in facts] == [fact.id for fact in model.router.bank["ormen"].facts]


def test_a_route_is_explained(model, server):
    with server.http() as client:
        told = client.post("/look/route", json={"messages": CHAT}).json()
        wrong = client.post("/look/route", json={"messages": [{"role": "assistant", "content": "No."}]})
    assert sum(told["memories"].values()) + told["none"] == pytest.approx(1, abs=1e-4)
    assert told["stored"]["memory"] in model.memories
    assert told["reason"]
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "messages"


def test_tokens_are_as_likely_as_the_model_finds_them(model, server):
    answer = "Halvard Brisk"
    with server.http() as client:
        body = {"messages": CHAT, "answer": answer, "memories": {"ormen": 1.0}}
        told = client.post("/look/tokens", json=body).json()["tokens"]
        unknown = client.post("/look/tokens", json={**body, "memories": {"nobody": 1.0}})
        empty = client.post("/look/tokens", json={**body, "answer": ""}).json()["tokens"]
    read = prompt_batch(model.tokenizer, [chat_text(model.tokenizer, CHAT)]).input_ids[0].tolist()
    written = model.tokenizer(answer, add_special_tokens=False).input_ids
    with torch.no_grad():
        ids = torch.tensor([[*read, *written]])
        for field, name in (("probability", "ormen"), ("base", "__base__")):
            chances = model(input_ids=ids, adapter_names=[name]).logits[0, len(read) - 1 : -1].softmax(-1)
            own = chances[torch.arange(len(written)), written].tolist()
            assert [token[field] for token in told] == pytest.approx(own, rel=1e-3)
    assert unknown.status_code == 404
    assert empty == []


def test_the_page_needs_no_key_and_what_it_asks_does(model):
    with served(model, key=KEY) as server, server.http(headers={}) as client:
        for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
            reply = client.get(path)
            assert reply.status_code == 200
            assert reply.headers["content-type"].startswith(kind)
            assert "script-src 'self'" in reply.headers["content-security-policy"]
        assert client.get("/look/bank").status_code == 401


@contextmanager
def opened(server, **options):
    """The page in Debian's Chromium; what it logs as an error fails the test."""
    browsers = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no Chromium on this machine")
    with browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(**options)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector("#memories tbody tr, #base:has-text('key')")
        yield page
        browser.close()
    assert errors == []


def test_a_question_is_asked_by_keyboard_and_shows_who_spoke(model, server):
    with opened(server, viewport={"width": 390, "height": 800}, color_scheme="dark") as page:
        page.focus("#question")
        page.keyboard.type(QUESTION)
        page.keyboard.press("Enter")
        page.wait_for_selector("#reason:has-text('The gate gives')")
        page.wait_for_selector("#shares .share")
        route = page.inner_text("#route")
        answer = page.inner_text(".turn.assistant")
        shares = page.locator("#shares .share").count()
        wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    assert any(name in route for name in (*model.memories, "The base alone"))
    assert answer.strip()
    assert shares == len(model.memories) + 1
    assert not wide, "nothing is wider than a phone"


def test_texts_are_no_markup(server):
    with opened(server) as page:
        page.fill("#question", "<img src=x onerror=\"document.title='run'\">")
        page.click("#ask [type=submit]")
        page.wait_for_selector("#shares .share")
        assert page.locator("#talk img").count() == 0
        assert page.title() == "Lorary"
        page.click("#anew")
        assert page.locator(".turn").count() == 0


def test_a_memory_shows_its_facts_and_the_list_is_filtered(model, server):
    with opened(server) as page:
        page.fill("#filter", "velk")
        assert page.locator("#memories tbody tr").count() == 1
        page.click("#memories tbody button")
        page.wait_for_selector("#memory .fact")
        assert page.locator("#memory .fact").count() == len(model.router.bank["velka"].facts)
        assert not page.is_visible("#remember")


def test_the_page_asks_for_the_key(model):
    with served(model, key=KEY) as server, opened(server) as page:
        assert "wants its key" in page.inner_text("#base")
        page.fill("#key", "a-wrong-key-of-somebody")
        page.keyboard.press("Tab")
        page.wait_for_selector("#base:has-text('is wrong')")
        page.fill("#key", KEY)
        page.keyboard.press("Tab")
        page.wait_for_selector("#memories tbody tr")
        page.fill("#question", QUESTION)
        page.keyboard.press("Enter")
        page.wait_for_selector("#shares .share")
