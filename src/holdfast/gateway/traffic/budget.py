"""What retries and hedges may spend: a share of recent calls, so that an outage is not amplified."""

FLOOR = 10.0
"""What a budget starts with, so that the first calls of a gateway can be retried too."""
CAP = 50.0
"""The most that is saved up, so that a long quiet time does not pay for a storm."""


class Budget:
    """A token bucket: every call pays in `share`, every retry takes out one.

    So of N calls at most `floor + share * N` are retried, and of those that follow a full bucket `cap + share * N`.
    A share of 0 never lets anything be spent.
    """

    __slots__ = ("_nearly_full", "_share", "left")

    def __init__(self, share: float, floor: float = FLOOR, cap: float = CAP) -> None:
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a share is between 0 and 1, not {share}")
        self._share = share
        self._nearly_full = cap - share
        self.left = min(floor, cap) if share else 0.0
        """How many may be spent now."""

    def count(self) -> None:
        """Pay in for a call."""
        if self.left <= self._nearly_full:
            self.left += self._share

    def spend(self) -> bool:
        """Take out one, if there is one."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True
