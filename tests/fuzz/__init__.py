"""Fuzzing: small in the tests, at full size as a command."""
