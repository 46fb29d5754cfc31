"""Functions that a configuration names."""

import sys

import pytest

from holdfast.gateway.function import find_function, misnamed


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the folder of a configuration, which is forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    written = []

    def write(name: str, text: str) -> None:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(name.partition(".")[0])

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] in written]:
        del sys.modules[name]


def refusal(reference: str, base) -> str:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the text is what is looked at)
        find_function(reference, base)
    return str(refused.value)


def test_a_function_is_found_beside_the_configuration_and_its_neighbours_with_it(tmp_path, module):
    module("kelp_words", "SORRY = 'Sorry.'\n")
    module("kelp_resort", "import kelp_words\ndef answer(request, code): return kelp_words.SORRY\n")
    assert find_function("kelp_resort:answer", tmp_path)(None, "timeout") == "Sorry."


def test_a_function_is_found_in_a_package_and_in_an_object(tmp_path, module):
    module("kelp_app.resorts", "class Desk:\n    @staticmethod\n    def answer(request, code): return code\n")
    assert find_function("kelp_app.resorts:Desk.answer", tmp_path)(None, "timeout") == "timeout"


def test_a_function_is_found_among_what_is_installed(tmp_path):
    import operator

    assert find_function("operator:concat", tmp_path) is operator.concat


def test_a_module_that_was_written_after_a_look_is_found(tmp_path, module):
    assert refusal("kelp_late:answer", tmp_path).startswith('there is no module "kelp_late", neither in ')
    module("kelp_late", "def answer(request, code): return 'Sorry.'\n")
    assert callable(find_function("kelp_late:answer", tmp_path))


@pytest.mark.parametrize("reference", ["", "answer", "a:", ":b", "a.b", "a:b:c", "a/b:c", "a..b:c", "1a:b", "a: b"])
def test_what_names_no_function_is_told(tmp_path, reference):
    assert refusal(reference, tmp_path) == misnamed(reference)
    assert 'expected "package.module:name", got "' in refusal(reference, tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def anwser(r, c): ...", 'kelp_wrong has no "answer" (did you mean "anwser"?)'),
        ("", 'kelp_wrong has no "answer"'),
        ("answer = 'Sorry.'", "kelp_wrong:answer can't be called: it is of the type str"),
        (
            "def answer(): ...",
            "kelp_wrong:answer must take two arguments: the request, and the code of what went wrong",
        ),
        ("def answer(r, c, *, x): ...", "kelp_wrong:answer must take two arguments: "),
        (
            "import kelp_gone",
            "importing kelp_wrong failed: ModuleNotFoundError: No module named 'kelp_gone' (kelp_wrong.py",
        ),
        ("\n1 / 0", "importing kelp_wrong failed: ZeroDivisionError: division by zero (kelp_wrong.py, line 2)"),
        ("exit(3)", "importing kelp_wrong failed: SystemExit: 3"),
        ("raise RuntimeError('a\\nb')", "importing kelp_wrong failed: RuntimeError: a b (kelp_wrong.py, line 1)"),
        ("def answer(", "importing kelp_wrong failed: SyntaxError: "),
    ],
)
def test_a_function_that_can_not_be_used_is_told_with_the_reason(tmp_path, module, text, problem):
    module("kelp_wrong", text)
    assert refusal("kelp_wrong:answer", tmp_path).startswith(problem)


def test_what_is_missing_of_a_module_that_was_imported_before_needs_a_restart(tmp_path, module):
    module("kelp_old", "def soon(request, code): ...\n")
    find_function("kelp_old:soon", tmp_path)
    module("kelp_old", "def later(request, code): ...\n")
    assert refusal("kelp_old:later", tmp_path) == (
        'kelp_old has no "later"; it was imported before: a change of it needs a restart'
    )


@pytest.mark.parametrize("hidden", ["json", "sys"])
def test_a_module_that_another_one_hides_is_told_and_hides_none_itself(tmp_path, module, hidden):
    (tmp_path / f"{hidden}.py").write_text("def answer(request, code): ...\n")
    assert refusal(f"{hidden}:answer", tmp_path).startswith(f"{hidden}.py has the name of another module, ")


def test_a_function_may_take_more_than_it_must(tmp_path, module):
    module("kelp_more", "def answer(request, code, *rest, tone='kind', **others): return 'Sorry.'\n")
    assert find_function("kelp_more:answer", tmp_path)(None, "timeout") == "Sorry."
