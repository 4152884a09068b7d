"""`python -m greencode_lsp` is the command `greencode-lsp`, for when it is not on PATH."""

from __future__ import annotations

import sys

from greencode_lsp.cli import main

sys.exit(main())
