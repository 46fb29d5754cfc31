"""`holdfast.toml` to typed settings: checked as a whole, with the line of every mistake."""

from holdfast.config.load import load, parse
from holdfast.config.reload import Reloader
from holdfast.config.types import Config, Configuration

__all__ = ["Config", "Configuration", "Reloader", "load", "parse"]
