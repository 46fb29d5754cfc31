"""Training from files, with a report of what the classifier knows of attacks that it has not seen."""

import gzip
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from holdfast.guards.injection import rules
from holdfast.guards.injection.corpus import Row, Source, corpus
from holdfast.guards.injection.fit import Example, fit, worst
from holdfast.guards.injection.model import Head, Model, Scorer, Weights
from holdfast.guards.injection.units import Unit, units
from holdfast.guards.normal import normal

FOLDS: Final = 10
INNER: Final = 5
MOST_FLAGGED: Final = 0.02
"""The share of the harmless texts of each file that may be flagged."""
_OWN_WEIGHT, _PASSAGE_WEIGHT = 0.5, 0.3

LABELS: Final[dict[Head, dict[Source, int]]] = {
    "direct": {"attack": 1, "harmless": 0, "passage": 0},
    "planted": {"attack": 1, "planted": 1, "passage": 0},
}
"""Which rows a head learns as what. A harmless request is none in a text that was given to be read: left out there."""

BY: Final[dict[Head, Source]] = {"direct": "harmless", "planted": "passage"}
"""What the threshold of a head is set by: what comes to it most."""


class Known(Struct, frozen=True, gc=False):
    """A row, its sentences, the group of rows it shares text with, and whether a deterministic sign is in it."""

    row: Row
    units: tuple[Unit, ...]
    group: str
    signs: bool


def read(path: Path, source: Source | None) -> list[Row]:
    """Read rows from a file of JSON lines, gzipped or not: `text` or `context`; `family`, `language`, `label` if known.

    Without a `source`, `label` 1 is an attack and 0 is harmless.

    Raises:
        ValueError: a line is not such a row.
    """
    raw = path.read_bytes()
    rows = []
    for number, line in enumerate((gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines(), 1):
        try:
            rows.append(_row(json.loads(line), source, path.name.split(".")[0]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: expected an object with text and label ({error!r})") from error
    return rows


def _row(value: dict[str, Any], source: Source | None, origin: str) -> Row:
    text = value["text"] if "text" in value else value["context"]
    if not isinstance(text, str):
        raise TypeError("text is no string")
    if source is None:
        source = "attack" if int(value["label"]) else "harmless"
    asks = source in ("attack", "planted")
    family = str(value.get("family") or family_of(text)) if asks else ""
    return Row(text, source, family, origin, str(value.get("language") or language_of(text)))


_FAMILIES: Final = {
    "leak": r"prompt.?text|full prompt|written (above|at the)|sentences before|your instructions\?|in the prompt",
    "override": r"ignor|forget|vergi|vergess|disregard|drop all|abandon|olvid|oubli|zaboravi|забуд|abweichend|despite"
    r"|your instructions|remember|merken|yaad|irrelevant|vorherigen info|do not (answer|look)|leave all|hinter sich",
    "newtask": r"well done|very good|excellent|outdone|congrat|great job|sehr gut|gut gemacht|ausgezeichnet|übertroffen"
    r"|super gemacht|glückwunsch|attention - stop|achtung|new challenge|neue herausf|new task|neue aufgabe"
    r"|few more tasks",
    "persona": r"\bact as|you are|du bist|bist du|pretend|imagine|stell dir|\brole|rolle|john (and|und) alice|\bfilm"
    r"|theoretical|fungieren|\bbe a\b|in the style|im stil",
    "forged": r"^ ?\W?(document|context|kontext|artikel)|input:|eingabe:|additional instruction|human:|instruction:",
}


def family_of(text: str) -> str:
    """Return the family of an attack by the first pattern that it fits, else "say": it asks for an output."""
    lower = text.lower()
    return next((family for family, pattern in _FAMILIES.items() if re.search(pattern, lower)), "say")


_GERMAN: Final = re.compile(
    r"\b(der|die|das|und|ist|ich|du|nicht|alle[sn]?|ein|eine|mir|wie|was|für|schreibe|deutschland|vergiss|sag)\b",
    re.IGNORECASE,
)
_ENGLISH: Final = re.compile(
    r"\b(the|and|is|you|to|of|in|a|your|what|how|for|that|me|write|who|why|stop|generate|germany)\b", re.IGNORECASE
)


def language_of(text: str) -> str:
    """Return "en", "de" or "other", by the commonest words."""
    german, english = len(_GERMAN.findall(text)), len(_ENGLISH.findall(text))
    if not german and not english:
        return "en" if text.isascii() else "other"
    return "de" if german > english else "en"


# --- training ---------------------------------------------------------------------------------------------------------


def train(rows: Iterable[Row], seed: int = 1, say: Callable[[str], None] = lambda _: None) -> Model:
    """Train on the rows of files and the corpus. The thresholds come from rows that were left out of the training.

    `say` is told how far it is: it takes minutes.
    """
    known = _known([*corpus(seed), *rows])
    report: dict[str, Any] = {"seed": seed, "folds": FOLDS}
    heads: dict[str, Weights] = {}
    for head in LABELS:
        say(f"{head}: fitting")
        mine = [one for one in known if one.row.source in LABELS[head]]
        threshold = _threshold(mine, head, seed, FOLDS)
        heads[head] = msgspec.structs.replace(_fit(mine, head, seed), threshold=round(threshold, 4))
        say(f"{head}: leaving out folds, families and languages")
        report[head] = _report(mine, head, seed, threshold)
    return Model(direct=heads["direct"], planted=heads["planted"], report=report)


def _known(rows: list[Row]) -> list[Known]:
    groups = _groups([row.text for row in rows])
    return [_one(row, group) for row, group in zip(rows, groups, strict=True)]


def _one(row: Row, group: str) -> Known:
    text = normal(row.text).text
    sentences = units(text)
    signs = any(True for _ in chain(rules.of_units(sentences, text), rules.of_text(text)))
    return Known(row, tuple(sentences), group, signs)


def _groups(texts: list[str], run: int = 5) -> list[str]:
    """Name texts alike of which one shares half its runs of five words with the other: they are left out together."""
    parents = list(range(len(texts)))

    def root(of: int) -> int:
        while parents[of] != of:
            parents[of] = parents[parents[of]]
            of = parents[of]
        return of

    runs = [_runs(text, run) for text in texts]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, mine in enumerate(runs):
        shared = Counter(other for some in mine for other in holders[some])
        for other, count in shared.items():
            if 2 * count >= min(len(mine), len(runs[other])):
                parents[root(i)] = root(other)
        for some in mine:
            holders[some].append(i)
    return [str(root(i)) for i in range(len(texts))]


def _runs(text: str, run: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + run]) for at in range(max(1, len(words) - run + 1))}


def _fit(some: Sequence[Known], head: Head, seed: int) -> Weights:
    return fit([Example(one.units, LABELS[head][one.row.source], _weight(one.row)) for one in some], head, seed)


def _weight(row: Row) -> float:
    if row.origin == "corpus":
        return _OWN_WEIGHT
    return _PASSAGE_WEIGHT if row.source == "passage" else 1.0


# --- what it knows of what it has not seen ----------------------------------------------------------------------------


def _fold(one: Known, folds: int, salt: str) -> int:
    return random.Random(f"{salt} {one.group}").randrange(folds)  # noqa: S311 - no secret


def _left_out(some: Sequence[Known], head: Head, seed: int, folds: int, salt: str) -> dict[int, float]:
    """Score the rows of files by models that were fit without their fold; by the position of the row."""
    scores = {}
    for fold in range(folds):
        scorer = Scorer(_fit([one for one in some if _fold(one, folds, salt) != fold], head, seed), head)
        for i, one in enumerate(some):
            if one.row.origin != "corpus" and _fold(one, folds, salt) == fold:
                scores[i] = worst(one.units, scorer)
    return scores


def _threshold(some: Sequence[Known], head: Head, seed: int, folds: int) -> float:
    """Return the least score at which few enough of the harmless texts of each file are flagged, when left out."""
    scores = _left_out(some, head, seed, folds, f"threshold {seed}")
    by_file: dict[str, list[float]] = defaultdict(list)
    for i, score in scores.items():
        if some[i].row.source == BY[head]:
            by_file[some[i].row.origin].append(score)
    needed = 0.5 if not by_file else 0.0
    for of_file in by_file.values():
        ordered = sorted(of_file, reverse=True)
        needed = max(needed, ordered[min(int(MOST_FLAGGED * len(ordered)), len(ordered) - 1)])
    return min(needed + 1e-4, 0.9999)


Hit = tuple[Known, bool]
Counts = dict[str, list[int]]
"""By name: how many the classifier flags, how many it or a sign does, and of how many."""


def _report(some: Sequence[Known], head: Head, seed: int, threshold: float) -> dict[str, Any]:
    seen = _seen(some, head, seed)
    calm = [hit for hit in seen if not LABELS[head][hit[0].row.source]]
    asks = [hit for hit in seen if LABELS[head][hit[0].row.source]]
    files = [one for one, _ in asks]
    return {
        "flagged": _counted(calm, lambda row: row.origin),
        "recall": _counted(asks, lambda row: row.origin),
        "families_seen": _counted(asks, lambda row: row.family),
        "families_left_out": _without(some, files, head, seed, threshold, lambda row: row.family),
        "languages_left_out": _without(some, files, head, seed, threshold, lambda row: _language(row.language)),
    }


def _seen(some: Sequence[Known], head: Head, seed: int) -> list[Hit]:
    """Say of each row of a file whether it is flagged by a model, and at a threshold, that never saw its fold."""
    found: list[Hit] = []
    salt = f"seen {seed}"
    for fold in range(FOLDS):
        rest = [one for one in some if _fold(one, FOLDS, salt) != fold]
        scorer, threshold = Scorer(_fit(rest, head, seed), head), _threshold(rest, head, seed, INNER)
        tried = [one for one in some if one.row.origin != "corpus" and _fold(one, FOLDS, salt) == fold]
        found += [(one, worst(one.units, scorer) >= threshold) for one in tried]
    return found


def _without(
    some: Sequence[Known],
    attacks: Sequence[Known],
    head: Head,
    seed: int,
    threshold: float,
    of: Callable[[Row], str],
) -> Counts:
    """Say how many attacks of each family (or language) are found by a model that saw none of it, nor of its groups."""
    hits: list[Hit] = []
    for name in sorted({of(one.row) for one in attacks}):
        mine = [one for one in attacks if of(one.row) == name]
        groups = {one.group for one in mine}
        rest = [o for o in some if not (LABELS[head][o.row.source] and (of(o.row) == name or o.group in groups))]
        scorer = Scorer(_fit(rest, head, seed), head)
        hits += [(one, worst(one.units, scorer) >= threshold) for one in mine]
    return _counted(hits, of)


def _language(language: str) -> str:
    return language if language in ("en", "de") else "other"


def _counted(hits: Iterable[Hit], of: Callable[[Row], str]) -> Counts:
    found: Counts = {}
    for one, hit in hits:
        counts = found.setdefault(of(one.row), [0, 0, 0])
        counts[0] += hit
        counts[1] += hit or one.signs
        counts[2] += 1
    return dict(sorted(found.items()))
