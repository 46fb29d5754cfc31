"""Requests to a model: values of `chat.py` to the body of POST /v1/messages. `upstream.py` says what gets lost."""

from typing import Any

import msgspec
from msgspec import Raw

from holdfast.chat import Message, Reasoning, Request, ResponseFormat, Text, Tool
from holdfast.errors import BadRequest
from holdfast.providers.anthropic import answer_tool
from holdfast.providers.anthropic.abilities import Abilities
from holdfast.providers.anthropic.content import Json, blocks_of, encode_json, encode_parts, is_null
from holdfast.providers.anthropic.thinking import Thinking, plan_thinking
from holdfast.providers.base import Endpoint, Source
from holdfast.providers.decoding import Unsayable
from holdfast.providers.private import private_to_others

DEFAULT_MAX_TOKENS = 4096
_ONLY_JSON = "Answer with a single JSON object and nothing else: no code fence, no words around it."
_NEVER_SENT = frozenset({"holdfast"})
_PRIVATE = _NEVER_SENT | private_to_others("anthropic")
_MODES = {"auto": "auto", "none": "none", "required": "any", "named": "tool"}
_FUNCTIONS = (None, "custom", "function")
_OBJECT = msgspec.json.Decoder(dict[str, Any])


class RequestEncoder:
    """Encodes one request. What nobody changed since it was decoded from this same wire goes out as it came in."""

    def __init__(self, request: Request, source: Source | None, endpoint: Endpoint, able: Abilities) -> None:
        self.request = request
        self.foreign = source is not None and source.wire != "anthropic"
        self.source = None if self.foreign else source
        self.endpoint = endpoint
        self.able = able

    def body(self) -> bytes:
        """Return the body. Raises BadRequest."""
        try:
            self.request = answer_tool.asked(self.request, self.able, self.endpoint.body)
            self._check()
            return encode_json(self._fields())
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadRequest(f"The request can't be written as JSON: {error}") from None

    def _check(self) -> None:
        if self.request.n != 1:
            raise BadRequest(f"{self.endpoint.model} gives one answer a request, not {self.request.n}.", param="n")
        if self.request.top_logprobs is not None:
            raise BadRequest(f"{self.endpoint.model} tells no log-probabilities.", param="logprobs")
        reserved = any(tool.name == answer_tool.NAME for tool in self.request.tools)
        if reserved and not answer_tool.forces(self.request):
            raise BadRequest(f"No tool can be named {answer_tool.NAME}.", param="tools")

    def _fields(self) -> Json:
        request = self.request
        thinking = plan_thinking(request, self.able)
        config = self._kept_thinking() or thinking.config
        fields: Json = {
            "model": self.endpoint.model,
            "max_tokens": self._max_tokens(thinking),
            "system": self._system(),
            "messages": self._messages(),
            "tools": [self._tool(tool) for tool in request.tools] or None,
            "tool_choice": self._tool_choice(),
            "thinking": config,
            "output_config": self._output_config(thinking),
            "output_format": self._kept("output_format", "response_format"),
            "stop_sequences": request.stop or None,
            "stream": request.stream or None,
            **self._sampling(thinks=thinking.budget > 0),
        }
        said = {name: value for name, value in fields.items() if value is not None}
        return {**self.endpoint.body, **self._extra(), **said}

    # --- what nobody changed ---

    def _kept(self, field: str, *attributes: str) -> Raw | None:
        """Return a field as it came, if the attributes that were decoded from it are still the same objects."""
        if self.source is None or (raw := self.source.fields.get(field)) is None or is_null(raw):
            return None
        before = self.source.request
        same = all(getattr(before, attribute) is getattr(self.request, attribute) for attribute in attributes)
        return raw if same else None

    def _kept_thinking(self) -> Raw | None:
        raw = self._kept("thinking", "reasoning_effort", "reasoning_tokens")
        return raw if raw is not None and _OBJECT.decode(raw).get("type") in self.able.thinking else None

    # --- fields ---

    def _extra(self) -> Json:
        extra = self.request.extra
        if self.foreign:
            user = extra.get("safety_identifier") or extra.get("user")
            for name in ("tool_choice", "response_format"):
                if name in extra:
                    raise BadRequest(f"{self.endpoint.model} can't do what `{name}` asks for.", param=name)
            mine = {name: value for name, value in extra.items() if name not in _PRIVATE}
            return mine | ({"metadata": {"user_id": user}} if isinstance(user, str) else {})
        before = self.source.request.extra if self.source else {}
        raws = self.source.fields if self.source else {}
        return {
            name: raws[name] if name in raws and before.get(name) is value else value
            for name, value in extra.items()
            if name not in _NEVER_SENT
        }

    def _max_tokens(self, thinking: Thinking) -> int:
        if self.request.max_tokens is not None:
            return self.request.max_tokens
        default = self.endpoint.body.get("max_tokens", DEFAULT_MAX_TOKENS)
        return (default if isinstance(default, int) else DEFAULT_MAX_TOKENS) + thinking.budget

    def _sampling(self, *, thinks: bool) -> Json:
        request = self.request
        if thinks or not self.able.sampling:
            return {}
        temperature = request.temperature if request.temperature is None else min(request.temperature, 1.0)
        return {"temperature": temperature, "top_p": request.top_p, "top_k": request.top_k}

    def _tool(self, tool: Tool) -> Raw | Json:
        if self.source is not None and (raw := self.source.tool(tool)) is not None:
            return raw
        if self.foreign and tool.extra.get("type") not in _FUNCTIONS:
            raise BadRequest(f"{self.endpoint.model} has no tool of the type {tool.extra['type']!r}.", param="tools")
        if tool.extra.get("type") not in _FUNCTIONS:
            return {"name": tool.name, **tool.extra}
        fields: Json = {} if self.foreign else dict(tool.extra)
        fields |= {"name": tool.name, "input_schema": {"type": "object", **(tool.parameters or {"properties": {}})}}
        if tool.description is not None:
            fields["description"] = tool.description
        if tool.strict is not None:
            fields["strict"] = tool.strict
        return fields

    def _tool_choice(self) -> Raw | Json | None:
        if (raw := self._kept("tool_choice", "tool_choice", "parallel_tool_calls")) is not None:
            return raw
        choice, parallel = self.request.tool_choice, self.request.parallel_tool_calls
        mode = _MODES[choice.mode] if choice else "auto"
        if not self.request.tools and mode in ("auto", "none"):
            return None
        fields: Json = {"type": mode}
        if choice is not None and choice.mode == "named":
            fields["name"] = choice.name
        if parallel is not None and mode != "none":
            fields["disable_parallel_tool_use"] = not parallel
        return fields if choice is not None or parallel is not None else None

    def _output_config(self, thinking: Thinking) -> Raw | Json | None:
        format_kept = self._kept("output_format", "response_format") is not None
        raw = self._kept("output_config", "response_format", "reasoning_effort", "reasoning_tokens")
        if raw is not None and _OBJECT.decode(raw).get("effort") in (None, *self.able.efforts):
            return raw
        came = self.source.fields.get("output_config") if self.source else None
        config: Json = (_OBJECT.decode(came) if came is not None and not is_null(came) else {}) | {
            "effort": thinking.effort,
            "format": None if format_kept else _encode_format(self.request.response_format),
        }
        return {name: value for name, value in config.items() if value is not None} or None

    # --- messages ---

    def _in_place(self, message: Message) -> Raw | None:
        """Return a message as it came, unless it has to go into the field `system`."""
        raw = self.source.message(message) if self.source else None
        return raw if message.role != "system" or self.able.system_turns else None

    def _system(self) -> Raw | str | list[Any] | None:
        found = [(i, m) for i, m in enumerate(self.request.messages) if m.role == "system" and not self._in_place(m)]
        field = self._kept("system")
        origin = self._system_origin() if field is not None else None
        format_ = self.request.response_format
        asks = format_ is not None and format_.type == "json"
        if not asks and len(found) == 1 and found[0][1] is origin:
            return field
        blocks: list[Any] = []
        for i, message in found:
            if message is origin and field is not None:
                content = blocks_of(field, "system")
                blocks += [{"type": "text", "text": content}] if isinstance(content, str) else content
            else:
                blocks += self._system_blocks(i, message)
        if asks:
            blocks.append({"type": "text", "text": _ONLY_JSON})
        if len(blocks) == 1 and isinstance(blocks[0], dict) and blocks[0].keys() == {"type", "text"}:
            return str(blocks[0]["text"])
        return blocks or None

    def _system_origin(self) -> Message | None:
        """Return the message that was decoded from the field `system`."""
        messages = self.source.request.messages if self.source else ()
        first = messages[0] if messages else None
        return first if first is not None and first.role == "system" and not self._in_place(first) else None

    def _system_blocks(self, i: int, message: Message) -> list[Json]:
        if not all(isinstance(part, Text) for part in message.parts):
            raise BadRequest("A system message holds only text.", param=f"messages.{i}.content")
        return encode_parts(message.parts)

    def _messages(self) -> list[Raw | Json]:
        said: list[Raw | Json] = []
        for i, message in enumerate(self.request.messages):
            raw = self._in_place(message)
            if raw is not None:
                said.append(raw)
            elif message.role != "system" and (content := self._content(i, message)):
                role = "assistant" if message.role == "assistant" else "user"
                if said and isinstance(said[-1], dict) and said[-1]["role"] == role:
                    said[-1]["content"] += content
                else:
                    said.append({"role": role, "content": content})
        if said and isinstance(said[-1], dict) and said[-1]["role"] == "assistant":
            _cut_space(said[-1]["content"])
        return said

    def _content(self, i: int, message: Message) -> list[Json]:
        try:
            return encode_parts(part for part in message.parts if not _unsigned(part))
        except Unsayable as error:
            place = f"messages.{i}.content"
            raise BadRequest(f"{self.endpoint.model} does not take {error}.", param=place) from None


def _unsigned(part: object) -> bool:
    return isinstance(part, Reasoning) and not part.signature and not part.redacted


def _cut_space(content: list[Json]) -> None:
    last = content[-1]
    if last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _encode_format(format: ResponseFormat | None) -> Json | None:
    if format is None or format.type in ("text", "json"):
        return None
    if format.type != "schema":
        raise BadRequest(f"The anthropic wire has no words for a {format.type}.", param="response_format")
    return {"type": "json_schema", "schema": format.schema or {}}
