"""Personal data: found by form and check digit, hidden behind stand-ins that keep the form, and restored."""
