"""Ten completions in sample files, and how completions are shown on a terminal."""
