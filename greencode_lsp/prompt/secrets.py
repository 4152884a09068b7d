"""Files whose text is a secret by its name: neither completed nor used as context (I6)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from greencode_lsp.limits import FOLDER_ENTRIES

DATA = (
    *("cfg", "conf", "config", "csv", "db", "enc", "env", "ini", "json", "json5", "jsonc", "plist", "properties"),
    *("sqlite", "toml", "txt", "xml", "yaml", "yml"),
)
"""What such a file ends with where it is data: `secrets.py` is code."""
HOLDERS = (
    *(
        "secret",
        "secrets",
        "credential",
        "credentials",
        "client_secret*",
        "client-secret*",
        "auth",
        "passwords",
        "password",
    ),
    *("token", "api[-_]key*", "apikey*", "*firebase-adminsdk*", "*[-_.]service[-_]account*"),
    *("service-account*", "service_account*", "serviceaccount*", "vault_pass*", "private_key*", "private-key*"),
)
"""What such a file is called, also behind `prod-` or before `.local`."""
SECRET_NAMES = (
    ".env", ".env.*", ".env~", ".env-*", ".env_*", "*.env", ".envrc", ".dev.vars", ".dev.vars.*", ".flaskenv",
    ".netrc", "_netrc", ".pgpass", "pgpass.conf", ".my.cnf", ".mylogin.cnf", ".npmrc", ".yarnrc.yml", ".pypirc",
    ".htpasswd", "htpasswd", ".git-credentials", ".dockercfg", ".dockerconfigjson", ".vault-token", ".vault_pass*",
    "vault_pass*", ".vault-pass*", ".s3cfg", ".boto", ".passwd-s3fs", ".rclone.conf", "rclone.conf", ".terraformrc",
    "terraform.rc", "kubeconfig", "kubeconfig.*", "*.kubeconfig", ".databrickscfg", ".snowsql", ".pgpass",
    "kube.config", "local.settings.json", "wallet.dat", "wp-config.php", "secring.*", "shadow", "master.key",
    "*.tfvars", "*.tfvars.json", "*.tfstate", "*.tfstate.*", "*.ppk", "*.p8", "*.ovpn", "*.mobileprovision",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "identity", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks",
    "*.keystore", "*.kdb", "*.kdbx", "*.agekey", "*.crt", "*.cer", "*.der", "*.asc", "*.gpg", "*.pgp",
    "credentials", "application_default_credentials.json", "*.secret", "*.secrets", ".secret", ".secrets", "*.token",
    *(f"{name}.{kind}" for name in HOLDERS for kind in DATA),
    *(f"*[-_.]{name}.{kind}" for name in ("secret", "secrets", "credential", "credentials") for kind in DATA),
    *(f"{name}[-_.]*.{kind}" for name in ("secret", "secrets", "credential", "credentials") for kind in DATA),
)  # fmt: skip
SECRET_PLACES = (
    ".kube/config", ".docker/config.json", ".aws/config", ".aws/credentials", ".azure/accesstokens.json",
    ".cargo/credentials", ".gem/credentials", ".config/gh/hosts.yml", ".config/hub", ".config/rclone/rclone.conf",
    ".m2/settings.xml", ".m2/settings-security.xml", ".gradle/gradle.properties", ".composer/auth.json",
    ".subversion/auth/*", ".bundle/config", ".terraform.d/credentials.tfrc.json",
)  # fmt: skip
"""Files known by their folder too."""
SECRET_FOLDERS = (".ssh", ".gnupg", ".password-store", ".aws", ".azure", ".kube", ".vault", "gcloud")
"""Folders whose files are secrets whatever they are called, but for the kinds of code."""
CODE = re.compile(r"\.(py|pyi|java|js|ts|go|rs|c|h|cc|cpp|rb|php|md|sh|html|css)\Z")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")
BACKUP = re.compile(r"(?<=.)(~|\.(bak|backup|old|orig|save|sav|swp|swo|tmp|copy|dist|\d+))+\Z")
"""What editors and people put behind a copy's name."""
STREAM = re.compile(r"(?<=.):[^/]*\Z")
"""Of a file of Windows: `.env::$DATA` is `.env`."""


def is_secret(path: str) -> bool:
    """Say whether a file, by path or URI, is one of those above, whatever its case and however it is spelt."""
    return any(_is_secret(spelling) for spelling in _spellings(path))


def _spellings(path: str) -> Iterator[str]:
    """Yield the path in small letters: as it is, with `%` sequences decoded, without what stands behind `?` or `#`."""
    for _ in range(4):
        for cut in dict.fromkeys((path, re.split(r"[?#\0]", path, maxsplit=1)[0])):
            small = SCHEME.sub("", cut.casefold(), count=1).replace("\\", "/")
            yield os.path.normpath(small).replace("\\", "/")
        decoded = unquote(path)
        if decoded == path:
            return
        path = decoded


def _is_secret(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    name = STREAM.sub("", name).strip(" .\t") if name.strip(" .\t") else name
    name = "." + name if path.rpartition("/")[2].lstrip(" \t").startswith(".") else name
    names = dict.fromkeys((name, BACKUP.sub("", name)))
    if any(fnmatchcase(each, pattern) for each in names for pattern in SECRET_NAMES):
        return True
    parts = folder.split("/")
    if any(part in SECRET_FOLDERS for part in parts) and not CODE.search(name):
        return True
    end = "/".join((*parts[-2:], name))
    return any(fnmatchcase(end, pattern) or fnmatchcase("/" + end, "*/" + pattern) for pattern in SECRET_PLACES)


def has_secret_link(file: Path, folders: Sequence[str]) -> bool:
    """Say whether a file is a hard link of one that is secret by its name, in its folder or those given."""
    try:
        status = file.stat()
    except OSError:
        return False
    if status.st_nlink < 2:
        return False
    identity = status.st_dev, status.st_ino
    for folder in dict.fromkeys((str(file.parent), *folders)):
        try:
            with os.scandir(folder) as entries:
                for entry in islice(entries, FOLDER_ENTRIES):
                    if is_secret(entry.path) and _identity(entry.path) == identity:
                        return True
        except OSError:
            continue
    return False


def _identity(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino
