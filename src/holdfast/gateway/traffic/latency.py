"""How fast something has been lately: what hedging and balancing go by."""

RECENT = 128
"""How many samples are remembered; a power of two."""
ENOUGH = 20
"""Samples from which on a 95th percentile means something."""
STRIDE = 16
"""Samples that may come before the figures are worked out again."""
SLOW = 3.0
"""How many times the median is slow in any case."""
_MASK = RECENT - 1


class Latency:
    """The last durations of one thing, in seconds. To add one is cheap; the figures are worked out when asked for."""

    __slots__ = ("_due", "_p95", "_recent", "_typical", "count")

    def __init__(self) -> None:
        self.count = 0
        """How many samples there have been."""
        self._recent = [0.0] * RECENT
        self._due = 1
        """At how many samples the figures are worked out again."""
        self._typical: float | None = None
        self._p95: float | None = None

    def add(self, seconds: float) -> None:
        """Take a sample."""
        count = self.count
        self._recent[count & _MASK] = seconds
        self.count = count + 1

    def typical(self) -> float | None:
        """Return the median, None before the first sample."""
        if self.count >= self._due:
            self._figure()
        return self._typical

    def p95(self) -> float | None:
        """Return the 95th percentile, None before there are enough samples."""
        if self.count >= self._due:
            self._figure()
        return self._p95

    def late(self) -> float | None:
        """Return from when on one is late: beyond the 95th percentile, or beyond thrice the median, if that is sooner.

        Where one in twenty is slow, the 95th percentile is a slow one as often as not. None before there are enough.
        """
        p95 = self.p95()
        return None if p95 is None or self._typical is None else min(p95, SLOW * self._typical)

    def _figure(self) -> None:
        size = min(self.count, RECENT)
        ranked = sorted(self._recent[:size])
        self._typical = ranked[size // 2]
        if size >= ENOUGH:
            self._p95 = ranked[size * 95 // 100]
        self._due = self.count + (STRIDE if size >= ENOUGH else 1)
