"""Branching experience: the full-depth path at each cursor, and each wrong exit followed some tokens.

By invariant I1 what every exit says at a position depends on the ids before it alone, so one full-depth pass per node
is all that any policy can meet there. Recorded once by the serving engine's layers; `training/exits/simulator.py` walks
them without a model. Nothing of the text is kept, only counts of characters: right ones shown before the first error
against the rest of the author's line, and those shown after it.

Letters: N nodes, S exits, D hidden size, C completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.completion import filters, gate
from greencode_lsp.engine.decode import considered
from greencode_lsp.engine.state import Vector
from greencode_lsp.errors import CorpusError
from training.data.cursors import SourcePosition
from training.exits.replay import Grower, Node
from training.exits.rollout import LANGUAGES, Rollouts
from training.exits.served import Served

FOLLOWED_TOKENS = 6
"""Nodes after a wrong exit's token."""
OVER, CUT = -1, -2
"""In place of a child: the token ends the completion; what follows it is not recorded."""
MOST_LOG_ODDS = 16.0
"""Of a token that is the only one allowed."""


@dataclass(frozen=True, slots=True)
class Trees:
    """Recorded nodes; those of one completion are adjacent, its root first."""

    hidden: NDArray[np.float16]
    """[N, S, D] through the final norm, as a policy is shown them."""
    log_odds: NDArray[np.float32]
    """[N, S] of each exit's own token, among the ids allowed."""
    choices: NDArray[np.int32]
    """[N, S] the token each exit would emit; the last is the full model's."""
    child: NDArray[np.int32]
    """[N, S] the node after that token, OVER or CUT."""
    shown: NDArray[np.int16]
    """[N, S, 2] characters right before the first error, and those after it, with that token."""
    stopped: NDArray[np.int16]
    """[N, S, 2] the same where the completion ends before that token: a half word is taken back."""
    here: NDArray[np.int16]
    """[N, 2] the same of the text so far."""
    position: NDArray[np.int16]
    """[N] tokens emitted before."""
    completion: NDArray[np.int32]
    """[N] from 0."""
    package: NDArray[np.int32]
    """[C] index of the completion's package, as the cursors had them."""
    language: NDArray[np.int8]
    """[C] index into LANGUAGES."""
    wanted: NDArray[np.int16]
    """[C] characters of the rest of the author's line."""

    def __len__(self) -> int:
        return len(self.position)

    @property
    def roots(self) -> NDArray[np.int64]:
        """[C] the first node of each completion."""
        return np.searchsorted(self.completion, np.arange(len(self.package)))

    def as_rollouts(self) -> Rollouts:
        """Return the nodes as tokens that a probe learns from, each a completion of its own."""
        return Rollouts(
            hidden=self.hidden[:, :-1],
            confidence=self.log_odds[:, :-1],
            choices=self.choices,
            labels=self.choices[:, -1],
            completion=self.completion,
            position=self.position.astype(np.int32),
            language=self.language[self.completion],
        )

    def main_path(self) -> Rollouts:
        """Return the tokens of the full-depth paths alone."""
        nodes = list[int]()
        for root in self.roots.tolist():
            node = root
            while node >= 0:
                nodes.append(node)
                node = int(self.child[node, -1])
        return self.as_rollouts().select(np.isin(np.arange(len(self)), nodes))

    def take(self, completions: NDArray[Any]) -> Trees:
        """Return some of the completions, in order."""
        nodes = np.isin(self.completion, completions)
        moved = np.cumsum(nodes, dtype=np.int64) - 1
        child = self.child[nodes]
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("package", "language", "wanted"):
            parts[name] = parts[name][np.sort(completions)]
        for name in ("hidden", "log_odds", "choices", "shown", "stopped", "here", "position"):
            parts[name] = parts[name][nodes]
        parts["child"] = np.where(child >= 0, moved[np.maximum(child, 0)], child).astype(np.int32)
        parts["completion"] = np.searchsorted(np.sort(completions), self.completion[nodes]).astype(np.int32)
        return Trees(**parts)

    def save(self, path: Path) -> None:
        """Write one file. Raises CorpusError where the disk is full."""
        temporary = path.with_suffix(".part")
        try:
            with temporary.open("wb") as file:
                np.savez(file, **{f.name: getattr(self, f.name) for f in fields(self)})
            temporary.replace(path)
        except OSError as error:
            raise CorpusError(f"The trees cannot be written to {path}: {error.strerror}.") from error

    @classmethod
    def load(cls, path: Path) -> Trees:
        """Read a file. Raises CorpusError where there is none."""
        try:
            with np.load(path) as stored:
                return cls(**{f.name: stored[f.name] for f in fields(cls)})
        except (OSError, ValueError, KeyError) as error:
            raise CorpusError(f"There are no trees in {path}; run `python -m training actions` first.") from error

    @classmethod
    def joined(cls, parts: Sequence[Trees]) -> Trees:
        """Lay several end to end."""
        nodes = np.cumsum([0, *(len(part) for part in parts)])
        completions = np.cumsum([0, *(len(part.package) for part in parts)])
        arrays: dict[str, Any] = {}
        for item in fields(cls):
            columns = [getattr(part, item.name) for part in parts]
            if item.name == "child":
                columns = [np.where(a >= 0, a + n, a).astype(np.int32) for a, n in zip(columns, nodes, strict=False)]
            if item.name == "completion":
                columns = [(a + n).astype(np.int32) for a, n in zip(columns, completions, strict=False)]
            arrays[item.name] = np.concatenate(columns)
        return cls(**arrays)


@dataclass(slots=True)
class _Recorder:
    """One cursor's nodes as they are found."""

    served: Served
    grower: Grower
    reference: str
    rows: list[dict[str, Any]]

    def add(self, ids: tuple[int, ...]) -> int:
        """Run the layers after `ids` and record the node; return its index."""
        node = self.grower.node(self.served.prompt_ids, ids)
        text = self._text(ids)
        choices, odds = zip(*(self._pick(node, ids, exit_logits) for exit_logits in node.logits), strict=True)
        after = {token: self._after(ids, text, token) for token in set(choices)}
        self.rows.append(
            {
                "hidden": node.states.astype(np.float16),
                "log_odds": odds,
                "choices": choices,
                "child": [OVER if after[token][2] else CUT for token in choices],
                "shown": [after[token][0] for token in choices],
                "stopped": [after[token][1] for token in choices],
                "here": self._counts(text),
                "position": len(ids),
            }
        )
        return len(self.rows) - 1

    def _pick(self, node: Node, ids: tuple[int, ...], exit_logits: Vector) -> tuple[int, float]:
        allowed, logits = considered(exit_logits, ids, self.served.constraint)
        best = int(logits.argmax())
        others = np.delete(logits, best).astype(np.float64)
        odds = float(logits[best] - np.logaddexp.reduce(others)) if len(others) else MOST_LOG_ODDS
        return best if allowed is None else int(allowed[best]), min(odds, MOST_LOG_ODDS)

    def _text(self, ids: tuple[int, ...]) -> str:
        text = self.served.text(ids) if ids else ""
        return text[: filters.stop_index(text, self.served.cursor, "line")]

    def _after(self, ids: tuple[int, ...], text: str, token: int) -> tuple[tuple[int, int], tuple[int, int], bool]:
        """Return the counts with the token and where the completion ends before it, and whether it ends with it."""
        longer = (*ids, token)
        is_over = self.served.is_over(longer) or len(longer) >= self.served.new_tokens
        doubtful = self.served.tokenizer.token_bytes(token).decode("utf-8", "replace")
        return self._counts(self._text(longer)), self._counts(gate.good_prefix(text, doubtful)), is_over

    def _counts(self, text: str) -> tuple[int, int]:
        right = len(commonprefix([text, self.reference]))
        return right, len(text.rstrip()) - right if len(text.rstrip()) > right else 0

    def follow(self, index: int, ids: tuple[int, ...], limit: int) -> list[tuple[int, tuple[int, ...]]]:
        """Record the full-depth path after a node, at most `limit` more; return the nodes and their ids."""
        path = [(index, ids)]
        while len(path) <= limit and self.rows[index]["child"][-1] != OVER:
            token = self.rows[index]["choices"][-1]
            ids = (*ids, token)
            following = self.add(ids)
            self._link(index, token, following)
            index = following
            path.append((index, ids))
        return path

    def branch(self, index: int, ids: tuple[int, ...]) -> None:
        """Record what follows each wrong exit's token at a node."""
        row = self.rows[index]
        wrong = {t for t, child in zip(row["choices"], row["child"], strict=True) if child == CUT}
        for token in sorted(wrong):
            after = (*ids, token)
            following = self.add(after)
            self._link(index, token, following)
            self.follow(following, after, FOLLOWED_TOKENS - 1)

    def _link(self, index: int, token: int, following: int) -> None:
        row = self.rows[index]
        same = [choice == token for choice in row["choices"]]
        row["child"] = [following if s else c for s, c in zip(same, row["child"], strict=True)]


def record(served: Served, grower: Grower, cursor: SourcePosition, package: int) -> Trees:
    """Return the tree of one cursor, as it is served: the rest of its line."""
    reference = cursor.text[cursor.offset :].split("\n", 1)[0].rstrip()
    recorder = _Recorder(served, grower, reference, [])
    for index, ids in recorder.follow(recorder.add(()), (), served.new_tokens):
        recorder.branch(index, ids)
    columns = {name: np.asarray([row[name] for row in recorder.rows]) for name in recorder.rows[0]}
    types = {f.name: str(f.type).partition("np.")[2].rstrip("]") for f in fields(Trees)}
    arrays: dict[str, Any] = {name: column.astype(types[name]) for name, column in columns.items()}
    return Trees(
        **arrays,
        completion=np.zeros(len(recorder.rows), np.int32),
        package=np.array([package], np.int32),
        language=np.array([LANGUAGES.index(cursor.language)], np.int8),
        wanted=np.array([len(reference)], np.int16),
    )
