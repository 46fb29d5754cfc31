"""Every place that can hold text of a subject is known, and an erasure reaches it: files, tables, memory."""

import re

import pytest

from acceptance.attacker import Attacker
from acceptance.planting import ADA, Caller, Planted, all_found, erase, made_state, served, token

TEXT = "log"
"""The name of the store that reaches what is classified so."""
FILES_OF_THE_STATE = {
    r"log\.db(-wal|-shm)?": TEXT,
    r"keyring\.db(-wal|-shm)?": "keyed hashes, keys",
    r"erasures\.jsonl": "keyed hashes of the erased",
    r"erasure\.lock": "nothing",
    r"state\.db(-wal|-shm)?": "keys, accounts and what they spent",
    r"audit\.(jsonl|head)": "who did what; of subjects the keyed hashes",
    r"(master|subject)\.key": "a key",
    r"(running|leases)/[0-9A-Z]{26}": "counts of a worker",
    r"workers\.[^/]+\.board": "counts by the names of models",
}
TABLES_WITH_TEXT = {
    "body_blocks": {"data"},
    "call_rows": {"id", "message", "session", "subject", "tags", "replayed"},
    "other_attempts": {"message"},
}
"""Of the log, by table: what an erasure has to reach, and does."""
TABLES_WITHOUT = {
    "log.db": {
        "call_rows": "seq profile block place at_us duration_us first_token_us cost_nanousd input_tokens output_tokens "
        "cache_read_tokens cache_write_tokens reasoning_tokens input_audio_tokens output_audio_tokens only_started_us "
        "only_duration_us only_first_token_us only_provider_status only_estimated error repairs samples agreement",
        "other_attempts": "call n model provider started_us duration_us first_token_us served_model provider_status "
        "error cost_nanousd reason estimated input_tokens output_tokens cache_read_tokens cache_write_tokens "
        "reasoning_tokens input_audio_tokens output_audio_tokens saved_tokens ignored",
        "body_blocks": "number codec",
        "profiles": "number kind wire name feature model provider served_model fingerprint config outcome status "
        "finish stream store contract tenant key",
        "snapshots": "hash at_us files",
        "fingerprint_changes": "model provider at_us before after",
        "spend": "day tenant key name model attempts input_tokens output_tokens cost_nanousd unpriced",
        "totals": "minute name model outcome error calls attempts input_tokens output_tokens cache_read_tokens "
        "cost_nanousd unpriced duration_us repaired repairs replayed " + " ".join([f"bucket_{n}" for n in range(14)]),
        "attempt_totals": "minute model error attempts input_tokens output_tokens cost_nanousd unpriced duration_us "
        "reasks saved_tokens ignored",
        "sqlite_sequence": "name seq",
    },
    "keyring.db": {
        "keys": "number owner made_us wrapped",
        "destroyed": "n number at_us",
        "master": "one fingerprint",
        "erasures": "n subject at_us key scrubbed_us done_us",
        "findings": "erasure store found tries done",
        "receipts": "erasure worker found at_us",
    },
    "state.db": {
        "meta": "name value",
        "keys": "number id tenant role features limits created_us expires_us revoked_us successor digest",
        "accounts": "name role tenant created_us password",
        "sessions": "digest account created_us expires_us",
        "windows": "id scope whose unit span start drawn",
        "leases": "holder number window granted",
    },
}
"""What never holds what somebody said. The test below finds none of what is planted in them."""


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "in the clear"])
def test_every_place_that_can_hold_text_of_a_subject_is_reached_by_a_store(tmp_path, providers, sealed):
    """Who adds a file, a table or a column classifies it here; what can hold text is the part of a registered store."""
    state = made_state(tmp_path)
    config = "" if sealed else "\n[privacy]\nseal = false\n"
    with served(tmp_path, providers, config) as gateway:
        planted = Planted(providers, Caller(gateway, token(state), ADA), "classified")
        planted.everywhere()
        planted.everywhere("unknown_model")
        found = all_found(state, planted)
        erase(tmp_path, "nobody in particular")
        files = [name for name, _ in Attacker(state).files()]
        unclassified = [name for name in files if kind_of(name) is None]
        assert not unclassified, f"say in FILES_OF_THE_STATE what these hold: {unclassified}"
        columns = Attacker(state).columns()
        stores = set(erase(tmp_path)["erasures"][-1]["found"])
    without = {
        (file, table, column)
        for file, tables in TABLES_WITHOUT.items()
        for table, named in tables.items()
        for column in named.split()
    }
    text = {("log.db", table, column) for table, named in TABLES_WITH_TEXT.items() for column in named}
    assert columns == without | text, "say in TABLES_WITHOUT or TABLES_WITH_TEXT what each column holds"
    assert not without & text
    for place in {place for places in found.values() for place in places}:
        assert kind_of(place.file) == TEXT
        table, _, column = place.column.partition(".")
        assert not place.column or column in TABLES_WITH_TEXT[table], place
    assert stores == {TEXT, "replay"}


def kind_of(name):
    return next((kind for pattern, kind in FILES_OF_THE_STATE.items() if re.fullmatch(pattern, name)), None)
