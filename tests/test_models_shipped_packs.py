"""The exit packs that are installed with the server: whole, small, for models that one can get, and of use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.models import packs
from greencode_lsp.models.catalogue import by_hash
from greencode_lsp.models.contents import read_object
from greencode_lsp.models.manifest import MANIFEST_NAME
from greencode_lsp.preference import decode_config
from greencode_lsp.records import NEVER, DecodeConfig
from greencode_lsp.settings import Settings

FOLDERS = sorted(path for path in Path(packs.__file__).with_name(packs.PACKS).iterdir() if path.is_dir())
MAX_BYTES = 5_000_000
VOCABULARY, HIDDEN = 151_936, 896


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def pack(request: Any) -> packs.Pack:
    folder: Path = request.param
    stated = read_object(folder, MANIFEST_NAME)["weights"]
    return packs.Pack(folder, packs.read_pack(folder, stated))


def test_a_pack_is_there() -> None:
    assert FOLDERS


def test_it_belongs_to_a_model_of_the_catalogue(pack: packs.Pack) -> None:
    assert by_hash(pack.manifest.weights) is not None


def test_its_files_are_whole_and_fit_the_model(pack: packs.Pack) -> None:
    heads = packs.read_exit_heads(pack.folder, pack.manifest, HIDDEN, VOCABULARY)
    assert heads.shortlist is not None


def test_it_is_a_few_megabytes(pack: packs.Pack) -> None:
    assert sum(path.stat().st_size for path in pack.folder.iterdir()) < MAX_BYTES


@pytest.mark.parametrize("language", ["python", "java"])
def test_balanced_is_proven_to_be_cheaper_with_it(pack: packs.Pack, language: str) -> None:
    assert decode_config(Settings(), pack.manifest, language).shortlist < NEVER


@pytest.mark.parametrize("language", ["python", "java"])
def test_accuracy_leaves_every_token_to_the_full_head(pack: packs.Pack, language: str) -> None:
    config = decode_config(Settings(preference=1.0), pack.manifest, language)
    assert config in (DecodeConfig(), DecodeConfig("never", self_speculative=True))
