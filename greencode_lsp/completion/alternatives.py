"""The second and third suggestion, where the user asks: from where the model was least sure of the first one.

A branch keeps the first suggestion's tokens up to the token of least confidence, and continues with the runner-up. All
that stands before the branch is in the model's cache, so that a branch costs its own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from greencode_lsp.completion.backend import Backend
from greencode_lsp.prompt.heal import Healed
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import Completion

ALTERNATIVES = 2
"""Besides the first."""
BRANCHES = 4
"""Tried for them: some come to the same text."""
CERTAIN = 0.98
"""A token of more confidence has no runner-up worth showing."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a suggestion departs from another one."""

    token_ids: tuple[int, ...] = ()
    """Kept: the first tokens generated, healed ones included."""
    avoided: tuple[bytes, ...] = ()
    """Not to follow them, in one token or in pieces."""


WHOLE = Branch()
"""No branch: a suggestion from the cursor on."""


def branches(backend: Backend, completion: Completion) -> Iterator[Branch]:
    """Yield where others may depart from a completion, the least sure token that begins inside its text first."""
    tokenizer = backend.tokenizer
    ids = [step.token_id for step in completion.steps]
    starts = _starts(tokenizer, ids, completion.respelled)
    places = [
        (step.confidence, index)
        for index, step in enumerate(completion.steps)
        if step.confidence < CERTAIN and starts[index] < len(completion.text.encode())
    ]
    for _, index in sorted(places)[:BRANCHES]:
        yield Branch(tuple(ids[:index]), (tokenizer.token_bytes(ids[index]),))


def _starts(tokenizer: CodeTokenizer, ids: Sequence[int], respelled: int) -> list[int]:
    """Return how many bytes of the text stand before each token; negative within what healing spells again."""
    sizes = [len(tokenizer.token_bytes(token_id)) for token_id in ids]
    return [end - size - respelled for end, size in zip(accumulate(sizes), sizes, strict=True)]


def branched(healed: Healed, branch: Branch, backend: Backend) -> Healed:
    """Return the prompt of a branch: the tokens kept behind it, and constrained not to say again what is avoided.

    Nor may it end at once, or begin with a part of it: half a word that may not be finished makes no sense.
    """
    if not branch.avoided:
        return healed
    inner, kept, tokenizer = healed.constraint, list(branch.token_ids), backend.tokenizer
    ends = backend.fim.stop_ids | tokenizer.special_ids

    @lru_cache(maxsize=8)  # each is asked for twice, and is as long as the vocabulary
    def constrained(emitted: tuple[int, ...]) -> Sequence[int] | None:
        allowed = inner([*kept, *emitted]) if inner else None
        spelled = b"".join(map(tokenizer.token_bytes, emitted))
        rests = [avoided[len(spelled) :] for avoided in branch.avoided if avoided.startswith(spelled)]
        if not any(rests):
            return allowed
        again = {i for rest in rests for i in tokenizer.continuing(rest) if _begins(rest, tokenizer.token_bytes(i))}
        avoided = ends | again
        ids = range(tokenizer.vocab_size) if allowed is None else allowed
        return [token_id for token_id in ids if token_id not in avoided] or allowed

    return Healed((*healed.prompt_ids, *kept), healed.dropped, lambda emitted: constrained(tuple(emitted)))


def _begins(text: bytes, token: bytes) -> bool:
    """Return whether a text begins with a token that is more than blanks: after these anything may follow."""
    return bool(token.strip()) and text.startswith(token)


def alternatives(
    backend: Backend, first: Completion, complete: Callable[..., Completion], wanted: Callable[[], bool]
) -> Iterator[tuple[Completion, bool]]:
    """Yield completions from branches, and whether each says something else than those before; at most two do.

    `complete` makes one from a keyword `branch`; `wanted` is asked before each.
    """
    texts = {_essence(first.text)}
    waiting = [*branches(backend, first)]
    while waiting and len(texts) <= ALTERNATIVES and wanted():
        branch = waiting.pop(0)
        completion = complete(branch=branch)
        essence = _essence(completion.text)
        is_other = bool(essence) and essence not in texts
        if is_other:
            texts.add(essence)
            token = backend.tokenizer.token_bytes(completion.steps[0].token_id)
            waiting.append(Branch(branch.token_ids, (*branch.avoided, token)))  # the third choice there
        yield completion, is_other


def _essence(text: str) -> str:
    return "".join(text.split())
