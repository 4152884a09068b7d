"""Files whose text is a secret by its name: neither completed nor used as context (design, I6)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

DATA = ("cfg", "conf", "csv", "db", "enc", "env", "ini", "json", "properties", "toml", "txt", "xml", "yaml", "yml")
"""What such a file ends with where it is data: `secrets.py` is code."""
SECRET_NAMES = (
    ".env", ".env.*", ".env~", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc", ".htpasswd",
    ".git-credentials", ".dockercfg", ".vault-token", "kubeconfig", "*.tfvars", "*.ppk", "*.p8",
    "service-account*.json",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore",
    "*.kdbx", "*.crt", "*.cer", "*.der", "*.asc", "*.gpg", "credentials", "*.secret",
    *(f"{name}.{kind}" for name in ("secrets", "credentials") for kind in DATA),
)  # fmt: skip


def is_secret(path: str) -> bool:
    """Say whether a file, by path or URI, is one of `SECRET_NAMES`, whatever its case."""
    name = PurePosixPath(path.replace("\\", "/")).name.lower()
    return any(fnmatchcase(name, pattern) for pattern in SECRET_NAMES)
