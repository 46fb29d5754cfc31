"""A clock that stands still until a test moves it."""

NOW_US = 1_800_000_000_000_000


class ManualClock:
    """Its time is `us`, in microseconds since 1970."""

    def __init__(self) -> None:
        self.us = NOW_US

    def now(self) -> float:
        return self.us / 1_000_000

    def monotonic(self) -> float:
        return self.us / 1_000_000
