"""The drill: a configuration put through every fault, and what its users would have seen."""
