"""What the verbs of the command line do: call the model, print what it returns, end with a code.

0 done; 1 something is not as it was written; 2 refused, and nothing has changed; 130 interrupted.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ugclu_jax.bank import DamagedCacheError
from ugclu_jax.evaluation import as_dict
from ugclu_jax.extras import MissingExtraError
from ugclu_jax.harness.config import path_of
from ugclu_jax.harness.options import NO_HOME, default_cache
from ugclu_jax.harness.program_cache import keep_programs
from ugclu_jax.harness.progress import Progress
from ugclu_jax.harness.refusals import check_machine
from ugclu_jax.harness.terminal import consoles, say
from ugclu_jax.living import signing, told, verified
from ugclu_jax.living.model import LivingModel
from ugclu_jax.living.requests import Who
from ugclu_jax.living.results import Understood
from ugclu_jax.living.selection import Asked
from ugclu_jax.living.serving import RETRAIN
from ugclu_jax.living.store import Store
from ugclu_jax.living.understanding import DEFAULT
from ugclu_jax.strict_json import read_json

Ending = tuple[Any, Iterable[str], int]
"""A result, the lines that say it, and the exit code."""


def _settings(path: Path | None, model: str, capacity: int) -> dict[str, Any]:
    """Settings of a file, and those that have options of their own."""
    found = {} if path is None else read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} must be an object of settings")
    return {"model": model, "capacity": capacity, **found}


def who(name: str | None, by: str | None, ticket: str | None) -> Who:
    """For whom a request is."""
    return Who(name, by, ticket)


def asked(where: str | None, ids: Path | None, files: tuple[str, ...], classes: tuple[str, ...]) -> Asked:
    """Which examples a request names."""
    return Asked(where, ids, files, classes)


def _method(method: str | None, retrain: bool) -> str | None:
    """The method that was asked for; None: none was."""
    if retrain and method not in (None, RETRAIN):
        raise ValueError(f"--retrain and --method {method} are given: give one of them")
    return RETRAIN if retrain else method


def _ended(as_json: bool, work: Callable[[Console], Ending]) -> int:
    """Run a verb: print its result as lines or as JSON, or the error in a sentence."""
    console, errors = consoles()
    quiet = Console(quiet=True) if as_json else console
    try:
        check_machine(os.environ)
        if default_cache() != NO_HOME:
            keep_programs(default_cache())
        result, lines, code = work(quiet)
        if as_json:
            console.out(json.dumps(as_dict(result), indent=1, default=str), highlight=False)
        else:
            for line in lines:
                style = "red" if line.startswith("PROBLEM:") else "yellow" if line.startswith("Note:") else ""
                title, _, rest = line.partition(": ") if style else ("", "", line)
                say(console, f"{title}:" if style else "", rest, style or "red")
    except BrokenPipeError:
        raise
    except (ValueError, OSError, MissingExtraError, DamagedCacheError) as error:
        say(errors, "Error:", _told(error))
        return 2
    except KeyboardInterrupt:
        say(errors, "", "Interrupted; the model is as it was before, or as after: see ugclu status")
        return 130
    return code


@contextlib.contextmanager
def _bars(console: Console) -> Iterator[Progress | None]:
    """Bars on a terminal; None in a pipe and beside JSON, where no program is to leave the device for them."""
    if not console.is_terminal or console.quiet:
        yield None
        return
    with Progress(console) as progress:
        yield progress


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _open(folder: str) -> LivingModel:
    return LivingModel.open(path_of(folder, "FOLDER"))


def _chosen(console: Console, understood: Understood, method: str | None, yes: bool) -> str:
    """The method: as asked; or else retraining where it is cheaper and nobody says no.

    Where there is no terminal nobody is asked: the default is taken, and said.
    """
    if method is not None:
        return method
    if not understood.estimate.retraining_is_cheaper:
        return DEFAULT
    if not yes and console.is_terminal and sys.stdin.isatty():
        answer = console.input("Retrain? [Y/n] ").strip().lower()
        return DEFAULT if answer in ("n", "no") else RETRAIN
    why = "as --yes says" if yes else f"without a terminal to ask at; --method {DEFAULT} unlearns by {DEFAULT}"
    say(console, "", f"Retraining, {why}.")
    return RETRAIN


def init(
    folder: str,
    data: str,
    model: str,
    capacity: int,
    settings: Path | None,
    start: dict[str, Any],
    by: str | None,
    ticket: str | None,
    as_json: bool,
) -> int:
    """Verb `init`."""

    def work(console: Console) -> Ending:
        place = path_of(folder, "FOLDER")
        given = _settings(settings, model, capacity)
        with _bars(console) as progress:
            made, done = LivingModel.init(place, data, by=by, ticket=ticket, settings=given, progress=progress, **start)
        lines = [*told.done(done), f"Public key, for whoever is to check certificates: {place / signing.PUBLIC}"]
        return done, [*lines, *told.status(made.status())], 0

    return _ended(as_json, work)


def learn(
    folder: str, data: str, who: Who, method: str | None, retrain: bool, relearn: bool, dry_run: bool, as_json: bool
) -> int:
    """Verb `learn`."""

    def work(console: Console) -> Ending:
        chosen = _method(method, retrain) or DEFAULT
        model = _open(folder)
        understood = model.understand(data, chosen, relearn)
        if dry_run:
            return understood, told.understood(understood), 0
        for line in told.understood(understood):
            say(console, "", line)
        with _bars(console) as progress:
            done = model.learn(data, **who._asdict(), method=chosen, relearn=relearn, progress=progress)
        return done, told.done(done), 0

    return _ended(as_json, work)


def unlearn(
    folder: str,
    asked: Asked,
    who: Who,
    method: str | None,
    retrain: bool,
    sources: Sequence[str],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Verb `unlearn`."""

    def work(console: Console) -> Ending:
        wanted = _method(method, retrain)
        model = _open(folder)
        understood = model.understand(asked, wanted or DEFAULT)
        if dry_run:
            return understood, told.understood(understood), 0
        for line in told.understood(understood):
            say(console, "", line)
        chosen = _chosen(console, understood, wanted, yes)
        with _bars(console) as progress:
            done = model.unlearn(asked, **who._asdict(), method=chosen, sources=sources, progress=progress)
        return done, told.done(done), 0

    return _ended(as_json, work)


def audit(
    folder: str, entry: int | None, last: bool, references: int, oracle: bool, data: Sequence[str], as_json: bool
) -> int:
    """Verb `audit`."""

    def work(console: Console) -> Ending:
        if last and entry is not None:
            raise ValueError(f"entry {entry} and --last are given: give one of them")
        with _bars(console) as progress:
            found = _open(folder).audit(entry, references=references, oracle=oracle, sources=data, progress=progress)
        return found, told.audited(found), 0

    return _ended(as_json, work)


def certificate(folder: str, entry: int | None, as_json: bool) -> int:
    """Verb `certificate`."""

    def work(console: Console) -> Ending:
        paths = _open(folder).certificate(entry)
        return (
            {"json": str(paths[0]), "html": str(paths[1])},
            [f"Certificate: {paths[0]}", f"Page:        {paths[1]}"],
            0,
        )

    return _ended(as_json, work)


def verify(path: str, key: Path | None, folder: str | None, data: Sequence[str], as_json: bool) -> int:
    """Verb `verify`."""

    def work(console: Console) -> Ending:
        place = path_of(path, "FOLDER")
        public = None if key is None else signing.read_public(key)
        if place.is_dir():
            found = _open(path).verify(public, data)
        elif public is None:
            raise ValueError(
                f"{path} is a certificate, which is checked by the model's public key: give --key public.pem"
            )
        else:
            store = None if folder is None else Store(path_of(folder, "--folder"))
            found = verified.of_certificate(place, public, store)
        return found, told.verified(found), 1 if found.problems else 0

    return _ended(as_json, work)


def predict(folder: str, what: str, limit: int | None, as_json: bool) -> int:
    """Verb `predict`."""

    def work(console: Console) -> Ending:
        found = _open(folder).predict(what, limit)
        return found, told.predicted(found), 0

    return _ended(as_json, work)


def export(folder: str, output: Path, onnx: bool, as_json: bool) -> int:
    """Verb `export`."""

    def work(console: Console) -> Ending:
        _open(folder).export(output, onnx=onnx)
        written = [str(output), str(output.with_suffix(".json"))]
        return {"written": written}, [f"Written: {each}" for each in written], 0

    return _ended(as_json, work)


def status(folder: str, as_json: bool) -> int:
    """Verb `status`."""

    def work(console: Console) -> Ending:
        found = _open(folder).status()
        return found, told.status(found), 0

    return _ended(as_json, work)


def history(folder: str, as_json: bool) -> int:
    """Verb `history`."""

    def work(console: Console) -> Ending:
        found = _open(folder).history()
        return [e._replace(chain=e.chain.hex()) for e in found], told.history(found), 0  # type: ignore[arg-type]

    return _ended(as_json, work)


def rollback(folder: str, to: int, by: str | None, ticket: str | None, as_json: bool) -> int:
    """Verb `rollback`."""

    def work(console: Console) -> Ending:
        done = _open(folder).rollback(to, by=by, ticket=ticket)
        return done, told.done(done), 0

    return _ended(as_json, work)


def purge(folder: str, dry_run: bool, as_json: bool) -> int:
    """Verb `purge`."""

    def work(console: Console) -> Ending:
        found = _open(folder).purge(dry_run)
        return found, told.purged(found), 1 if found.left else 0

    return _ended(as_json, work)
