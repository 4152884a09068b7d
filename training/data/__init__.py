"""From source files to rows of token ids, and the held-out lines; rows of `training/presets/sources` say from where."""
