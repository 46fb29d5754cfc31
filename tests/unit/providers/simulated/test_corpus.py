import gzip
import json

import pytest

from holdfast.errors import ConfigError
from holdfast.providers.simulated.corpus import holds_outputs, load_corpus


def write(path, *rows):
    text = "".join([json.dumps(row) + "\n" for row in rows])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def test_an_id_joins_prompts_and_outputs_of_different_files(tmp_path):
    questions = write(tmp_path / "q.jsonl.gz", {"id": "1", "prompt": "\nHow many?\n", "gold": "3"})
    outputs = write(tmp_path / "o.jsonl.gz", {"id": "1", "output": "Three."})
    assert load_corpus([outputs, questions]).output("How many?") == "Three."
    assert (holds_outputs(questions), holds_outputs(outputs)) == (False, True)


def test_plain_rows_need_no_id_and_several_outputs_take_turns(tmp_path):
    file = write(tmp_path / "o.jsonl", {"prompt": "a", "output": "1"}, {"prompt": "a", "output": "2"})
    corpus = load_corpus([file])
    assert [corpus.output("a", number) for number in range(3)] == ["1", "2", "1"]
    assert corpus.output("b") is None
    assert len(corpus) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"{}\n{bad\n", "a.jsonl:2: expected a row"),
        ("a.jsonl", b'{"prompt": 5}\n', "a.jsonl:1: expected a row"),
        ("a.jsonl", b'{"output": "\xff"}\n', "a.jsonl:1: expected a row"),
        ("a.jsonl.gz", b"not gzip", "can't be read"),
        ("a.jsonl", b'{"id": 1, "output": "x"}\n', "no output has a prompt"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_corpus([str(tmp_path / name)])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        load_corpus([str(tmp_path / "nowhere.jsonl")])
