"""The card of a saved composite, and its way to a hub."""

from __future__ import annotations

import base64
import inspect
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from unittest.mock import Mock

import pytest
from huggingface_hub import HfApi, ModelCard
from transformers.utils.hub import PushToHubMixin

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.base.loading import EMBEDDED
from lorary.errors import LoraryError
from lorary.model.card import card, escaped
from lorary.model.composite import load_composite
from lorary.model.refreshing import refresh
from lorary.routing.encoder import load_encoder

AWKWARD = "Who | says <script>alert(1)</script> [x](http://a.example) `y` *z* @you & # --- $e^x$ \\ end?\n\n# Title"


def test_the_card_tells_what_each_memory_holds_and_how_it_was_measured(bank, composite, tmp_path):
    bank.memories["velka"] = replace(
        bank["velka"],
        card={
            **bank["velka"].card,
            "certificate": {"recall_by_wording": {"validation": {"value": 0.75, "low": 0.3, "high": 0.95}}},
        },
    )
    composite.save_pretrained(tmp_path / "c")
    loaded = ModelCard.load(tmp_path / "c" / "README.md")
    assert loaded.data.library_name == "lorary"
    assert loaded.data.pipeline_tag == "text-generation"
    assert {"lorary", "lora"} <= {*loaded.data.tags}
    assert "| velka | 2 | 0 | 75% (30 to 95) | Who cooks at Velka station\\? |" in loaded.content
    assert "| ormen | 2 | 0 | – |" in loaded.content
    assert "is loaded by the name in `bank.json`" in loaded.content
    composite.save_pretrained(tmp_path / "whole", include_base=True)
    assert "The base is in this folder." in (tmp_path / "whole" / "README.md").read_text()


def test_no_path_of_this_machine_stands_in_it(bank, base):
    text = card(bank, with_base=False)
    assert bank.base.startswith("/")
    assert bank.base.rpartition("/")[0] not in text
    assert ModelCard(text).data.base_model is None


def test_a_base_on_a_hub_is_named_with_its_licence_where_it_is_known(bank):
    bank.base = EMBEDDED
    data = ModelCard(card(bank, with_base=True)).data
    assert (data.base_model, data.license) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
    bank.base = "someone/pico"
    data = ModelCard(card(bank, with_base=True)).data
    assert (data.base_model, data.license) == ("someone/pico", None)
    assert data.to_dict()["base_model_relation"] == "adapter"


def test_what_a_bank_says_is_shown_as_it_stands(bank):
    markdown = pytest.importorskip("markdown_it")
    bank.memories["velka"] = replace(
        bank["velka"], facts=(replace(bank["velka"].facts[0], question=AWKWARD), *bank["velka"].facts[1:])
    )
    body = ModelCard(card(bank, with_base=False)).text
    tokens = markdown.MarkdownIt("commonmark").enable("table").parse(body)
    cells = [token for token in tokens if token.type == "inline" and "says" in token.content]
    (cell,) = cells
    assert {child.type for child in cell.children} == {"text"}
    assert "".join(child.content for child in cell.children) == " ".join(AWKWARD.split())
    headings = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[1:] == ["What it holds", "How to load it", "Licence"]
    assert not [token for token in tokens if token.type == "html_block"]


def test_a_long_text_is_cut_and_one_of_controls_is_empty():
    assert len(escaped("a" * 1000)) == 160
    assert escaped("\x00\x1b\n") == ""


def test_a_card_is_kept_true_until_a_person_changes_it(stations):
    bank, composite = stations
    model = load_composite(composite)
    model.save_pretrained(composite)
    file = composite / "README.md"
    assert "tresk" in file.read_text()
    model.remove_memory("tresk")
    model.save_pretrained(composite)
    assert "tresk" not in file.read_text()
    assert refresh(composite, bank).added == ("tresk",)
    assert "tresk" in file.read_text(), "what refresh takes up is told, too"
    file.write_text(file.read_text().replace("# A composite", "# My composite"))
    model = load_composite(composite)
    model.remove_memory("tresk")
    model.save_pretrained(composite)
    assert "# My composite" in file.read_text()
    assert "tresk" not in file.read_text(), "what Lorary wrote stays true"
    file.write_text("# Mine alone\n")
    model.save_pretrained(composite)
    assert file.read_text() == "# Mine alone\n"


def test_what_is_forgotten_leaves_the_rows_of_a_card_that_a_person_changed(stations):
    """The rows that Lorary wrote; a person's own lines stay, wherever they stand."""
    bank, composite = stations
    file, forgotten = composite / "README.md", load_composite(composite).router.bank["velka"].facts[0]
    load_composite(composite).save_pretrained(composite)
    wanted = escaped(forgotten.question)
    assert wanted in file.read_text()
    lines = file.read_text().split("\n")
    row = next(number for number, line in enumerate(lines) if line.startswith("| ormen"))
    lines[row] += " my note"
    file.write_text("\n".join(["My own line.", *lines, "My last words.", ""]))
    with MemoryBank.change(bank) as changed:
        old = changed.memories["velka"]
        changed.memories["velka"] = replace(old, facts=old.facts[1:]).with_keys(load_encoder(changed.encoder))
        changed.remove("tresk")
    refresh(composite, bank)
    text = file.read_text()
    assert wanted not in text
    assert "| tresk" not in text
    assert f"| velka | {len(old.facts) - 1} |" in text
    assert "A composite of 2 memories" in text
    assert text.startswith("My own line.\n")
    assert text.endswith("My last words.\n")
    assert text.count(" my note\n") == 1
    refresh(composite, bank)
    assert file.read_text() == text


def test_a_memory_that_joins_by_the_command_is_told(stations):
    _, composite = stations
    load_composite(composite).save_pretrained(composite)
    (composite / "notes.md").write_text("The quay of Ormen is swept on Mondays.\n")
    assert main(["add", str(composite), "--name", "quay", "--documents", str(composite / "notes.md")]) == 0
    text = (composite / "README.md").read_text()
    assert "| quay | 0 | 1 |" in text
    assert "A composite of 4 memories" in text


class Hub(BaseHTTPRequestHandler):
    """What of a hub's interface an upload of small files needs."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.calls.append(self.path)
        self.server.bodies[self.path] = body
        if self.path == "/api/repos/create":
            self._reply({"url": f"http://127.0.0.1:{self.server.server_port}/me/{json.loads(body)['name']}"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self._reply({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.server.files |= {file["path"]: base64.b64decode(file["content"]) for file in files}
            self._reply({"commitUrl": "http://127.0.0.1/me/c/commit/1", "commitOid": "1", "success": True})
        else:
            self._reply({})

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if "/resolve/" in self.path:
            content = self.server.files.get(self.path.partition("/resolve/main/")[2])
            self._send(200 if content is not None else 404, content or b"", "text/plain")
        else:
            self._reply({"id": "me/c", "sha": "1", "siblings": []})

    def _reply(self, content):
        self._send(200, json.dumps(content).encode(), "application/json")

    def _send(self, status, data, kind):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("etag", f'"{hash(data)}"')
        self.send_header("x-repo-commit", "1")
        if status == 404:
            self.send_header("x-error-code", "EntryNotFound")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    """A hub of this machine's own."""
    from huggingface_hub import constants

    server = HTTPServer(("127.0.0.1", 0), Hub)
    server.calls, server.files, server.bodies = [], {}, {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    template = f"http://127.0.0.1:{server.server_port}" + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()


def test_push_to_hub_uploads_the_card_with_all_else(composite, tmp_path, hub):
    composite.save_pretrained(tmp_path / "c", push_to_hub=True, repo_id="me/c", token="hf_none")
    assert hub.calls[0] == "/api/repos/create"
    written = {str(file.relative_to(tmp_path / "c")) for file in (tmp_path / "c").rglob("*") if file.is_file()}
    assert {"README.md", "bank.json", "config.json"} <= hub.files.keys() <= written
    assert hub.files["README.md"] == (tmp_path / "c" / "README.md").read_bytes()


def test_push_to_hub_takes_what_that_of_transformers_does(composite, hub, monkeypatch):
    taken = {*inspect.signature(PushToHubMixin.push_to_hub).parameters} - {"self", "repo_id"}
    given = {
        "commit_message": "m",
        "commit_description": "d",
        "private": True,
        "token": "hf_none",
        "revision": "trial",
        "create_pr": False,
        "max_shard_size": "1GB",
        "tags": ["stations"],
    }
    assert {*given} == taken
    assert composite.push_to_hub("me/c", **given) == "http://127.0.0.1/me/c/commit/1"
    assert "/api/models/me/c/branch/trial" in hub.calls
    [commit] = [path for path in hub.calls if "/commit/" in path]
    assert commit.partition("?")[0].endswith("/commit/trial")
    assert json.loads(hub.bodies[commit].splitlines()[0])["value"] == {"summary": "m", "description": "d"}
    assert json.loads(hub.bodies["/api/repos/create"])["visibility"] == "private"
    tagged = hub.files["README.md"]
    assert {"lorary", "stations"} <= {*ModelCard(tagged.decode()).data.tags}
    with pytest.raises(LoraryError, match="create_pr and revision"):
        composite.push_to_hub("me/c", create_pr=True, revision="trial")
    composite.push_to_hub("me/c", token="hf_none")
    assert hub.files["README.md"] != tagged, "with the tags it is our own card still"
    taken = {}
    monkeypatch.setattr(HfApi, "upload_folder", lambda api, **options: taken.update(options) or Mock())
    composite.push_to_hub("me/c", token="hf_none", create_pr=True)
    assert taken["create_pr"] is True


def test_a_card_that_a_person_wrote_there_stays(composite, hub):
    composite.push_to_hub("me/c", token="hf_none")
    assert "A composite of 3 memories" in hub.files["README.md"].decode()
    composite.remove_memory("lamps")
    composite.push_to_hub("me/c", token="hf_none")
    assert "A composite of 2 memories" in hub.files["README.md"].decode(), "our own is written anew"
    hub.files["README.md"] = b"# Mine\n"
    composite.push_to_hub("me/c", token="hf_none", commit_message="again")
    assert hub.files["README.md"] == b"# Mine\n"
