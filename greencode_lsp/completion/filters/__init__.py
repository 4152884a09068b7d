"""Pure text functions: how much a completion is to be, where it ends, and what of it is worth showing."""

from greencode_lsp.completion.filters.balance import cut_overlap, cut_unbalanced
from greencode_lsp.completion.filters.cursor import Cursor
from greencode_lsp.completion.filters.indent import Style
from greencode_lsp.completion.filters.rules import CLEAN_RULES, clean, is_readable, repeats
from greencode_lsp.completion.filters.stop import STOP_RULES, Shape, shape, stop_index

__all__ = [
    "CLEAN_RULES",
    "STOP_RULES",
    "Cursor",
    "Shape",
    "Style",
    "clean",
    "cut_overlap",
    "cut_unbalanced",
    "is_readable",
    "repeats",
    "shape",
    "stop_index",
]
