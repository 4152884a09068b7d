"""The second and third suggestion, where the user asks: from where the model was least sure of the first one.

A branch keeps the first suggestion's tokens up to the token of least confidence, and continues with the runner-up. All
that stands before the branch is in the model's cache, so that a branch costs its own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.request import Request
from greencode_lsp.prompt.heal import Healed
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import Branch, Completion, Step

ALTERNATIVES = 2
"""Besides the first."""
BRANCHES = 4
"""Tried for them: some come to the same text."""
CERTAIN = 0.98
"""A token of more confidence has no runner-up worth showing."""


def branches(
    backend: Backend, request: Request, healed: Healed, steps: Sequence[Step], text: str
) -> tuple[Branch, ...]:
    """Return where others may depart from a completion, where the user asked for it.

    Of a first one the least sure token that begins inside its text comes first; of another one it is the same place
    again, for the choice after.
    """
    tokenizer, branch = backend.tokenizer, request.branch
    if not request.invoked or not text or not steps:
        return ()
    if branch.avoided:
        return _branch(branch.token_ids, (*branch.avoided, tokenizer.token_bytes(steps[0].token_id)))
    ids = [step.token_id for step in steps]
    starts = _starts(tokenizer, ids, len(healed.dropped))
    places = [
        (step.confidence, index)
        for index, step in enumerate(steps)
        if step.confidence < CERTAIN and starts[index] < len(text.encode())
    ]
    return tuple(
        branch
        for _, index in sorted(places)[:BRANCHES]
        for branch in _branch(tuple(ids[:index]), (tokenizer.token_bytes(ids[index]),))
    )


def _branch(token_ids: tuple[int, ...], avoided: tuple[bytes, ...]) -> tuple[Branch, ...]:
    """Return a branch, none where it is longer than a request may carry."""
    try:
        return (Branch(token_ids, avoided),)
    except ValueError:
        return ()


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
    first: Completion, complete: Callable[[Branch], Completion], wanted: Callable[[], bool]
) -> Iterator[tuple[Completion, bool]]:
    """Yield completions from branches, and whether each says something else than those before; at most two do.

    `wanted` is asked before each.
    """
    texts = {_essence(first.text)}
    waiting = [*first.branches]
    while waiting and len(texts) <= ALTERNATIVES and wanted():
        completion = complete(waiting.pop(0))
        essence = _essence(completion.text)
        is_other = bool(essence) and essence not in texts
        if is_other:
            texts.add(essence)
            waiting += completion.branches
        yield completion, is_other


def _essence(text: str) -> str:
    return "".join(text.split())
