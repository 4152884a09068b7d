"""I6: a file that holds secrets, by its name, is neither completed nor used as context."""

from __future__ import annotations

import pytest

from greencode_lsp.prompt.secrets import is_secret


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "/home/me/app/.env.production",
        "file:///home/me/.ssh/id_rsa",
        "C:\\keys\\Server.PEM",
        "credentials.json",
        ".envrc",
        "prod.tfvars",
    ],
)
def test_secrets_are_known_by_name(path: str) -> None:
    assert is_secret(path)


@pytest.mark.parametrize(
    "path", ["environment.py", "/app/keys.py", "file:///app/secrets/__init__.py", "untitled:1", "secrets.py"]
)
def test_ordinary_files_are_not(path: str) -> None:
    assert not is_secret(path)
