"""What a call costs: tokens as the provider counted them, times the price of each kind."""

from holdfast.settings import Settings


class PriceSettings(Settings, frozen=True, kw_only=True):
    """US dollars for a million tokens of each kind. A kind left out costs what its parent does (cached: input,
    reasoning: output)."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None
