"""Files whose text is a secret by its name: neither completed nor used as context (design, I6)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

SECRET_NAMES = (
    ".env", ".env.*", "*.env", ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc", ".htpasswd", ".git-credentials",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore",
    "*.kdbx", "*.crt", "*.cer", "*.der", "*.asc", "*.gpg", "credentials", "credentials.*", "secrets.*", "*.secret",
)  # fmt: skip


def is_secret(path: str) -> bool:
    """Say whether a file, by path or URI, is one of `SECRET_NAMES`, whatever its case."""
    name = PurePosixPath(path.replace("\\", "/")).name.lower()
    return any(fnmatchcase(name, pattern) for pattern in SECRET_NAMES)
