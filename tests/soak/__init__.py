"""The soak: a day of typing, storms and broken messages against the real server (`python -m tests.soak`)."""
