"""The language server: unpack, hand over, pack."""
