"""Labelled texts, cut into tokens by a byte-level BPE trained on the training texts alone, or by a given tokenizer."""

import dataclasses
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ugclu_jax.data import cache
from ugclu_jax.data.classes import split_notes
from ugclu_jax.data.dataset import Dataset, from_arrays
from ugclu_jax.data.labels import numbered
from ugclu_jax.data.text_files import read
from ugclu_jax.data.wording import listed
from ugclu_jax.extras import installed_by

with installed_by("text"):
    import tokenizers
    from tokenizers import Tokenizer

PAD, CLS = 0, 1
"""Tokens that stand for no text: padding after it, and the first token of every example."""
TOKENIZER_FILE = "tokenizer.json"
_SPECIAL = ("[PAD]", "[CLS]")
_READING = 2  # how files become texts, labels and keys


def load(
    directory: Path | str | None,
    text_length: int = 128,
    vocabulary_size: int = 8192,
    cache_dir: Path | None = None,
    encoding: str | None = None,
    tokenizer: Path | None = None,
) -> Dataset:
    """Load `train.jsonl|csv` and `test.jsonl|csv` of `directory`: fields `text` and `label`, `id` if wanted.

    Tokens are of a byte-level BPE, so that no text is unknown, trained on the training texts as they are. An example
    is a CLS token (1), then the text's tokens, cut or padded with 0 to `text_length`. Labels are strings or integers;
    class names are those of the training split, whole numbers by value. A key is the `id`, or else the digest of text
    and label; further fields are metadata.

    With `tokenizer`, tokens are its own: with the special ones that it adds, cut and padded likewise.

    Args:
        directory: of the two files.
        text_length: L, at least 2.
        vocabulary_size: most tokens that the tokenizer may have: 256 bytes, 2 special ones, the rest learned.
        cache_dir: see `cache.entry_path`; the tokenizer is kept there beside the arrays, as `tokenizer.json`.
        encoding: of the files, see `encodings.text_of`.
        tokenizer: file of one that was made elsewhere, in the format of the library tokenizers; `vocabulary_size` is
            not read then.

    Returns:
        A validated `Dataset` of [N, L] int32 tokens; its `vocabulary_size` is what the tokenizer has.

    Raises:
        FileNotFoundError: if a file is missing, or there are two for one split.
        ValueError: if a file is not in its encoding (with line and byte) or is no CSV or JSON Lines, a line has not the
            two fields, labels are nearly equal, ids are not, or a test label is not among the training labels; file and
            line are named. If `tokenizer` is none, or its padding is not id 0.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for split in ("train", "test"):
        ...         _ = Path(folder, f"{split}.csv").write_text("text,label\\ngood film,up\\nbad,down\\n")
        ...     data = load(folder, text_length=4, vocabulary_size=258, cache_dir=Path(folder, "cache"))
        ...     data.class_names, data.train_inputs[:, 0].tolist()
        (('down', 'up'), [1, 1])
    """
    if directory is None:
        raise ValueError(
            "directory is None: text needs the folder of train.jsonl and test.jsonl; give --data.directory"
        )
    directory = Path(directory)
    texts = read(directory, encoding)
    try:
        names, train_labels, label_notes = numbered(np.array(texts.labels[: texts.train], dtype=np.str_))
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error
    numbers = {name: number for number, name in enumerate(names)}
    for label, place in zip(texts.labels[texts.train :], texts.places[texts.train :], strict=True):
        if label not in numbers:
            raise ValueError(
                f"{place}: label {label!r} is not among the training labels ({listed(names)}): correct it, or add "
                "training texts of that label"
            )
    test_labels = np.array([numbers[label] for label in texts.labels[texts.train :]], np.int32)
    given = None if tokenizer is None else given_tokenizer(tokenizer)
    made_by = {"vocabulary_size": vocabulary_size} if given is None else {"tokenizer": given.digest}
    key = {
        "text": texts.digests,
        "text_length": text_length,
        **made_by,
        "tokenizers": tokenizers.__version__,
        "reading": _READING,
    }
    name = directory.resolve().name or "text"
    halves = texts.texts[: texts.train], texts.texts[texts.train :]

    def build(folder: Path) -> Dataset:
        if given is None:
            own = train_tokenizer(texts.texts[: texts.train], vocabulary_size)
            train, test = (encode(own, some, text_length) for some in halves)
        else:
            own = given.tokenizer
            train, test = (encode_as_it_does(own, some, text_length) for some in halves)
        own.save(str(folder / TOKENIZER_FILE))
        return from_arrays(
            name,
            train,
            train_labels,
            test,
            test_labels,
            class_names=names,
            vocabulary_size=own.get_vocab_size(),
            train_keys=texts.keys[: texts.train],
            test_keys=texts.keys[texts.train :],
            keys_are=texts.keys_are,
        )

    dataset = cache.cached(cache_dir, name, key, build)
    notes = (*label_notes, *split_notes(names, train_labels, test_labels), *texts.notes)
    kept = cache.entry_path(cache_dir, name, key) / TOKENIZER_FILE
    return dataclasses.replace(dataset, metadata=texts.metadata, notes=notes, tokenizer=kept)


class Given(NamedTuple):
    """A tokenizer that was made elsewhere, and the SHA-256 of its file."""

    tokenizer: Tokenizer
    digest: str


def given_tokenizer(path: Path) -> Given:
    """Read a tokenizer; what its file says of cutting and padding to a length is left to `encode_as_it_does`.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is no tokenizer, or its padding is not id 0, which the models take for padding.
    """
    if not path.is_file():
        raise FileNotFoundError(f"tokenizer is {path}: there is no such file; give a tokenizer.json")
    content = path.read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library has no kind of its own
        raise ValueError(f"tokenizer is {path}: it is no tokenizer ({error}); give a tokenizer.json") from error
    padding = next((i for i in map(tokenizer.token_to_id, ("[PAD]", "<pad>")) if i is not None), None)
    if padding != PAD:
        raise ValueError(
            f"tokenizer is {path}: its padding is {'missing' if padding is None else f'id {padding}'}; it must be id "
            f"{PAD}, a token [PAD] or <pad>, which the models leave out; give another"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True  # as plain text: "[CLS]" within a text is no CLS token
    return Given(tokenizer, hashlib.sha256(content).hexdigest())


def encode_as_it_does(tokenizer: Tokenizer, texts: list[str], text_length: int) -> np.ndarray:
    """Tokens of texts, [N, text_length] int32, with the special tokens that a tokenizer adds; padding last.

    Example:
        >>> encode_as_it_does(train_tokenizer(["a"], 258), ["a", ""], 3)[1].tolist()
        [0, 0, 0]
    """
    tokens = np.full((len(texts), text_length), PAD, np.int32)
    tokenizer.enable_truncation(text_length)
    for row, encoding in enumerate(tokenizer.encode_batch_fast(texts)):
        tokens[row, : len(encoding.ids)] = encoding.ids
    tokenizer.no_truncation()
    return tokens


def train_tokenizer(texts: list[str], vocabulary_size: int) -> Tokenizer:
    """Train a byte-level BPE; equal texts give an equal tokenizer.

    Example:
        >>> train_tokenizer(["low lower lowest"], 260).get_vocab_size()
        260
    """
    tokenizer = Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str], text_length: int) -> np.ndarray:
    """Tokens of texts, [N, text_length] int32: CLS first, padding last.

    Example:
        >>> encode(train_tokenizer(["a"], 258), ["a", ""], 4)[:, 0].tolist()
        [1, 1]
    """
    tokenizer.encode_special_tokens = True  # as plain text: "[CLS]" within a text is no CLS token
    tokens = np.full((len(texts), text_length), PAD, np.int32)
    tokens[:, 0] = CLS
    for row, encoding in enumerate(tokenizer.encode_batch_fast(texts, add_special_tokens=False)):
        ids = encoding.ids[: text_length - 1]
        tokens[row, 1 : 1 + len(ids)] = ids
    return tokens
