"""Threshold tables and results: calibration, metrics, held-out lines, the paper's protocol."""
