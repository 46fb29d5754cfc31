"""Answers brought into the form that was meant, with a ledger of every change."""
