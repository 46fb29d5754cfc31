"""Sealed bodies: the master key, the keyring, and what is encrypted with it."""
