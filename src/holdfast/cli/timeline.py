"""One call on the terminal: its attempts as bars on a time axis, then what was asked and answered."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
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
from holdfast.cli.ledger import print_ledger
from holdfast.cli.table import GAP, Column, Table
from holdfast.errors import InvalidRequest
from holdfast.events import Attempt, Call, Snapshot
from holdfast.gateway.questions.prompt import Prompt
from holdfast.log.view import iso

BAR = 40
SHORT_BAR = 10
"""The longest and the shortest bars, in columns."""
COLOURS = {"answered": "green", "last_resort": "yellow", "error": "red", "cancelled": "bright_black"}


def render_call(console: Console, call: Call, snapshot: Snapshot | None = None) -> None:
    """Print everything the log knows of a call; `snapshot` is the configuration it happened under."""
    if console.is_terminal:
        _render(console, call, snapshot)
        return
    with console.capture() as captured:
        _render(console, call, snapshot)
    for line in captured.get().splitlines():
        print(line.rstrip())


def _render(console: Console, call: Call, snapshot: Snapshot | None) -> None:
    console.print(Line.assemble((one_line(call.id), "bold"), "  ", outcome(call)))
    console.print(Padding(_facts(call), (0, 0, 1, 2)))
    if call.attempts:
        _print_attempts(console, call)
    if call.request is None and call.reply is None:
        console.print(_BODILESS[call.withheld].format(store=call.store), style="dim")
    sections = (("prompt", _prompt_lines(call, snapshot)), ("request", _request_lines(call)))
    for title, lines in (*sections, (_reply_title(call), _reply_lines(call))):
        for label, text in lines:
            console.print(Line.assemble((f"{title}: {printable(label)}", "bold cyan")))
            console.print(Padding(Line(printable(text)), (0, 0, 1, 2)))
    if call.ledger:
        print_ledger(console, call.ledger)


_BODILESS = {
    None: "The log keeps no request and no reply of this call (store = {store}).",
    "erased": "What was asked and answered was erased: its key is destroyed.",
    "sealed": "What was asked and answered is sealed, and can't be opened here.",
}
"""What is said of a call without bodies."""


def outcome(call: Call) -> Line:
    """Return how a call ended, in its colour."""
    return Line(one_line(ended(call.outcome, call.error)), style=COLOURS.get(call.outcome, ""))


def ended(outcome: str, error: str | None) -> str:
    """Return an outcome with the code of its error, once where they are the same."""
    return outcome if error in (None, "", outcome) else f"{outcome} {error}"


def cost(nanousd: int | None) -> str:
    """Return US dollars to the millionth, `?` where unknown."""
    return "?" if nanousd is None else f"{nanousd / 1e9:.6f}"


def printable(text: str) -> str:
    """Return a text without the characters that control a terminal."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() or c in "\n\t" else "�" for c in text])


def one_line(text: str) -> str:
    """Return a text as a single line without the characters that control a terminal."""
    return text if text.isprintable() else " ".join(printable(text).split())


def counted(count: int, noun: str) -> str | None:
    """Return how many there are, None where there are none."""
    return None if not count else f"{count} {noun}{'s' if count > 1 else ''}"


def reasks(call: Call) -> int:
    """Return how often models were asked to mend an answer."""
    return sum([attempt.reason == "reask" for attempt in call.attempts])


def seconds(micros: int) -> str:
    """Return a duration as a person would write it."""
    if micros < 999_500:
        return f"{micros / 1000:.0f} ms"
    return f"{micros / 1e6:.{2 if micros < 9_995_000 else 1 if micros < 99_950_000 else 0}f} s"


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


def _facts(call: Call) -> Grid:
    facts = {
        "arrived": iso(call.at_us),
        "asked for": f"{call.name or '(unknown)'} ({call.kind}, {call.wire} wire{', streamed' if call.stream else ''})",
        "answered by": None if call.model is None else f"{call.model} ({call.provider}, served {call.served_model})",
        "message": call.message,
        "took": seconds(call.duration_us),
        "first token": None if call.first_token_us is None else f"after {seconds(call.first_token_us)}",
        "finish": call.finish,
        "fingerprint": call.fingerprint,
        "contract": call.contract,
        "repairs": _repairs(call),
        "re-asks": str(reasks(call) or ""),
        "replayed": None if call.replayed is None else f"the answer of call {call.replayed}",
        "agreement": None if call.agreement is None else f"{call.agreement:.0%} of {call.samples} samples",
        "tokens": _tokens(call),
        "cost": "unknown" if call.cost_nanousd is None else f"$ {cost(call.cost_nanousd)}",
        "tenant": call.tenant,
        "key": call.key,
        "session": call.session,
        "subject": call.subject,
        "tags": ", ".join(f"{key}={value}" for key, value in call.tags.items()),
        "prompt variables": "\n".join(f"{name} = {value}" for name, value in _variables(call).items()),
        "configuration": call.config,
    }
    table = Grid.grid(padding=(0, 2))
    for name, value in facts.items():
        if value:
            table.add_row(Line(name, style="dim", no_wrap=True), Line(printable(value)))
    return table


def _repairs(call: Call) -> str | None:
    kept = "" if call.ledger else f", which the log does not keep (store = {call.store})"
    return f"{call.repairs}{kept}" if call.repairs else None


def _tokens(call: Call) -> str:
    if call.usage is None:
        return "0" if call.cost_nanousd == 0 else "unknown"
    kinds = {name: count for name, count in msgspec.structs.asdict(call.usage).items() if count}
    return ", ".join(f"{count} {name.removesuffix('_tokens').replace('_', ' ')}" for name, count in kinds.items())


def _print_attempts(console: Console, call: Call) -> None:
    table = _attempts(call, console.width)
    table_lines = table.lines(console.width, call.attempts)
    for n, line in enumerate(table_lines, -2):
        console.print(line)
        if n >= 0 and (note := _note(call.attempts[n])):
            console.print(Padding(Line(printable(note), style="dim"), (0, 0, 0, 2)))
    console.print()


def _attempts(call: Call, width: int) -> Table[Attempt]:
    model = Column[Attempt]("attempt", lambda attempt: one_line(attempt.model), floor=7)
    took = Column[Attempt]("took", lambda attempt: seconds(attempt.duration_us), right=True)
    result = Column[Attempt]("result", lambda attempt: Line(one_line(_result(attempt)), style=_colour(attempt)))
    dollars = Column[Attempt]("cost $", lambda attempt: cost(attempt.cost_nanousd), right=True)
    facts = Table([(model, took, result, dollars)])
    facts.measure(call.attempts)
    room = max(SHORT_BAR, min(BAR, width - facts.width - len(GAP)))
    whole = seconds(call.duration_us)

    def drawn(attempt: Attempt) -> Line:
        return Line(bar(call.duration_us, attempt, room), style=_colour(attempt))

    axis = Column[Attempt]("0" + f"{'time':^{room - 1 - len(whole)}}{whole}".rjust(room - 1)[1 - room :], drawn)
    return Table([(model, axis, took, result, dollars), (model, took, result, dollars), (model, took, result)], least=1)


def _colour(attempt: Attempt) -> str:
    return "green" if attempt.error is None else "bright_black" if attempt.error == "cancelled" else "red"


def _result(attempt: Attempt) -> str:
    status = "" if attempt.provider_status is None else f" ({attempt.provider_status})"
    return "answered" if attempt.error is None else f"{attempt.error}{status}"


_REASONS = {
    "retry": "again",
    "hedge": "beside one that was late",
    "continue": "goes on with an answer that broke off",
    "restart": "says an answer that broke off again",
    "reask": "mends an answer that broke its contract",
    "sample": "answers once more, for the vote",
    "examples": "gives a vector, to find the nearest examples",
}
"""Why an attempt was made, where its place does not tell."""


def _note(attempt: Attempt) -> str:
    """Return what is told of an attempt below its row."""
    first = attempt.first_token_us
    notes = (
        _REASONS.get(attempt.reason),
        attempt.message,
        None if first is None else f"first token after {seconds(first)}",
        "its tokens were counted here" if attempt.estimated else None,
        f"given up about {attempt.saved_tokens} tokens early" if attempt.saved_tokens else None,
        "its server broke a constraint that it had accepted" if attempt.ignored else None,
    )
    return "; ".join([note for note in notes if note])


Lines = Iterator[tuple[str, str]]
"""Labels with texts."""


def _variables(call: Call) -> Mapping[str, str]:
    """Return what filled the places in the feature's prompt."""
    hints = {} if call.request is None else call.request.extra.get("holdfast")
    found = hints.get("variables") if isinstance(hints, dict) else None
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _prompt_lines(call: Call, snapshot: Snapshot | None) -> Lines:
    """Return the feature's prompt as the model got it, where the log has all that it was made of."""
    if call.feature is None or not isinstance(call.request, Request) or snapshot is None:
        return
    try:
        doc: Any = tomllib.loads(snapshot.files["holdfast.toml"])
        name = doc["features"][call.feature]["prompt"]
        message = Prompt(snapshot.files[name]).render(_variables(call))
    except (ValueError, KeyError, TypeError, InvalidRequest):
        return
    yield name, _text(message.parts)


def _request_lines(call: Call) -> Lines:
    if isinstance(call.request, Request):
        for message in call.request.messages:
            yield message.role, _text(message.parts)
    elif isinstance(call.request, EmbeddingRequest):
        yield "input", "\n".join([str(item) for item in call.request.input])


def _reply_title(call: Call) -> str:
    """Say of the reply of a call that failed that its caller did not get it; of a stream, it may have got a part."""
    if call.outcome not in ("error", "cancelled"):
        return "reply"
    return "reply, not delivered to its end" if call.stream else "reply, not delivered"


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
