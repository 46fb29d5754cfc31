"""What a process remembers of what callers said goes when somebody is erased."""

import ast
import gc
from collections.abc import Mapping
from pathlib import Path

from holdfast.privacy import memories
from holdfast.privacy.memories import Memory, dropped_by, remembering

SOURCE = Path(memories.__file__).parents[1]
OF_NO_CALLER = {
    "client.py": "types that the application itself names",
    "database.py": "the scripts of a package",
    "gateway/answers/terms.py": "names of models and keywords",
    "gateway/serving/head.py": "names of hosts",
    "log/recorder.py": "statements",
    "providers/google/wire.py": "types",
    "http/egress.py": "names of hosts",
    "http/pool.py": "requests to providers, without their bodies",
    "privacy/memories.py": "what is dropped",
}
"""Where results are remembered for ever, and of what."""


def test_what_a_function_remembered_is_dropped() -> None:
    calls: list[str] = []

    @remembering(2)
    def length(text: str) -> int:
        calls.append(text)
        return len(text)

    assert [length("kelp"), length("kelp"), calls] == [4, 4, ["kelp"]]
    memories.drop()
    assert length.cache_info().currsize == 0
    assert [length("kelp"), calls] == [4, ["kelp", "kelp"]]


def test_a_function_remembers_no_more_than_it_may() -> None:
    @remembering(2)
    def same(text: str) -> str:
        return text

    for text in "abc":
        same(text)
    assert same.cache_info().currsize == 2


def test_a_dictionary_is_emptied_as_long_as_it_is_in_use_and_keeps_nothing_alive() -> None:
    before = len(memories._live)
    one, other = Memory[str, int](), Memory[str, int]()
    one["kelp"] = other["reef"] = 1
    assert len(memories._live) == before + 2
    del other
    gc.collect()
    assert len(memories._live) == before + 1
    memories.drop()
    assert one == {}


def test_whoever_remembers_otherwise_is_told() -> None:
    told: list[str] = []
    dropped_by(lambda: told.append("dropped"))
    try:
        memories.drop()
    finally:
        memories._drops.pop()
    assert told == ["dropped"]


def test_every_memory_of_results_is_dropped_or_holds_nothing_that_callers_said() -> None:
    """Who remembers results of what callers say uses `remembering`; whoever does not says above of what they are."""
    sources = {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    gateway = {name: text for name, text in sources.items() if not name.startswith(_apart(sources))}
    found = {name for name, text in gateway.items() if "cache" in text and _remembers(ast.parse(text))}
    assert found == OF_NO_CALLER.keys()


def _apart(sources: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders of what no gateway runs: the simulated providers, and guards as long as none uses them."""
    using = [name for name, text in sources.items() if "holdfast.guards" in text]
    using = [name for name in using if not name.startswith(("guards/", "cli/"))]
    return ("providers/simulated/",) if using else ("providers/simulated/", "guards/")


def _remembers(tree: ast.Module) -> bool:
    """Whether a module uses `lru_cache`, or `cache` on a function that takes something."""
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
    }
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return "lru_cache" in names or any(_is_cached(function) and function.args.args for function in functions)


def _is_cached(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) in ("cache", "functools.cache") for decorator in function.decorator_list)
