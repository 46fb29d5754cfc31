"""Callers without an SDK, so that nothing is forgiven and every byte is seen: one for each wire that they may speak."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

QUESTION = "How deep does the kelp grow?"
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
ENDS = {"end_turn": "stop", "max_tokens": "length", "content_filter": "refused", "refusal": "refused"}
"""How a wire says why an answer ended, where it has a word of its own."""


@dataclass
class Told:
    """What one caller was told.

    `finish` is why the answer ended, `whole` whether it was closed as a whole one is. `usage` counts (input, output)
    tokens, `holdfast` is the object or the headers of that name, `error` what the wire's envelope of one holds. `text`
    is what follows the last of the `resets`. Seconds: `took` to the last byte, `first` to the first word.
    """

    wire: str
    streamed: bool
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    finish: str | None = None
    whole: bool = False
    usage: tuple[int, int] | None = None
    holdfast: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    resets: int = 0
    took: float = 0.0
    first: float | None = None

    @property
    def code(self) -> str | None:
        """What an error is called on this wire: OpenAI's `code`, Anthropic's `type`."""
        return None if self.error is None else self.error["code" if self.wire == "openai" else "type"]


@dataclass
class Caller:
    """Asks for `name` at `url` on one wire."""

    session: aiohttp.ClientSession
    url: str
    wire: str
    name: str
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    async def ask(self, streamed: bool, *, leave_after: int | None = None) -> Told:
        """Make one call. With `leave_after` the caller hangs up after so many events of the stream."""
        told, begin = Told(self.wire, streamed), time.monotonic()
        body = {"model": self.name, "messages": [{"role": "user", "content": QUESTION}], "stream": streamed}
        body |= {"max_tokens": 1000} if self.wire == "anthropic" else {}
        body |= {"stream_options": {"include_usage": True}} if streamed and self.wire == "openai" else {}
        body |= self.fields
        async with self.session.post(self.url + PATHS[self.wire], json=body, headers=self.headers) as response:
            told.status = response.status
            told.headers = {key.lower(): value for key, value in response.headers.items()}
            if response.content_type != "text/event-stream":
                _read(told, await response.json())
            else:
                await self._listen(response, told, begin, leave_after)
        told.took = time.monotonic() - begin
        return told

    async def leave(self, streamed: bool, seconds: float) -> None:
        """Ask, and hang up when that takes longer than some seconds, which it must."""
        try:
            async with asyncio.timeout(seconds):
                await self.ask(streamed)
        except TimeoutError:
            return
        raise AssertionError("the answer came before the caller's patience ended")

    async def _listen(
        self, response: aiohttp.ClientResponse, told: Told, begin: float, leave_after: int | None
    ) -> None:
        count = 0
        async for name, data in _events(response.content):
            assert not told.whole, f"an event follows the end: {data}"
            assert told.error is None, f"an event follows the error: {data}"
            _hear(told, name, data)
            if told.first is None and told.text:
                told.first = time.monotonic() - begin
            count += 1
            if count == leave_after:
                response.close()
                return


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str]]:
    """Iterate over the events of a stream as pairs of name and data; the gateway sends none but the plainest form."""
    held = b""
    async for piece in content.iter_any():
        *blocks, held = (held + piece).split(b"\n\n")
        for block in blocks:
            lines = dict([line.split(": ", 1) for line in block.decode().split("\n")])
            assert set(lines) <= {"event", "data"}, block
            yield lines.get("event", ""), lines["data"]
    assert not held, f"the stream ended in the middle of an event: {held!r}"


def _hear(told: Told, name: str, data: str) -> None:
    if data == "[DONE]":
        told.whole = True
    elif name == "holdfast.reset":
        _reset(told, json.loads(data))
    elif told.wire == "openai":
        _hear_openai(told, json.loads(data))
    else:
        _hear_anthropic(told, json.loads(data), name)


def _reset(told: Told, payload: dict[str, Any]) -> None:
    if told.wire == "openai":
        assert (payload["object"], payload["choices"]) == ("chat.completion.chunk", [])
        assert payload["holdfast"] == {"event": "reset"}
    else:
        assert payload["type"] == "holdfast.reset"
    told.text, told.resets = "", told.resets + 1


def _hear_openai(told: Told, payload: dict[str, Any]) -> None:
    if "error" in payload:
        told.error = payload["error"]
        told.holdfast = payload["error"].get("holdfast", {})
        return
    told.holdfast = payload.get("holdfast", told.holdfast)
    if usage := payload.get("usage"):
        told.usage = (usage["prompt_tokens"], usage["completion_tokens"])
    for choice in payload["choices"]:
        assert told.finish is None, "the answer goes on after its end"
        told.text += choice["delta"].get("content") or ""
        if choice["finish_reason"]:
            told.finish = _end(choice["finish_reason"])


def _hear_anthropic(told: Told, payload: dict[str, Any], name: str) -> None:
    assert payload["type"] == name
    told.holdfast = payload.get("holdfast", told.holdfast)
    match name:
        case "error":
            told.error = payload["error"]
        case "content_block_delta":
            assert told.finish is None, "the answer goes on after its end"
            told.text += payload["delta"].get("text", "")
        case "message_delta":
            told.finish = _end(payload["delta"]["stop_reason"])
            told.usage = (payload["usage"].get("input_tokens", 0), payload["usage"]["output_tokens"])
        case "message_stop":
            told.whole = True


def _read(told: Told, body: dict[str, Any]) -> None:
    prefix = "x-holdfast-"
    told.holdfast = {key.removeprefix(prefix): told.headers[key] for key in told.headers if key.startswith(prefix)}
    if told.status != 200:
        told.error = body["error"]
        assert told.wire == "openai" or body["type"] == "error"
        return
    told.whole = True
    if told.wire == "openai":
        (choice,) = body["choices"]
        told.text, told.finish = choice["message"]["content"] or "", _end(choice["finish_reason"])
        usage = body.get("usage", {})
        told.usage = (usage["prompt_tokens"], usage["completion_tokens"]) if usage else None
    else:
        told.text = "".join([block["text"] for block in body["content"] if block["type"] == "text"])
        told.finish = _end(body["stop_reason"])
        told.usage = (body["usage"]["input_tokens"], body["usage"]["output_tokens"])


def _end(word: str) -> str:
    return ENDS.get(word, word)
