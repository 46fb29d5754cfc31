"""Check digits are right for published numbers, and wrong for any other digit in their place."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guards.pii import accounts, checks, national

VALID = {
    "us": "460-89-9847", "gb": "AB123456C", "fr": "1 85 05 78 006 084 91", "it": "RSSMRA85T10A562S", "es": "12345678Z",
    "be": "85.07.30-033.28", "fi": "131052-308T", "ch": "756.9217.0769.85", "br": "529.982.247-25", "se": "811228-9874",
    "ar": "20-12345678-6", "cl": "12.345.678-5", "cn": "11010519491231002X", "tw": "A123456789", "sg": "S1234567D",
    "za": "8001015009087", "ru": "112-233-445 95", "mx": "HEGG560427MVZRRL04", "pl": "44051401359", "nl": "111222333",
    "de": "86095742719", "tr": "10000000146", "hr": "69435151530", "pt": "123456789", "ca": "046454286",
    "ee": "37605030299", "bg": "7523169263", "cz": "710319/2745", "th": "1-2345-67890-12-1", "jp": "123456789018",
    "au": "123456782", "ie": "1234567T",
}  # fmt: skip


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(checks).failed == 0


@pytest.mark.parametrize(("country", "number"), VALID.items())
def test_a_published_number_is_valid_in_its_country(country, number):
    form, plain = national.form(number), national.compact(number)
    assert country in {known.country for known in national.FORMS[form] if known.valid(plain)}


@pytest.mark.parametrize("country", sorted(set(VALID) - {"us", "gb"}))
def test_a_number_with_another_check_digit_is_not(country):
    number = VALID[country]
    last = number[-1]
    for other in "0123456789" if last.isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        known = [known for known in national.FORMS[national.form(number)] if known.country == country]
        changed = national.compact(number[:-1] + other)
        assert (other == last) == any(check.valid(changed) for check in known), changed


@given(text=st.sampled_from(sorted(national.FORMS)), data=st.data())
def test_no_number_of_a_known_form_breaks_its_checks(text, data):
    number = "".join(
        data.draw(st.sampled_from("0123456789" if char == "9" else "ABCXYZ")) if char in "9A" else char for char in text
    )
    found = national.find(number, announced=True)
    assert found is None or found in national.FORMS[text]


@given(digits=st.text("0123456789", min_size=1, max_size=30))
def test_luhn_and_verhoeff_have_one_check_digit_for_any_number(digits):
    for check in (checks.luhn, checks.verhoeff):
        assert sum(check(digits + last) for last in "0123456789") == 1


@pytest.mark.parametrize(
    "text", ["", "GB", "GB82", "GB82 WEST 1234 5698 7654 3", "GB82WEST123456987654321", "XX8212345678901234"]
)
def test_what_is_no_iban_is_none(text):
    assert accounts.iban(text, 0) is None
