"""Which file a URI means: one identity for all of its spellings, and the path that rules and settings go by."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from pygls import IS_WIN

DRIVE = re.compile(r"/?[A-Za-z]:(?=/|\\|\Z)")
LOCAL_HOSTS = ("", "localhost", "127.0.0.1")


def identity(uri: str) -> str:
    """Return the same text for all spellings of one document's URI.

    Clients differ in percent signs, in a drive's case (`c%3A`, `C:`) and in `localhost`; what stands behind `#`, as in
    a notebook's cells, keeps documents apart.
    """
    scheme, host, path, rest = _split(uri)
    return f"{scheme}://{host}{path}{rest}"


def path_of(uri: str) -> str:
    """Return the path of the file that a document is or belongs to (a cell's notebook, a revision's file).

    Of a document without a file (`untitled:Untitled-1`) the name, which is no absolute path.
    """
    scheme, host, path, _ = _split(uri)
    if scheme == "file" and host:
        path = f"//{host}{path}"  # a share
    elif DRIVE.match(path):
        path = path.removeprefix("/")
    return path.replace("/", "\\") if IS_WIN and scheme == "file" else path


def _split(uri: str) -> tuple[str, str, str, str]:
    """Return scheme, host, decoded path, and the rest from `?` or `#` on."""
    try:
        scheme, host, path, query, fragment = urlsplit(uri)
    except ValueError:  # e.g. an unclosed bracket: no host, but a name
        scheme, _, path = uri.partition(":")
        host = query = fragment = ""
    host = "" if host.lower() in LOCAL_HOSTS else unquote(host)
    path = unquote(path)
    drive = DRIVE.match(path)
    if drive is not None:
        path = "/" + drive.group().lstrip("/").lower() + path[drive.end() :]
    rest = ("?" + unquote(query) if query else "") + ("#" + unquote(fragment) if fragment else "")
    return scheme.lower(), host, path, rest
