"""Meters and the ledger: what a completion cost, and how sure that is."""
