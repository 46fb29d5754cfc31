"""What changes in place: so far, what the workers of a gateway share at speed."""
