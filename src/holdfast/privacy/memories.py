"""What a process remembers of what callers said, so as not to work it out again: dropped whenever somebody is erased.

Such a memory does not know whose words it holds. So all of it goes, and is made again where it is needed.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

K = TypeVar("K")
T = TypeVar("T")

_drops: list[Callable[[], None]] = []
_live: WeakValueDictionary[int, "Memory[Any, Any]"] = WeakValueDictionary()


class Memory(dict[K, T]):
    """A dictionary that is emptied when somebody is erased, for as long as there is any use for it."""

    def __init__(self) -> None:
        _live[id(self)] = self


def remembering(most: int) -> "Callable[[Callable[..., T]], _lru_cache_wrapper[T]]":
    """Remember the last results of a function, as `functools.lru_cache` does, until somebody is erased."""

    def remember(function: Callable[..., T]) -> "_lru_cache_wrapper[T]":
        remembered = lru_cache(maxsize=most)(function)
        dropped_by(remembered.cache_clear)
        return remembered

    return remember


def dropped_by(drop: Callable[[], None]) -> None:
    """Have a memory dropped by a function that any thread may call."""
    _drops.append(drop)


def drop() -> None:
    """Drop every memory of this process."""
    for each in _drops:
        each()
    for memory in list(_live.values()):
        memory.clear()
