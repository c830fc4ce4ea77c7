"""Labelled texts, cut into tokens by a byte-level BPE that was trained on the training texts alone."""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax.data import cache
from ugclu_jax.data.dataset import Dataset, from_arrays
from ugclu_jax.extras import installed_by

with installed_by("text"):
    import tokenizers
    from tokenizers import Tokenizer

PAD, CLS = 0, 1
"""Tokens that stand for no text: padding after it, and the first token of every example."""
TOKENIZER_FILE = "tokenizer.json"
_SPECIAL = ("[PAD]", "[CLS]")
_SUFFIXES = (".jsonl", ".csv")


class _Split(NamedTuple):
    path: Path
    content: bytes
    texts: list[str]
    labels: list[str]
    lines: list[int]  # of the file, where each example begins or, in a CSV, ends


def load(
    directory: Path | str | None, text_length: int = 128, vocabulary_size: int = 8192, cache_dir: Path | None = None
) -> Dataset:
    """Load `train.jsonl|csv` and `test.jsonl|csv` of `directory`: UTF-8, fields `text` and `label`.

    Tokens are of a byte-level BPE, so that no text is unknown, trained on the training texts as they are. An example
    is a CLS token (1), then the text's tokens, cut or padded with 0 to `text_length`. Labels are strings or integers;
    class names are those of the training split, sorted.

    Args:
        directory: of the two files.
        text_length: L, at least 2.
        vocabulary_size: most tokens that the tokenizer may have: 256 bytes, 2 special ones, the rest learned.
        cache_dir: see `cache.entry_path`; the tokenizer is kept there beside the arrays, as `tokenizer.json`.

    Returns:
        A validated `Dataset` of [N, L] int32 tokens; its `vocabulary_size` is what the tokenizer has.

    Raises:
        FileNotFoundError: if a file is missing, or there are two for one split.
        ValueError: if a file is not UTF-8 (with line and byte), a line has not the two fields, or a test label is not
            among the training labels; file and line are named.

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
    train, test = (_read(_find(directory, split)) for split in ("train", "test"))
    names = sorted(set(train.labels))
    for label, line in zip(test.labels, test.lines, strict=True):
        if label not in names:
            raise ValueError(
                f"{test.path}, line {line}: label {label!r} is not among the training labels ({', '.join(names)}): "
                "correct it, or add training texts of that label"
            )
    key = {
        "text": [hashlib.sha256(split.content).hexdigest() for split in (train, test)],
        "formats": [split.path.suffix for split in (train, test)],
        "text_length": text_length,
        "vocabulary_size": vocabulary_size,
        "tokenizers": tokenizers.__version__,
    }

    def build(folder: Path) -> Dataset:
        tokenizer = train_tokenizer(train.texts, vocabulary_size)
        tokenizer.save(str(folder / TOKENIZER_FILE))
        arrays: list[np.ndarray] = []
        for split in (train, test):
            arrays.append(encode(tokenizer, split.texts, text_length))
            arrays.append(np.array([names.index(label) for label in split.labels], np.int32))
        return from_arrays(
            directory.resolve().name, *arrays, class_names=names, vocabulary_size=tokenizer.get_vocab_size()
        )

    return cache.cached(cache_dir, directory.resolve().name, key, build)


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


def _find(directory: Path, split: str) -> Path:
    candidates = [directory / f"{split}{suffix}" for suffix in _SUFFIXES]
    found = [path for path in candidates if path.is_file()]
    if len(found) != 1:
        names = " and ".join(path.name for path in found) or "neither"
        raise FileNotFoundError(
            f"{directory} has {names} of {candidates[0].name} and {candidates[1].name}: it must have exactly one, with "
            "fields text and label"
        )
    return found[0]


def _read(path: Path) -> _Split:
    content = path.read_bytes()
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Counted anew: the error's own offset leaves out a byte order mark.
        start = len(content) - len(error.object) + error.start
        line = content[:start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}, byte {start} of the file: not UTF-8 ({error.reason}); convert the file to UTF-8"
        ) from error
    split = _Split(path, content, [], [], [])
    for line, entry in (_jsonl if path.suffix == ".jsonl" else _csv)(path, decoded):
        text, label = entry.get("text"), entry.get("label")
        if not isinstance(text, str) or not isinstance(label, str | int) or isinstance(label, bool) or label == "":
            raise ValueError(
                f"{path}, line {line}: text is {text!r:.60} and label {label!r}; there must be a string 'text' and a "
                "non-empty string or integer 'label'"
            )
        split.texts.append(text)
        split.labels.append(str(label))
        split.lines.append(line)
    if not split.texts:
        raise ValueError(f"{path} has no example: it must have at least one")
    return split


def _jsonl(path: Path, decoded: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(decoded.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number}, column {error.colno}: not JSON ({error.msg}); correct it"
            ) from error
        if not isinstance(entry, dict):
            raise ValueError(f"{path}, line {number}: {line:.60} is no JSON object; write {{'text': …, 'label': …}}")
        yield number, entry


def _csv(path: Path, decoded: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(decoded.splitlines(keepends=True), strict=True)
    try:
        if not {"text", "label"} <= set(reader.fieldnames or ()):
            raise ValueError(f"{path}, line 1: columns are {reader.fieldnames}; there must be 'text' and 'label'")
        for entry in reader:
            if None in entry:
                raise ValueError(f"{path}, line {reader.line_num}: more fields than columns; quote texts with commas")
            yield reader.line_num, entry
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.reader.line_num}: not CSV ({error}); correct it") from error
