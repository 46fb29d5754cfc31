import pytest

from holdfast.errors import PrivacyError
from holdfast.privacy.erasure.registry import Registry
from keyrings import ADA, BOB, Shelf


def test_it_goes_through_its_stores_in_their_order() -> None:
    registry = Registry([Shelf("log"), Shelf("vectors")])
    registry.register(Shelf("datasets"))
    assert registry.names == tuple(store.name for store in registry) == ("log", "vectors", "datasets")


def test_no_two_stores_have_the_same_name() -> None:
    with pytest.raises(ValueError, match="a store named 'log' already"):
        Registry([Shelf("log"), Shelf("log")])


def test_an_export_holds_what_every_store_has_of_the_subject() -> None:
    registry = Registry([Shelf("log", {ADA: 2, BOB: 5}), Shelf("empty"), Shelf("vectors", {ADA: 1})])
    assert list(registry.export(ADA)) == [("log", {"number": 0}), ("log", {"number": 1}), ("vectors", {"number": 0})]
    assert list(registry.export("nobody")) == []


def test_a_store_that_fails_is_not_passed_over() -> None:
    class Broken(Shelf):
        def export(self, subject):
            raise PrivacyError("out of reach")

    with pytest.raises(PrivacyError, match="out of reach"):
        list(Registry([Shelf("log", {ADA: 1}), Broken("vectors")]).export(ADA))
