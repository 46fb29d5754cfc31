"""What may not pass, into a model or out of it: one guard a file, each pure, deterministic and linear in time."""
