"""What an erasure must reach, and an export must show: every store that can hold something of a subject."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol


class Store(Protocol):
    """Keeps something of subjects, each known by its keyed hash. Its methods block, and raise StoreError."""

    @property
    def name(self) -> str:
        """What a certificate calls it: "log"."""
        ...

    def erase(self, subject: str) -> int:
        """Delete all of a subject, durably, and return how many things that were. Doing so again finds nothing."""
        ...

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        """Iterate over all of a subject, as values that JSON can hold."""
        ...


class Registry:
    """The stores of an installation. No two have the same name.

    Raises:
        ValueError: two of them have.
    """

    def __init__(self, stores: Iterable[Store] = ()) -> None:
        self._stores: dict[str, Store] = {}
        for store in stores:
            self.register(store)

    def register(self, store: Store) -> None:
        """Add a store. Raises ValueError if there is one of this name."""
        if store.name in self._stores:
            raise ValueError(f"there is a store named {store.name!r} already")
        self._stores[store.name] = store

    def __iter__(self) -> Iterator[Store]:
        return iter(self._stores.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._stores)

    def export(self, subject: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Iterate over all of a subject with the name of the store that keeps it. Raises StoreError."""
        for store in self:
            for item in store.export(subject):
                yield store.name, item
