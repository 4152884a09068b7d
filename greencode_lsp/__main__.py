"""`python -I -m greencode_lsp` is the command `greencode-lsp`, for when it is not on PATH.

Without `-I` Python itself imports from the current folder before this file has a say.
"""

from __future__ import annotations

import sys

if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    del sys.path[0]  # the current folder, which may be anybody's: nothing is imported from it

from greencode_lsp.cli import main

sys.exit(main())
