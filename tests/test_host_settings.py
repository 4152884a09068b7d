"""What a completion goes by reaches the process that completes."""

from __future__ import annotations

import ast
from pathlib import Path

from greencode_lsp.completion import pipeline
from greencode_lsp.host.messages import Spending
from greencode_lsp.models.manifest import FAMILIES
from training.checkpoint import importer


def test_every_setting_that_the_pipeline_reads_crosses_to_the_shared_engine() -> None:
    tree = ast.parse(Path(pipeline.__file__).read_text(encoding="utf8"))
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "settings"
    }
    assert read
    assert read <= set(Spending.__struct_fields__)


def test_a_folder_of_every_family_can_be_imported() -> None:
    assert set(importer._TIED_BY_DEFAULT) == set(FAMILIES)
