"""What goes wrong with a guard, as opposed to what it finds."""

from holdfast.errors import HoldfastError


class GuardFailed(HoldfastError):
    """A guard could not come to a verdict. What happens then is its `on_error`. The message quotes no text."""
