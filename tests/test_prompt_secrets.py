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
        *(".kube/config", ".docker/config.json", ".dev.vars", ".vault_pass", ".env%20", "sub/../.env", "a/.env/"),
        *("file://localhost/a/.env", "git:/a/.env?ref", "vscode-notebook-cell:/a/.env#W0", ".%65nv", ".ENV"),
        *("terraform.tfstate", ".s3cfg", "auth.json", "client_secret.json", "prod-secrets.yml", "password.txt"),
        *(".netrc.bak", ".pgpass~", "server.key.old", ".htpasswd.bak.1", "my.pem.orig", ".env.swp", "id_rsa.bak"),
        *("gcp-service-account.json", "x-firebase-adminsdk-1.json", "api_keys.json", "token.txt", "kube.config"),
    ],
)
def test_secrets_are_known_by_name(path: str) -> None:
    assert is_secret(path)


@pytest.mark.parametrize(
    "path",
    [
        "environment.py",
        "/app/keys.py",
        "file:///app/secrets/__init__.py",
        "untitled:1",
        "secrets.py",
        "tokens.py",
        "token_list.txt",
        "a.bak",
        "v1.2",
        "keys.json",
    ],
)
def test_ordinary_files_are_not(path: str) -> None:
    assert not is_secret(path)
