"""What each server can be asked to enforce of a contract, and the schema as it takes it."""
