"""Joules of a completion: meters with their tiers, and the ledger."""
