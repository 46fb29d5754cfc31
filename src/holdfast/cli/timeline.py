"""One call on the terminal: its attempts as bars on a time axis, then what was asked and answered."""

from collections.abc import Iterator, Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text as Line

from holdfast.chat import (
    EmbeddingReply,
    EmbeddingRequest,
    Part,
    Reasoning,
    Refusal,
    Reply,
    Request,
    Text,
    ToolCall,
    ToolResult,
)
from holdfast.events import Attempt, Call
from holdfast.log.view import iso

BAR = 40
COLOURS = {"answered": "green", "last_resort": "yellow", "error": "red", "cancelled": "bright_black"}


def render_call(console: Console, call: Call) -> None:
    """Print everything the log knows of a call."""
    console.print(Line.assemble((call.id, "bold"), "  ", outcome(call)))
    console.print(Padding(_facts(call), (0, 0, 1, 2)))
    if call.attempts:
        console.print(Padding(_attempts(call), (0, 0, 1, 2)))
    if call.request is None and call.reply is None:
        console.print(f"The log keeps no request and no reply of this call (store = {call.store}).", style="dim")
    for title, lines in (("request", _request_lines(call)), ("reply", _reply_lines(call))):
        for label, text in lines:
            console.print(Line.assemble((f"{title}: {label}", "bold cyan")))
            console.print(Padding(Line(printable(text)), (0, 0, 1, 2)))


def outcome(call: Call) -> Line:
    """Return how a call ended, in its colour."""
    text = call.outcome if call.error in (None, call.outcome) else f"{call.outcome}: {call.error}"
    return Line(printable(text), style=COLOURS.get(call.outcome, ""))


def cost(nanousd: int | None) -> str:
    """Return US dollars to the millionth, `?` where unknown."""
    return "?" if nanousd is None else f"{nanousd / 1e9:.6f}"


def printable(text: str) -> str:
    """Return a text without the characters that control a terminal."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() or c in "\n\t" else "�" for c in text])


def seconds(micros: int) -> str:
    """Return a duration as a person would write it."""
    return f"{micros / 1000:.0f} ms" if micros < 1_000_000 else f"{micros / 1e6:.2f} s"


def bar(call_us: int, attempt: Attempt, width: int = BAR) -> str:
    """Draw an attempt on the axis of its call: `─` until the first token, `●` there, `━` from then on."""
    scale = width / max(call_us, attempt.started_us + attempt.duration_us, 1)
    start = min(int(attempt.started_us * scale), width - 1)
    end = max(start + 1, min(round((attempt.started_us + attempt.duration_us) * scale), width))
    drawn = [" "] * start + ["─"] * (end - start) + [" "] * (width - end)
    if attempt.first_token_us is not None:
        first = min(int((attempt.started_us + attempt.first_token_us) * scale), end - 1)
        drawn[first:end] = ["●", *"━" * (end - first - 1)]
    return "".join(drawn)


def _facts(call: Call) -> Table:
    facts = {
        "arrived": iso(call.at_us),
        "asked for": f"{call.name} ({call.kind}, {call.wire} wire{', streamed' if call.stream else ''})",
        "answered by": None if call.model is None else f"{call.model} ({call.provider}, served {call.served_model})",
        "message": call.message,
        "took": seconds(call.duration_us),
        "first token": None if call.first_token_us is None else f"after {seconds(call.first_token_us)}",
        "finish": call.finish,
        "tokens": _tokens(call),
        "cost": "unknown" if call.cost_nanousd is None else f"$ {cost(call.cost_nanousd)}",
        "session": call.session,
        "subject": call.subject,
        "tags": ", ".join(f"{key}={value}" for key, value in call.tags.items()),
        "configuration": call.config,
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value:
            table.add_row(Line(name, style="dim"), Line(printable(value)))
    return table


def _tokens(call: Call) -> str:
    if call.usage is None:
        return "unknown"
    kinds = {name: count for name, count in msgspec.structs.asdict(call.usage).items() if count}
    return ", ".join(f"{count} {name.removesuffix('_tokens').replace('_', ' ')}" for name, count in kinds.items())


def _attempts(call: Call) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    table.add_column("attempt", overflow="fold")
    table.add_column(
        f"0 {'time':^{BAR - 2 - len(seconds(call.duration_us))}} {seconds(call.duration_us)}", no_wrap=True
    )
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("result", overflow="fold")
    table.add_column("cost $", justify="right", no_wrap=True)
    for attempt in call.attempts:
        colour = "green" if attempt.error is None else "bright_black" if attempt.error == "cancelled" else "red"
        table.add_row(
            Line(printable(attempt.model)),
            Line(bar(call.duration_us, attempt), style=colour),
            seconds(attempt.duration_us),
            Line(printable(_result(attempt)), style=colour),
            cost(attempt.cost_nanousd),
        )
    return table


def _result(attempt: Attempt) -> str:
    if attempt.error is None:
        first = attempt.first_token_us
        return "answered" if first is None else f"answered, first token after {seconds(first)}"
    status = "" if attempt.provider_status is None else f" ({attempt.provider_status})"
    return f"{attempt.error}{status}: {attempt.message}" if attempt.message else f"{attempt.error}{status}"


Lines = Iterator[tuple[str, str]]
"""Labels with texts."""


def _request_lines(call: Call) -> Lines:
    if isinstance(call.request, Request):
        for message in call.request.messages:
            yield message.role, _text(message.parts)
    elif isinstance(call.request, EmbeddingRequest):
        yield "input", "\n".join([str(item) for item in call.request.input])


def _reply_lines(call: Call) -> Lines:
    if isinstance(call.reply, Reply):
        for choice in call.reply.choices:
            yield choice.finish, _text(choice.parts)
    elif isinstance(call.reply, EmbeddingReply):
        yield "vectors", f"{len(call.reply.vectors)} vectors"


def _text(parts: Sequence[Part]) -> str:
    return "\n".join([_part_text(part) for part in parts])


def _part_text(part: Part) -> str:
    match part:
        case Text() | Refusal():
            return part.text
        case Reasoning():
            return f"[reasoning] {part.text}"
        case ToolCall():
            return f"[tool call {part.id}] {part.name}({part.arguments})"
        case ToolResult():
            return f"[tool result {part.call_id}] {_text(part.content)}"
        case _:
            return f"[{type(part).__name__.lower()}]"
