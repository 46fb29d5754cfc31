"""Which cell of a model's row on the board means what, so that no two parts use the same."""

from typing import Final

from holdfast.state.board import CELLS, LASTING

# Each worker's own: what it does now...
OUTSTANDING: Final = 0
INSIDE: Final = 1
BUCKETS: Final = 2
"""The breaker's window from here on: a stamp, successes and failures for each of its seconds."""
BUCKET: Final = 3
WINDOW: Final = 10
"""Seconds."""
BUCKETS_END: Final = BUCKETS + BUCKET * WINDOW

# ...and what it has done, which outlives it.
PROBES: Final = CELLS - LASTING
RETRIES: Final = PROBES + 1
HEDGES: Final = PROBES + 2

# The same, in the row of the gateway itself.
REFUSED: Final = CELLS - LASTING
"""From here on, one for each reason why a call is turned away."""

# Shared.
STATE: Final = 0
"""How often the breaker has opened and closed: it is open while this is odd."""
PROBE_AT: Final = 1
PAUSE: Final = 2
