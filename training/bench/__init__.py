"""Time, memory and energy of the engine, against peers."""
