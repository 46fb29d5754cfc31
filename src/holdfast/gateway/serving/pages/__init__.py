"""The pages beside the calls."""
