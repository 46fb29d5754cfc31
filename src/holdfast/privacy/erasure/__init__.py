"""Erasing a subject wherever it is."""
