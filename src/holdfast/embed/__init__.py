"""What is near: texts by the words that they share, or by the vectors of any embeddings model."""
