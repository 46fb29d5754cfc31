"""`holdfast.toml` to typed settings."""
