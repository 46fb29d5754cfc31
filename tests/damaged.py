"""JSON as models write it, and with mistakes put in: strategies for hypothesis."""

from hypothesis import strategies as st

KEYS = st.sampled_from(["reasoning", "answer", "a", "b"]) | st.text(st.characters(codec="utf-8"), max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.text("\"'\\\n ,:{}[]ab")
    | st.sampled_from(["yes", "42", "True", "http://x.y/z", "5 # six", 'so "it" is', "C:\\new", "```"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))
MARKS = list("\"'\\\n ,:{}[]#+“”é\x00")
WORDS = ["a", '"a"', '"answer":', '"reasoning": "', "```", "```json\n", "1", "-", "0.5", "true", "None", "NaN"]
SIGNS = ["//", "/*", "*/", '"""', "\\n", "\\(", "\\times", "\\u00e9"]
PIECES = st.sampled_from(MARKS + WORDS + SIGNS)
DAMAGED = st.lists(PIECES, max_size=30).map("".join)
DUMPS = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])
