"""Whom the calls go to: what is known of each model, and the policies that follow from it."""
