"""Answers looked at while they come: whether they can still be right, and what is known of them."""
