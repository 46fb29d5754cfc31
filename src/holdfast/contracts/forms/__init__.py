"""What gives an answer its meaning: JSON under a schema, a choice, a pattern, a grammar, a Pydantic model."""
