"""The engine in a process of its own, shared by all editors of a user, and what the editors reach it by."""
