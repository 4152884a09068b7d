"""Judging a checkpoint: threshold tables, held-out lines, and the figures that README shows."""
