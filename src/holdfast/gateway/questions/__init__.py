"""What a model is asked: the prompt, the examples, and the one spelling of a request."""
