"""Which hosts may be connected to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConnectionFailed
from holdfast.http.egress import MOST_ADDRESSES, Egress, NetworkSettings, normal

LISTED = ("api.example.com", "*.inside.example", "10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "bücher.example")


@pytest.mark.parametrize(
    "host",
    [
        "api.example.com",
        "API.Example.COM",
        "api.example.com.",
        "a.inside.example",
        "a.b.inside.example",
        "10.255.0.1",
        "::ffff:10.1.2.3",
        "192.0.2.7",
        "[2001:db8::1]",
        "2001:0db8:0:0::1",
        "fe80::1%eth0".replace("fe80", "2001:db8"),
        "xn--bcher-kva.example",
        "BÜCHER.example",
    ],
)
def test_a_listed_host_is_allowed_however_it_is_spelled(host: str) -> None:
    assert Egress(listed=LISTED).allows(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "xapi.example.com",
        "api.example.com.evil.example",
        "inside.example",
        "insideXexample",
        "11.0.0.1",
        "192.0.2.8",
        "3221225991",  # 192.0.2.7 in one number: what looks names up would take it
        "0xc0.0.2.7",
        "192.0.2.07",
        "2001:db9::1",
        "localhost",
        "127.0.0.1",
        "",
        "*",
        "api.example.com\0.evil.example",
    ],
)
def test_a_host_that_is_not_listed_is_refused_by_name(host: str) -> None:
    egress = Egress(listed=LISTED)
    assert not egress.allows(host)
    with pytest.raises(ConnectionFailed, match="allows no connections") as refused:
        egress.check(host)
    assert not refused.value.same_model_again


def test_configured_hosts_are_allowed_without_being_listed() -> None:
    assert Egress(configured=["127.0.0.1"]).allows("127.0.0.1")
    assert not Egress().allows("127.0.0.1")


def test_what_an_allowed_host_was_found_at_may_be_connected_to_until_it_is_forgotten() -> None:
    egress = Egress(listed=["api.example.com"])
    with pytest.raises(ConnectionFailed):
        egress.check("198.51.100.1")
    egress.remember("api.example.com", ["198.51.100.1"])
    egress.check("198.51.100.1")
    egress.remember("api.example.com", [f"203.0.{n // 256}.{n % 256}" for n in range(MOST_ADDRESSES)])
    with pytest.raises(ConnectionFailed):
        egress.check("198.51.100.1")


def test_what_is_looked_up_again_is_not_forgotten_first() -> None:
    egress = Egress(listed=["api.example.com"])
    egress.remember("api.example.com", [f"203.0.{n // 256}.{n % 256}" for n in range(MOST_ADDRESSES)])
    egress.remember("api.example.com", ["203.0.0.0", "198.51.100.1"])
    assert egress.allows("203.0.0.0")
    assert not egress.allows("203.0.0.1")


def test_addresses_leave_the_list_with_the_host_that_was_found_there() -> None:
    egress = Egress(listed=["api.example.com"])
    egress.remember("api.example.com", ["198.51.100.1"])
    egress.allow((), ["other.example.com"])
    assert not egress.allows("198.51.100.1")


def test_an_address_of_a_host_that_is_not_listed_is_not_allowed() -> None:
    egress = Egress(listed=["api.example.com"])
    egress.remember("evil.example", ["198.51.100.1"])
    assert not egress.allows("198.51.100.1")


def test_while_a_list_becomes_another_both_hold() -> None:
    egress = Egress(listed=["old.example"])
    with egress.becoming(["new.example"], []):
        assert egress.allows("old.example")
        assert egress.allows("new.example")
    assert not egress.allows("old.example")
    assert egress.allows("new.example")


def test_a_list_that_could_not_be_taken_leaves_the_old_one_in_force() -> None:
    egress = Egress(listed=["old.example"])
    with pytest.raises(RuntimeError), egress.becoming(["new.example"], []):
        raise RuntimeError
    with pytest.raises(ValueError, match="allow:"), egress.becoming(["no host"], []):
        raise AssertionError
    assert egress.allows("old.example")
    assert not egress.allows("new.example")


def test_a_new_list_takes_the_place_of_the_old_one() -> None:
    egress = Egress(listed=["a.example"])
    egress.allow((), ["b.example"])
    assert egress.allows("b.example")
    assert not egress.allows("a.example")


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.", "http://a.example", "a.example:443", "a..example", "10.0.0.0/33", "10.0.0.1/8", "a b", "a*.b"],
)
def test_an_entry_that_is_no_host_is_refused_and_named(entry: str) -> None:
    with pytest.raises(ValueError, match=r"allow:"):
        NetworkSettings(allow=(entry,))


@given(st.text(min_size=1, max_size=40))
def test_normal_is_stable_and_never_fails(host: str) -> None:
    assert normal(normal(host)) == normal(host)
    assert not Egress(listed=["api.example.com"]).allows(host + ".evil")
