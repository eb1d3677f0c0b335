"""A chat interface's log of requests, as Open WebUI sends them, is replayed: none is refused, each reply is as it reads it."""

from __future__ import annotations

import json

from served import KEY, served

CHAT = "/v1/chat/completions"
TASK = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n### Output:\nJSON format: "
TASK += '{ "title": "your concise title here" }\n### Chat History:\n<chat_history>\nUSER: Who cooks at Ormen?\n</chat_history>'
TAGS = "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history.\n### Chat History:\nUSER: Who cooks?"
SYSTEM = {"role": "system", "content": "You are a helpful assistant. Today is 2026-11-30."}
USER = {"role": "user", "content": "Who cooks at Ormen station?"}
ANSWERED = {"role": "assistant", "content": "Halvard"}
FROM_PAGE = {
    "chat_id": "5f0c2c1e-3d1b-4c39-9b0f-1b1f5a1f7a10",
    "id": "9a7d1c55-61c3-4a1e-9a3d-52f9c0f5b8a4",
    "session_id": "Zk3p0mS1xQ2nAAAB",
    "filter_ids": [],
    "tool_servers": [],
    "features": {"voice": False, "image_generation": False, "code_interpreter": False, "web_search": False},
    "variables": {"{{USER_NAME}}": "Tilde", "{{CURRENT_DATE}}": "2026-11-30"},
    "model_item": {"id": "lorary", "object": "model", "owned_by": "lorary", "connection_type": "external", "tags": []},
    "background_tasks": {"title_generation": True, "tags_generation": True, "follow_up_generation": True},
    "params": {},
}
"""What its page adds where it asks an address by itself; asked through its own server, less of it comes."""
UNSET = {"temperature": None, "max_tokens": None, "stop": None, "seed": None, "top_p": None, "logit_bias": None}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def task(name, content, **more):
    """A request of its own, beside the chat."""
    messages = [{"role": "user", "content": content}]
    metadata = {"task": name, "chat_id": FROM_PAGE["chat_id"], "task_body": {"model": "lorary", "messages": [USER]}}
    return CHAT, {"model": "lorary", "messages": messages, "stream": False, "metadata": metadata, **more}


LOG = [
    ("/v1/models", None),
    (CHAT, {"model": "lorary", "messages": [USER], **STREAM, **FROM_PAGE, "max_tokens": 12}),
    task("title_generation", TASK, max_completion_tokens=12),
    task("tags_generation", TAGS, max_tokens=12),
    ("/v1/models", None),
    (CHAT, {"model": "lorary", "messages": [SYSTEM, USER, ANSWERED, USER], **STREAM, **UNSET, "max_tokens": 12}),
    (CHAT, {"model": "lorary:velka", "messages": [{"role": "user", "content": [{"type": "text", "text": "Who cooks?"}]}],
            **STREAM, "max_tokens": 12, "num_ctx": 4096, "keep_alive": "5m", "function_calling": "native", "tools": []}),
    task("autocomplete_generation", "### Task:\nComplete: Who cooks", max_tokens=12),
    ("/v1/models", None),
]  # fmt: skip


def events(reply):
    """The events of a stream, the last one apart."""
    lines = [line for line in reply.text.split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_the_log_of_a_chat_interface_is_answered(model):
    with served(model, key=KEY) as server, server.http(headers={"authorization": f"Bearer {KEY}"}) as client:
        for path, body in LOG:
            reply = client.get(path) if body is None else client.post(path, json=body)
            assert reply.status_code == 200, (body, reply.text)
            if body is None:
                assert [own["id"] for own in reply.json()["data"]][:2] == ["lorary", "lorary:ormen"]
                assert all(own["object"] == "model" for own in reply.json()["data"])
            elif body["stream"]:
                *chunks, last = events(reply)
                assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
                assert all(chunk["usage"] is None and chunk["object"] == "chat.completion.chunk" for chunk in chunks)
                assert last["choices"] == []
                assert (
                    last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]
                )
                assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
                assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")
                assert chunks[0]["lorary"]["source"] in ("gate", "index", "caller", "none")
            else:
                [choice] = reply.json()["choices"]
                assert choice["message"]["role"] == "assistant"
                assert isinstance(choice["message"]["content"], str)


def test_what_a_chat_interface_may_send_and_no_text_model_takes_is_told(model):
    """An image, and tools: the interface shows the message of the error."""
    image = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    ]
    tool = {"type": "function", "function": {"name": "search", "parameters": {}}}
    with served(model) as server, server.http() as client:
        for body in (
            {"model": "lorary", "messages": [{"role": "user", "content": image}], **STREAM},
            {"model": "lorary", "messages": [USER], "tools": [tool], **STREAM},
        ):
            reply = client.post(CHAT, json=body)
            assert reply.status_code == 400
            assert reply.json()["error"]["message"]
