"""How the caller gets an answer: whole, streamed, held, voted on or as a distribution; and what it must be."""
