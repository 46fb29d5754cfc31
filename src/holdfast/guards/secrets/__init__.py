"""Credentials in a text: keys and tokens by their shape, and what is called a password."""
