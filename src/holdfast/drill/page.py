"""A drill as one web page that needs nothing else: every row at a glance, then a timeline for each."""

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby

from holdfast.drill.drawing import REASONS, draw
from holdfast.drill.faults import FAULTS, Fault, Mode
from holdfast.drill.report import ENDS, counts, duration, outcome, sentences, summary, tokens, without_contract
from holdfast.drill.run import Drill, Row
from holdfast.drill.targets import Target
from holdfast.events import Attempt

MODES: tuple[Mode, ...] = ("whole", "stream")
TILES = {
    "answered": "answered",
    "last_resort": "last resort",
    "error": "typed error",
    "cancelled": "cancelled with the caller",
    "broken": "BROKEN",
}
SIGNS = {"answered": "✓", "last_resort": "◐", "error": "✕", "cancelled": "–", "broken": "!"}


def render(drill: Drill) -> str:
    """Return the page."""
    css = files("holdfast.drill").joinpath("page.css").read_text(encoding="utf-8")
    body = "".join([*_head(drill), *_matrix(drill), *_features(drill), _foot(drill)])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Holdfast drill</title><style>{css}</style></head><body>{body}</body></html>\n"
    )


def _head(drill: Drill) -> Iterator[str]:
    headline, _, rest = summary(drill).partition(": ")
    found = counts(drill.rows)
    yield f'<header><p class="eyebrow">Holdfast drill · {escape(str(drill.configuration.path.name))}</p>'
    yield f"<h1>{escape(headline)}.</h1>"
    yield f'<p class="soft">{escape(rest[:1].upper() + rest[1:])}</p><ul class="tiles">'
    for end in ENDS:
        if found[end] or end == "broken":
            kind = end if found[end] else "cancelled"
            yield f'<li class="{kind}"><b>{found[end]}</b>{TILES[end] if found[end] else "broken"}</li>'
    yield "</ul>"
    yield from [_note(f"{target.name}: {note}") for target in without_contract(drill) for note in target.notes[:1]]
    yield "</header>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


# --- at a glance ------------------------------------------------------------------------------------------------------


def _matrix(drill: Drill) -> Iterator[str]:
    rows = {(row.target.name, row.fault.name, row.mode): row for row in drill.rows}
    names = [target.name for target in drill.targets]
    yield '<main><div class="scroll" tabindex="0" role="region" aria-label="Every row at a glance"><table><thead><tr>'
    yield '<th scope="col" rowspan="2">What goes wrong</th>'
    yield "".join(f'<th scope="colgroup" colspan="2">{escape(name)}</th>' for name in names)
    yield "</tr><tr>" + '<th scope="col">whole</th><th scope="col">stream</th>' * len(names) + "</tr></thead><tbody>"
    for group, faults in groupby(_faults(drill), key=lambda fault: fault.group):
        yield f'<tr class="group"><th scope="rowgroup">{group}</th><td colspan="{2 * len(names)}"></td></tr>'
        for fault in faults:
            cells = [rows.get((name, fault.name, mode)) for name in names for mode in MODES]
            yield f'<tr><th scope="row">{escape(fault.title)}</th>{"".join(map(_cell, cells))}</tr>'
    yield "</tbody></table></div>"


def _faults(drill: Drill) -> list[Fault]:
    return [fault for fault in FAULTS if any(row.fault is fault for row in drill.rows)]


def _cell(row: Row | None) -> str:
    if row is None:
        return '<td class="soft">·</td>'
    return f"<td>{_mark(row, link=True)}</td>"


def _mark(row: Row, *, link: bool) -> str:
    end, text = row.verdict.end, f"{SIGNS[row.verdict.end]} {escape(outcome(row))}"
    if not link:
        return f'<span class="mark {end}">{text}</span>'
    return f'<a class="mark {end}" href="#{_anchor(row.target, row.fault)}" title="{row.verdict.text}">{text}</a>'


def _anchor(target: Target, fault: Fault) -> str:
    return escape(f"{target.name}-{fault.name}".replace(" ", "_"))


# --- timelines --------------------------------------------------------------------------------------------------------


def _features(drill: Drill) -> Iterator[str]:
    for target in drill.targets:
        rows = [row for row in drill.rows if row.target is target]
        yield f"<section><h2>{escape(target.name)}</h2>"
        yield f'<p class="soft">{escape(", then ".join(target.models))}, within {duration(target.deadline)}</p>'
        yield from map(_note, target.notes)
        own = [fault for fault in _faults(drill) if target.takes(fault)]
        for group, faults in groupby(own, key=lambda fault: fault.group):
            yield f"<h3>{group}</h3>"
            for fault in faults:
                yield from _fault(target, fault, [row for row in rows if row.fault is fault])
        yield "</section>"
    yield "</main>"


def _fault(target: Target, fault: Fault, rows: Sequence[Row]) -> Iterator[str]:
    yield f'<article class="fault" id="{_anchor(target, fault)}"><h4>{escape(fault.title)}</h4>'
    yield f'<p class="soft">{escape(fault.about)}</p><div class="pair">'
    for row in rows:
        yield f"<figure><figcaption><b>{row.mode}</b> {_mark(row, link=False)}</figcaption>"
        yield f"<p>{escape('; '.join(sentences(row)))}</p>{draw(row)}"
        yield from _notes(row)
        yield "</figure>"
    yield "</div></article>"


def _notes(row: Row) -> Iterator[str]:
    run = row.shown
    if run.verdict.end == "broken":
        yield f'<p><b class="mark broken">BROKEN</b> {escape(run.verdict.note)}</p>'
    if not row.met:
        yield "<p>The fault was not met: another model was asked first.</p>"
    if run.seen.message is not None:
        yield f"<blockquote>{escape(run.seen.message)}</blockquote>"
    if run.attempts:
        more = " of the call that took longest" if len(row.runs) > 1 else ""
        yield f"<details><summary>{_count(len(run.attempts))}{more}</summary><table><thead><tr>"
        yield "".join(f'<th scope="col">{name}</th>' for name in ("model", "why", "at", "took", "tokens", "result"))
        yield "</tr></thead><tbody>" + "".join(map(_attempt, run.attempts)) + "</tbody></table></details>"


def _count(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def _attempt(attempt: Attempt) -> str:
    used = tokens([attempt])
    cells = (
        attempt.model,
        REASONS.get(attempt.reason) or "first",
        duration(attempt.started_us / 1e6),
        duration(attempt.duration_us / 1e6),
        "?" if used is None else f"{'~' if attempt.estimated else ''}{used}",
        attempt.error or "answered",
    )
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _foot(drill: Drill) -> str:
    speeds = "; ".join(
        f"{name}: first token after {duration(speed.first_token)}, {speed.tokens_per_second:.0f} tokens/s"
        + (f" (seen in {speed.attempts} attempts)" if speed.attempts else " (a guess: the log has not seen it yet)")
        for name, speed in drill.speeds.items()
    )
    return (
        "<footer><p>Models were simulated over real sockets, with their names, wire formats and limits. Times are what "
        f"users would have waited: {duration(drill.seconds)} of them in {duration(drill.took)}.</p>"
        f"<p>{escape(speeds)}.</p><p>Configuration {drill.configuration.hash}</p></footer>"
    )
