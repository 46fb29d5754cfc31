"""Recorded outputs, keyed by the prompt that they answer.

A corpus is JSONL, plain or gzipped. A row is `{"prompt", "output"}`, or the two halves stand in different files and an
`id` joins them: `{"id", "prompt"}` and `{"id", "output"}`. Other keys are ignored.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from holdfast.errors import ConfigError, Problem


class _Row(msgspec.Struct):
    id: str | int | None = None
    prompt: str | None = None
    output: str | None = None


class Corpus:
    """The outputs of some files. White space around a prompt doesn't matter."""

    def __init__(self, outputs: dict[str, list[str]]) -> None:
        self._outputs = outputs

    def __len__(self) -> int:
        return len(self._outputs)

    def output(self, prompt: str, number: int = 0) -> str | None:
        """Return what was recorded for a prompt: the output `number`, starting anew after the last. None: nothing."""
        outputs = self._outputs.get(prompt.strip())
        return outputs[number % len(outputs)] if outputs else None


def load_corpus(files: Sequence[str]) -> Corpus:
    """Read a corpus.

    Raises:
        ConfigError: a file can't be read, a line is not such a row, or no output has a prompt.
    """
    prompts: dict[str | int, str] = {}
    outputs: list[_Row] = []
    for file in files:
        for row in _rows(file):
            if row.id is not None and row.prompt is not None:
                prompts[row.id] = row.prompt
            if row.output is not None:
                outputs.append(row)
    joined: dict[str, list[str]] = {}
    for row in outputs:
        prompt = row.prompt if row.prompt is not None else prompts.get(row.id if row.id is not None else "")
        if prompt is not None and row.output is not None:
            joined.setdefault(prompt.strip(), []).append(row.output)
    if not joined:
        raise _wrong(", ".join(files), 0, "no output has a prompt: the corpus is empty")
    return Corpus(joined)


def holds_outputs(file: str) -> bool:
    """Whether the first row of a file is an output. Raises ConfigError."""
    return any(row.output is not None for row in [next(_rows(file), _Row())])


def _rows(file: str) -> Iterator[_Row]:
    path, number = Path(file), 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for line in lines:
                number += 1
                if line.strip():
                    yield msgspec.json.decode(line, type=_Row)
    except (OSError, EOFError, zlib.error) as error:
        raise _wrong(file, number, f"can't be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise _wrong(file, number, f'expected a row such as {{"prompt": ..., "output": ...}}: {error}') from error


def _wrong(file: str, line: int, message: str) -> ConfigError:
    return ConfigError([Problem(file=file, line=line, key="", message=message)])
