"""Inputs of examples that the ledger knows by key and digest: from the model's samples, or from their sources."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ugclu_jax.extras import installed_by
from ugclu_jax.living import offered
from ugclu_jax.living.held import Held, filled
from ugclu_jax.living.ledger import Ledger
from ugclu_jax.living.network import Described
from ugclu_jax.living.offered import Offered
from ugclu_jax.living.rows import Row, spelled


class Gathered(NamedTuple):
    """Inputs by number in the ledger, and the rows of which none was found."""

    inputs: dict[int, np.ndarray]
    missing: list[Row]


def source_of(ledger: Ledger) -> dict[int, str]:
    """Where the examples of each entry that learned came from."""
    return {e.number: e.body["source"] for e in ledger.entries() if e.kind in ("init", "learn")}


def encoded(found: Offered, held_tokenizer: bytes | None, described: Described) -> Offered:
    """Examples with inputs as the network takes them: texts as tokens.

    Raises:
        ValueError: inputs of another kind, shape or type than the model's.
    """
    if found.kind != described.inputs:
        raise ValueError(f"these are {found.kind}, and the model has learned {described.inputs}: give it such")
    if found.kind == "texts":
        found = found._replace(inputs=tokens(found.inputs.tolist(), held_tokenizer or b"", described.shape[0]))
    inputs = found.inputs
    if inputs.shape[1:] != described.shape or str(inputs.dtype) != described.dtype:
        raise ValueError(
            f"inputs are {inputs.dtype}{list(inputs.shape[1:])}; the model takes {described.dtype}"
            f"{list(described.shape)}: prepare them in the same way"
        )
    return found


def tokens(texts: Sequence[str], tokenizer: bytes, length: int) -> np.ndarray:
    """Tokens of texts, [n, length] int32, by the model's own tokenizer."""
    with installed_by("text"):
        from tokenizers import Tokenizer

    from ugclu_jax.data.text import encode

    return encode(Tokenizer.from_str(tokenizer.decode()), list(texts), length)


def gathered(ledger: Ledger, held: Held, rows: Sequence[Row], sources: Iterable[str] = ()) -> Gathered:
    """Find inputs.

    Args:
        ledger: that the rows stand in.
        held: the model, whose samples are looked into first.
        rows: of present examples.
        sources: where to look instead of where they came from; none: there.
    """
    sampled: dict[int, np.ndarray] = {}
    for buffer in (held.buffer, held.held_out):
        inputs, _, numbers = filled(buffer)
        sampled.update(zip(numbers.tolist(), inputs, strict=True))
    found = {row.number: sampled[row.number] for row in rows if row.number in sampled}
    came = source_of(ledger)
    left = [row for row in rows if row.number not in found]
    places = list(sources) or list(dict.fromkeys(came[row.learned_by] for row in left))
    for place in places:
        wanted = {row.example.key: row for row in left if sources or came[row.learned_by] == place}
        if not wanted:
            continue
        try:
            there = encoded(offered.read(place, held.described.image_size, set(wanted)), held.tokenizer, held.described)
        except OSError:
            continue
        for key, array in zip(there.keys, there.inputs, strict=True):
            row = wanted.get(spelled(key))
            # Who changed a picture has another: its content is what was learned, or it is not at hand.
            if row is not None and hashlib.sha256(np.ascontiguousarray(array).data).digest() == row.example.content:
                found[row.number] = array
    return Gathered(found, [row for row in rows if row.number not in found])
