"""What was used of limits as of now: what workers drew, without what they hold and have not used yet."""

from collections.abc import Mapping

from holdfast.database import translated
from holdfast.state.files import STATE
from holdfast.state.holders import Holders
from holdfast.state.limits import Meter
from holdfast.state.spending import Spending


def used(spending: Spending) -> dict[tuple[Meter, int], int]:
    """Return what was used by meter and start of the window. What is under way counts with its worst case.

    Where it can't be told what of a lease was used, all of it counts. Blocks.

    Raises:
        StateError: the state, or the file of a worker, can't be read.
    """
    held = spending.held()
    with translated(spending.directory, STATE):
        holders = Holders(spending.directory)
        known = {holder: holders.used(holder) or {} for holder in {lease.holder for lease in held}}
    found = {(window.meter, window.start): window.drawn for window in spending.spent()}
    for lease in held:
        rest = lease.granted - _used(known[lease.holder], lease.number, lease.granted)
        found[lease.meter, lease.start] = max(0, found.get((lease.meter, lease.start), 0) - rest)
    return found


def _used(known: Mapping[int, int], number: int, granted: int) -> int:
    return min(known.get(number, granted), granted)
