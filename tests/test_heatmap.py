"""Heat maps: the weights are those that the answer was made under, and both files show them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import SMALL
from matplotlib.image import imread

from lorary.__main__ import main
from lorary.answering.answers import answer
from lorary.answering.heatmap import HeatMap, check_ending, heat_map, token_label
from lorary.routing.policy import Policy

QUESTION = "Who cooks at Ormen station?"


def rows_of(html):
    """Each row of a page's table: (token, the weights as written)."""
    rows = re.findall(r'<tr><th scope="row" title="[^"]*">(.*?)</th>(.*?)</tr>', html, re.DOTALL)
    return [(token, [float(w or 0) for w in re.findall(r"<td[^>]*>(.*?)</td>", cells)]) for token, cells in rows]


@pytest.mark.parametrize("which", ["token_composite", "window_composite"])
def test_token_rows_are_what_generate_applied(which, request):
    composite, applied = request.getfixturevalue(which), []
    hook = composite.register_forward_hook(lambda _, args, output: applied.append(output.route_weights[0]))
    found = answer(composite, QUESTION, max_new_tokens=6)
    hook.remove()
    shown = heat_map(composite, found)
    during = torch.cat(applied)
    assert len(shown.tokens) == len(found.ids) == len(during) + 1, "the last token was said, and never read by generate"
    assert torch.equal(shown.weights[:-1], during)
    assert shown.prompt_tokens == found.prompt_tokens
    assert len({tuple(row) for row in shown.weights.tolist()}) > 2, "rows differ"
    assert (shown.weights != 0).any(0).sum() > 1, "memories differ"


def test_query_rows_are_all_the_same_and_the_caption_says_so(composite):
    found = answer(composite, QUESTION, policy=Policy(t_gate=0.0), max_new_tokens=4)
    shown = heat_map(composite, found)
    held = dict(zip(found.route.memories, found.route.weights, strict=True))
    expected = torch.tensor([held.get(name, 0.0) for name in composite.memories])
    assert torch.equal(shown.weights, expected.expand(len(found.ids), -1))
    assert "every row is the same" in shown.caption
    nothing = heat_map(composite, answer(composite, QUESTION, policy=Policy(sources=()), max_new_tokens=4))
    assert not nothing.weights.any()


def test_a_gate_that_reads_the_hidden_state_decides_on_the_prompt_alone(token_composite):
    token_composite.config.granularity = "query"
    found = answer(token_composite, QUESTION, max_new_tokens=4)
    shown = heat_map(token_composite, found)
    assert shown.weights.unique(dim=0).shape[0] == 1
    assert dict(zip(found.route.memories, found.route.weights, strict=True)) == {
        name: pytest.approx(weight)
        for name, weight in zip(shown.memories, shown.weights[0].tolist(), strict=True)
        if weight
    }


def test_the_policy_and_the_passages_of_the_answer_are_shown(token_composite):
    policy = replace(token_composite.router.policy, passages=2, top_k=1)
    shown = heat_map(token_composite, answer(token_composite, QUESTION, policy=policy, max_new_tokens=2))
    assert "Halvard" in "".join(shown.tokens[: shown.prompt_tokens])
    assert ((shown.weights != 0).sum(-1) <= 1).all()
    assert "hybrid, 2 in the prompt" in shown.route


def test_the_page_needs_nothing_and_shows_every_weight(token_composite, tmp_path):
    shown = heat_map(token_composite, answer(token_composite, QUESTION, max_new_tokens=4))
    shown.write(tmp_path / "new" / "map.HTML")
    html = (tmp_path / "new" / "map.HTML").read_text()
    assert not re.search(r"(src|href)=|url\(|@import|<script", html)
    assert "width=device-width" in html
    assert "prefers-color-scheme: dark" in html
    rows = rows_of(html)
    assert len(rows) == len(shown.tokens)
    assert torch.allclose(torch.tensor([weights for _, weights in rows]), shown.weights, atol=0.0051)


def wild(**changes):
    weights = torch.tensor([[0.5, 0.0], [0.0, 0.25], [0.0, 0.0]])
    told = {"memories": ("a", "b<i>"), "granularity": "token", "question": "<script>x</script>", "route": "a by gate"}
    return HeatMap(**{"tokens": ("$a_{$", "<script>", "↵"), "prompt_tokens": 2, "weights": weights, **told, **changes})


def test_what_was_asked_cannot_write_the_page(tmp_path):
    wild().write(tmp_path / "map.html")
    html = (tmp_path / "map.html").read_text()
    assert "<script" not in html
    assert "<i>" not in html.split("<table>")[1]
    assert [weights for _, weights in rows_of(html)] == [[0.5, 0.0], [0.0, 0.25], [0.0, 0.0]]


def test_the_image_is_darker_where_weights_are_greater(tmp_path):
    wild().write(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    full = imread(tmp_path / "map.png")[..., :3]
    wild(weights=torch.zeros(3, 2)).write(tmp_path / "none.png")
    empty = imread(tmp_path / "none.png")[..., :3]
    assert full.shape == empty.shape
    assert full.mean() < empty.mean() - 0.01


def test_every_token_has_a_label_that_can_be_seen(tokenizer):
    labels = [token_label(tokenizer, token) for token in range(SMALL["vocab_size"] + 9)]
    assert all(label and label.isprintable() and not label.isspace() for label in labels)
    assert labels[-1] == f"<{len(labels) - 1}>", "what the tokenizer does not know has its number"
    assert token_label(tokenizer, tokenizer.convert_tokens_to_ids("Ċ")) == "↵"


def test_a_long_prompt_still_makes_an_image(tmp_path):
    many = {"tokens": ("x",) * 2500, "prompt_tokens": 2400, "weights": torch.rand(2500, 2)}
    wild(**many).write(tmp_path / "map.png")
    assert imread(tmp_path / "map.png").shape[0] <= 30_000


@pytest.mark.parametrize("name", ["map.svg", "map", "map.png.gz"])
def test_another_ending_is_one_error_before_anything_runs(name, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"give a name that ends in \.png or \.html"):
        check_ending(name)
    assert main(["ask", str(tmp_path / "nowhere"), QUESTION, "--heatmap", name]) == 2
    told = capsys.readouterr().err
    assert told == f"lorary: error: a heat map cannot be written to '{name}'; give a name that ends in .png or .html\n"


def test_the_command_writes_both(token_composite, tmp_path, capsys):
    token_composite.save_pretrained(tmp_path / "composite")
    for name in ("map.png", "map.html"):
        asked = ["ask", str(tmp_path / "composite"), QUESTION, "--trace", "--max-new-tokens=3"]
        assert main([*asked, "--heatmap", str(tmp_path / name)]) == 0
        assert "route: " in capsys.readouterr().out
    assert imread(tmp_path / "map.png").ndim == 3
    html = (tmp_path / "map.html").read_text()
    assert QUESTION in html
    assert "routes by token" in html


def test_matplotlib_is_loaded_by_who_draws_alone():
    code = "import sys, lorary, lorary.answering.heatmap, lorary.answering.command; print('matplotlib' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
