"""A row of the drill as a drawing: the attempts of a call as bars on a time axis with what its caller received below,
or many calls as points. Inline SVG, coloured by the classes of `page.css`."""

from collections.abc import Iterable, Iterator
from html import escape

from holdfast.drill.report import duration
from holdfast.drill.run import Row, Run
from holdfast.events import Attempt

WIDTH = 440.0
LANE = 36.0
BAR = 10.0
AXIS = 38.0
HEARD_SECONDS = 0.02
"""How much later than a model has said something its caller may have heard it."""
NEAR = 1.5
"""A deadline is drawn to scale while it makes the axis no longer than this many times."""
STEPS = (1, 2, 5)
REASONS = {
    "first": "",
    "retry": "again",
    "fallback": "next model",
    "hedge": "hedge",
    "continue": "goes on",
    "restart": "starts over",
    "reask": "asked to mend it",
    "sample": "another vote",
    "examples": "finds examples",
}


def draw(row: Row) -> str:
    """Return the drawing of a row."""
    return _points(row) if len(row.runs) > 1 else _timeline(row)


# --- one call ---------------------------------------------------------------------------------------------------------


def _timeline(row: Row) -> str:
    run = row.shown
    axis = _Axis(max(_length(run), 0.001), row.deadline)
    lanes = [*[_lane(attempt, run, axis) for attempt in run.attempts], _received(run, axis)]
    height = LANE * len(lanes) + AXIS
    body = [f'<g transform="translate(0 {LANE * place:g})">{lane}</g>' for place, lane in enumerate(lanes)]
    return _svg(height, _told(row), [*axis.grid(height - AXIS), *body, *axis.deadline(len(lanes))])


def _length(run: Run) -> float:
    return max([run.seen.took, *[(attempt.started_us + attempt.duration_us) / 1e6 for attempt in run.attempts]])


class _Axis:
    def __init__(self, length: float, deadline: float) -> None:
        self._deadline = deadline
        self._near = deadline <= length * NEAR
        self.end = (max(length, deadline) if self._near else length) * 1.02

    def at(self, seconds: float) -> float:
        """Return where a time is."""
        return min(seconds / self.end, 1.0) * WIDTH

    def grid(self, height: float) -> Iterator[str]:
        """Draw the axis below `height`, with three to seven numbers."""
        step = _step(self.end)
        count = int(self.end / step)
        for tick in range(count + 1):
            x = self.at(tick * step)
            anchor = "start" if tick == 0 else "end" if x > WIDTH - 20 else "middle"
            yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height:g}"/>'
            label = _number(tick * step)
            yield f'<text class="quiet" x="{x:.1f}" y="{height + 15:g}" text-anchor="{anchor}">{label}</text>'

    def deadline(self, lanes: int) -> Iterator[str]:
        """Draw the deadline beside the words of the lanes, or say that it is further away."""
        told = f"deadline {duration(self._deadline)}" + ("" if self._near else " →")
        yield _text(WIDTH, LANE * lanes + 31, told, "dead", "end")
        if self._near:
            x = self.at(self._deadline)
            for lane in range(lanes):
                top = LANE * lane + 17
                yield f'<line class="deadline" x1="{x:.1f}" x2="{x:.1f}" y1="{top:g}" y2="{top + 17:g}"/>'


def _step(end: float) -> float:
    """Return the distance of the numbers on an axis of this length."""
    size = 10.0**-6
    while True:
        for step in STEPS:
            if end / (size * step) <= 6:
                return size * step
        size *= 10


def _number(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if 0 < seconds < 1 else f"{seconds:g} s"


def _lane(attempt: Attempt, run: Run, axis: _Axis) -> str:
    """Draw an attempt: thin while the model is silent, thick while it speaks."""
    start, end = attempt.started_us / 1e6, (attempt.started_us + attempt.duration_us) / 1e6
    state = "answered" if attempt.error is None else "cancelled" if attempt.error == "cancelled" else "error"
    speaks = end if attempt.first_token_us is None else start + attempt.first_token_us / 1e6
    if attempt.first_token_us is None and attempt.error is None:
        speaks = start  # not streamed: when it began to speak is not seen
    heard = [at for at in run.seen.heard if speaks <= at <= end + HEARD_SECONDS]
    silent = max(speaks, min(end, heard[-1])) if heard and attempt.error is not None and run.seen.stream else end
    reason = REASONS.get(attempt.reason, attempt.reason)
    result = "✓ answered" if attempt.error is None else f"✕ {attempt.error}"
    parts = [
        _text(0, 14, attempt.model + (f" · {reason}" if reason else "")),
        _text(WIDTH, 14, result, f"text-{state}", "end"),
        _bar("rail", 0, WIDTH, 20, BAR),
        _bar("wait", axis.at(start), axis.at(end), 23, 4),
        _bar(f"bar-{state}", axis.at(speaks), axis.at(silent), 20, BAR),
    ]
    if attempt.error is not None:
        parts.append(_cross(axis.at(end), 20 + BAR / 2))
    return "".join(parts)


def _received(run: Run, axis: _Axis) -> str:
    """Draw what the caller received: a stroke for each piece of text, and how it ended."""
    seen, state = run.seen, run.verdict.end
    ended = {
        "answered": "✓ complete",
        "last_resort": "✓ last resort",
        "error": f"✕ {run.verdict.note}",
        "cancelled": "left",
        "broken": "✕ BROKEN",
    }[state]
    width = 3.0 if len(seen.heard) < 3 else max(1.4, 0.5 * WIDTH / max(len(seen.heard), 60))
    parts = [
        _text(0, 14, "what the caller received"),
        _text(WIDTH, 14, ended, f"text-{state}", "end"),
        _bar("rail", 0, WIDTH, 20, BAR),
    ]
    parts += [_bar(f"bar-{state}", axis.at(at), axis.at(at) + width, 19, BAR + 2) for at in seen.heard]
    if state in ("error", "broken", "cancelled"):
        parts.append(_cross(axis.at(seen.took), 20 + BAR / 2))
    return "".join(parts)


# --- many calls -------------------------------------------------------------------------------------------------------


def _points(row: Row) -> str:
    """Draw each call at the time it was made, as high as it took long: filled where the first model answered."""
    height, top = 110.0, 16.0
    across = max(run.at for run in row.runs) or 1.0
    longest = max(run.seen.took for run in row.runs) * 1.05
    axis = _Axis(across, across * 100)
    marks = []
    for run in row.runs:
        x, y = 6 + axis.at(run.at) * (WIDTH - 12) / WIDTH, height - run.seen.took / longest * (height - top)
        hollow = run.verdict.end == "answered" and run.seen.model != row.target.first
        marks.append(
            f'<circle class="{"hollow" if hollow else f"bar-{run.verdict.end}"}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'
        )
        if any(attempt.model == row.target.first and attempt.error for attempt in run.attempts):
            marks.append(_cross(x, height - 6, 2.6))
    legend = [
        _text(
            0,
            10,
            f"a call every {duration(row.fault.every)}; up to {duration(max(run.seen.took for run in row.runs))}",
            "quiet",
        ),
        _text(0, height + 30, f"● {row.target.first} answered", "quiet"),
        _text(WIDTH / 2, height + 30, "○ another did", "quiet", "middle"),
        _text(WIDTH, height + 30, f"✕ {row.target.first} failed", "quiet", "end"),
    ]
    return _svg(height + 36, _told(row), [*axis.grid(height), *legend, *marks])


# --- strokes ----------------------------------------------------------------------------------------------------------


def _told(row: Row) -> str:
    """Say in words what a drawing shows."""
    tried = ", then ".join(f"{attempt.model} {attempt.error or 'answered'}" for attempt in row.shown.attempts[:6])
    return f"{row.fault.title}, {row.mode}: {tried or 'no attempt'}. {row.verdict.text} {row.verdict.note}"


def _svg(height: float, told: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(told)}">' + "".join(parts) + "</svg>"
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _bar(kind: str, start: float, end: float, y: float, height: float) -> str:
    width = max(end - start, 0.0 if kind == "wait" else 2.0)
    x = min(start, WIDTH - width)
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{height:g}" rx="2"/>'


def _cross(x: float, y: float, size: float = 4.0) -> str:
    x = min(max(x, size + 1), WIDTH - size - 1)
    return (
        f'<path class="failed" d="M{x - size:.1f} {y - size:.1f}L{x + size:.1f} {y + size:.1f}'
        f'M{x - size:.1f} {y + size:.1f}L{x + size:.1f} {y - size:.1f}"/>'
    )
