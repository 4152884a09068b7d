"""What keeps a file out of the training text: copies, near copies, minified code, secrets, a copyleft header.

A file with a string that looks like a secret is left out whole: a redacted line would teach the redaction.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from functools import lru_cache
from importlib import import_module

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

SHINGLE_TOKENS = 5
NEAR_DUPLICATE = 0.85
"""Estimated Jaccard similarity of two files' shingles from which on they are the same file."""
PERMUTATIONS = 64
MIN_BLANK_SHARE = 0.08
"""Source code is 15 to 40 % white space; minified code and tables of numbers have next to none."""
HEADER_CHARS = 3_000
_COPYLEFT_HEADER = re.compile(
    r"General Public Licen[cs]e|\bGPL|Mozilla Public Licen[cs]e|Eclipse Public Licen[cs]e|Common Public Licen[cs]e"
    r"|Common Development and Distribution Licen[cs]e|\bCDDL\b",
)
_TOKEN = re.compile(r"\w+")
# the detectors whose patterns are exact; keyword, entropy and IP address guesses are left out
_DETECTORS = {
    "aws": "AWSKeyDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "jwt": "JwtTokenDetector",
    "mailchimp": "MailchimpDetector",
    "npm": "NpmDetector",
    "openai": "OpenAIDetector",
    "private_key": "PrivateKeyDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}


def is_minified(text: str) -> bool:
    """Say whether the text has too little white space to have been written by hand."""
    return sum(map(text.count, " \t\n")) < MIN_BLANK_SHARE * len(text)


def has_copyleft_header(text: str) -> bool:
    """Say whether the first lines name a licence that the package's own does not."""
    return bool(_COPYLEFT_HEADER.search(text[:HEADER_CHARS]))


@lru_cache(maxsize=1 << 18)  # most tokens have been seen before
def _token_hash(token: str) -> int:
    return zlib.crc32(token.encode())


def shingles(text: str) -> NDArray[np.uint32]:
    """Return the sorted distinct hashes [n] of all runs of `SHINGLE_TOKENS` words and numbers."""
    hashes = np.array([_token_hash(token) for token in _TOKEN.findall(text)], dtype=np.uint64)
    windows = max(1, len(hashes) - SHINGLE_TOKENS + 1)
    mixed = np.zeros(windows, dtype=np.uint64)
    for offset in range(min(SHINGLE_TOKENS, len(hashes))):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + hashes[offset : offset + windows]
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


class SecretScanner:
    """detect-secrets' detectors of exact patterns (keys of cloud services, private keys, tokens)."""

    def __init__(self) -> None:
        self._detectors = [
            getattr(import_module(f"detect_secrets.plugins.{module}"), name)() for module, name in _DETECTORS.items()
        ]

    def finds_any(self, text: str) -> bool:
        """Say whether any detector reports a string."""
        return any(next(iter(d.analyze_string(text)), None) is not None for d in self._detectors)


class Screen:
    """Admits files one by one and remembers them: what is admitted or shown first keeps its copies out.

    Near duplicates are found by MinHash with locality-sensitive hashing (datasketch); `seed` fixes its permutations.
    """

    def __init__(self, seed: int = 0) -> None:
        # the shingles are hashes already
        self._blank = MinHash(num_perm=PERMUTATIONS, seed=seed + 1, hashfunc=int)
        self._exact: set[bytes] = set()
        self._near = MinHashLSH(threshold=NEAR_DUPLICATE, num_perm=PERMUTATIONS)
        self._sketches: list[MinHash] = []
        self._secrets = SecretScanner()

    def show(self, text: str) -> str | None:
        """Remember a text; returns `duplicate` or `near duplicate` where one like it was there already."""
        digest = hashlib.sha256(" ".join(text.split()).encode()).digest()
        if digest in self._exact:
            return "duplicate"
        self._exact.add(digest)
        sketch = self._blank.copy()
        sketch.update_batch(shingles(text).tolist())
        # the buckets also return texts below the threshold
        if any(self._sketches[i].jaccard(sketch) >= NEAR_DUPLICATE for i in self._near.query(sketch)):
            return "near duplicate"
        self._near.insert(len(self._sketches), sketch)
        self._sketches.append(sketch)
        return None

    def refuses(self, text: str, copyleft: bool = False) -> str | None:
        """Return why the text is left out, or None where it is admitted; `copyleft` headers are let through on wish."""
        if is_minified(text):
            return "minified"
        if not copyleft and has_copyleft_header(text):
            return "copyleft header"
        if self._secrets.finds_any(text):
            return "looks like a secret"
        return self.show(text)
