"""Who may ask a team's engine, and how much. Tokens are kept as SHA-256 alone."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from greencode_lsp.errors import TeamError
from greencode_lsp.files import UnsafeFileError, atomic_write, make_private, read_regular

MAX_BYTES = 16 << 20
TOKEN_BYTES = 32
DEFAULT_PER_MINUTE = 240
"""Four requests a second: a fast typist whose every pause asks."""
LOOK_S = 5.0
"""Between two looks whether the file has changed."""
_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the users' file."""

    name: str
    token_sha256: str
    per_minute: int = DEFAULT_PER_MINUTE
    """Requests."""
    energy_j_per_day: float | None = None
    """Joules of completions; None: any."""


def read_users(path: Path) -> dict[str, User]:
    """Return the users by their token's SHA-256. Raises TeamError with a sentence."""
    try:
        users = msgspec.json.decode(read_regular(path.parent, path.name, max_bytes=MAX_BYTES), type=list[User])
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        reason = (
            error if isinstance(error, (UnsafeFileError, msgspec.MsgspecError)) else getattr(error, "strerror", error)
        )
        raise TeamError(
            f"The users' file {path} cannot be read ({reason}); `greencode-serve user NAME` writes one."
        ) from error
    return {user.token_sha256: user for user in users}


def add_user(path: Path, name: str, per_minute: int = DEFAULT_PER_MINUTE) -> str:
    """Add a user, or give one a new token; return the token, which is kept nowhere. Raises TeamError."""
    if not _NAME.fullmatch(name):
        raise TeamError(f"{name!r} is no user's name; write letters, digits, and . @ - _, 64 at most.")
    users = read_users(path) if path.exists() else {}
    token = secrets.token_urlsafe(TOKEN_BYTES)
    kept = [user for user in users.values() if user.name != name]
    kept.append(User(name, hash_of(token), per_minute))
    try:
        if not path.parent.exists():
            make_private(path.parent)
        atomic_write(path, msgspec.json.format(msgspec.json.encode(kept)))
    except OSError as error:
        raise TeamError(f"The users' file {path} cannot be written ({error.strerror or error}).") from error
    return token


def hash_of(token: str) -> str:
    """Return a token's SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


@dataclass(slots=True)
class Account:
    """What a user has asked and used; a bucket that fills evenly holds what he may ask at once."""

    tokens_left: float
    filled_s: float
    day: int = 0
    day_energy_j: float = 0.0
    completions: int = 0
    tokens: int = 0
    energy_j: float = 0.0


@dataclass(slots=True)
class Accounts:
    """The users of one file, read again when it changes, and their accounts."""

    path: Path | None
    """None: anybody, under one name; for the loopback interface only."""
    share: float = 1.0
    """Of a quota that this process grants: one over the number of processes."""
    clock_s: Callable[[], float] = time.time
    _users: dict[str, User] = field(default_factory=dict)
    _accounts: dict[str, Account] = field(default_factory=dict)
    _looked_s: float = float("-inf")
    _changed_ns: int = -1

    def user_of(self, authorization: str) -> User | None:
        """Return whose bearer token a header carries; None for nobody's. Raises TeamError for a damaged first file."""
        if self.path is None:
            return User("local", "", per_minute=10**9)
        self._refresh(self.path)
        scheme, _, token = authorization.partition(" ")
        wanted = hash_of(token.strip())
        user = self._users.get(wanted) if scheme.lower() == "bearer" else None
        return user if user is not None and hmac.compare_digest(user.token_sha256, wanted) else None

    def wait_s(self, user: User) -> float:
        """Take a request from the user's quota; return 0.0, or after how long to come again."""
        account, now_s = self.of(user), self.clock_s()
        per_s, passed_s = user.per_minute * self.share / 60, max(0.0, now_s - account.filled_s)
        account.tokens_left = min(self._full(user), account.tokens_left + per_s * passed_s)
        account.filled_s = now_s
        if int(now_s // 86400) != account.day:
            account.day, account.day_energy_j = int(now_s // 86400), 0.0
        if user.energy_j_per_day is not None and account.day_energy_j >= user.energy_j_per_day * self.share:
            return 86400 - now_s % 86400
        if account.tokens_left < 1:
            return (1 - account.tokens_left) / per_s if per_s else 60.0
        account.tokens_left -= 1
        return 0.0

    def charge(self, user: User, tokens: int, energy_j: float) -> None:
        """Write down what a completion took."""
        account = self.of(user)
        account.completions += 1
        account.tokens += tokens
        account.energy_j += energy_j
        account.day_energy_j += energy_j

    def of(self, user: User) -> Account:
        """Return a user's account."""
        return self._accounts.setdefault(user.name, Account(self._full(user), self.clock_s()))

    def _full(self, user: User) -> float:
        """Return what a user may ask at once: ten seconds' worth."""
        return max(1.0, user.per_minute * self.share / 6)

    def _refresh(self, path: Path) -> None:
        now_s = self.clock_s()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            changed_ns = path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._users, self._changed_ns = read_users(path), changed_ns
        except (OSError, TeamError):
            if self._changed_ns < 0:  # a file damaged later leaves those who were in it
                raise
