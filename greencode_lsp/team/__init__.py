"""A team's engine: the same engine behind Ray Serve, and what an editor reaches it by."""
