"""`ugclu VERB FOLDER …`: each function is a verb, its arguments are options, its docstring is the help."""

from pathlib import Path
from typing import Annotated, Any

import tyro

Folder = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER", help="Folder of the model.")]
Number = Annotated[
    int | None, tyro.conf.Positional, tyro.conf.arg(metavar="[ENTRY]", help="Number of the request. Default: the last.")
]
Json = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="Print the result as JSON, and nothing else.")]
By = Annotated[str | None, tyro.conf.arg(help="Who asked for it.")]
Ticket = Annotated[str | None, tyro.conf.arg(help="Number under which it was asked for.")]
Name = Annotated[str | None, tyro.conf.arg(help="What tables call it.")]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
Words = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


def init(
    folder: Folder,
    /,
    data: str,
    model: str = "mlp",
    weights: Path | None = None,
    classes: tuple[str, ...] = (),
    image_size: int | None = None,
    text_length: int = 128,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    capacity: int = 5000,
    held_out: int = 500,
    seed: int = 0,
    settings: Path | None = None,
    by: By = None,
    ticket: Ticket = None,
    json: Json = False,
) -> int:
    """Make a model's folder, from data and a deployed network's weights, or trained here.

    Args:
        folder: that is made.
        data: folder of pictures in folders of classes, an .npz, a .csv, .jsonl or .parquet, or a data set by name.
        model: network: mlp, cnn, resnet18, … or your own as package.module:attribute.
        weights: safetensors of the network that has learned the data. Default: it is trained here.
        classes: names in the order of the network's outputs. Default: those of the data, sorted.
        image_size: side to which pictures are resized.
        text_length: tokens that a text is cut or padded to.
        mean: per channel, by which the network normalises. Default: of the data.
        std: likewise.
        capacity: examples that the memory buffer holds.
        held_out: most held-out examples that the folder keeps, to measure on.
        seed: of everything that is drawn.
        settings: JSON file of further settings: model_options, augment, learn, unlearn, oracle, references.
        by: who asked for it.
        ticket: number under which it was asked for.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    start = {
        "weights": weights,
        "classes": classes,
        "image_size": image_size,
        "text_length": text_length,
        "mean": mean,
        "std": std,
        "held_out": held_out,
        "seed": seed,
    }
    return run.init(folder, data, model, capacity, settings, start, by, ticket, json)


def learn(
    folder: Folder,
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    /,
    name: Name = None,
    method: str | None = None,
    retrain: Flag = False,
    relearn: Flag = False,
    by: By = None,
    ticket: Ticket = None,
    dry_run: Flag = False,
    json: Json = False,
) -> int:
    """Learn what a source has and the model does not know.

    Args:
        folder: of the model.
        data: as for init; classes that are new make the last layer grow.
        name: what tables call it.
        method: of the library. Default: ug_clu.
        retrain: train from scratch on all source data instead.
        relearn: learn also what was unlearned before.
        by: who asked for it.
        ticket: number under which it was asked for.
        dry_run: say what would be done, and stop.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    who = run.who(name, by, ticket)
    return run.learn(folder, data, who, method, retrain, relearn, dry_run, json)


def unlearn(
    folder: Folder,
    /,
    where: str | None = None,
    ids: Path | None = None,
    files: tuple[str, ...] = (),
    classes: Annotated[tuple[str, ...], tyro.conf.arg(name="class")] = (),
    data: tuple[str, ...] = (),
    name: Name = None,
    method: str | None = None,
    retrain: Flag = False,
    by: By = None,
    ticket: Ticket = None,
    dry_run: Flag = False,
    yes: Flag = False,
    json: Json = False,
) -> int:
    """Unlearn examples; no byte of them is in the folder afterwards.

    Args:
        folder: of the model.
        where: a condition in SQL on key, class, split and the metadata, such as "user = 17 and date < '2024-01-01'".
        ids: file of one id a line.
        files: ids, or paths that end in one.
        classes: all examples of these classes.
        data: where the examples are, where not where they came from.
        name: what tables call it.
        method: of the library. Default: ug_clu, or what is answered to the question whether to retrain.
        retrain: train from scratch on what remains of the source data.
        by: who asked for it.
        ticket: number under which it was asked for.
        dry_run: say what would be done, and stop.
        yes: answer yes to every question.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    asked = run.asked(where, ids, files, classes)
    who = run.who(name, by, ticket)
    return run.unlearn(folder, asked, who, method, retrain, data, dry_run, yes, json)


def audit(
    folder: Folder,
    entry: Number = None,
    /,
    last: Flag = False,
    references: int = 0,
    oracle: Flag = False,
    data: tuple[str, ...] = (),
    json: Json = False,
) -> int:
    """Say, with intervals, what evidence there is that a request to unlearn did so.

    Args:
        folder: of the model.
        entry: number of the request. Default: the last that unlearned.
        last: the last that unlearned, which is the default.
        references: small networks, trained on the buffer, against which every example is judged (RMIA); 0 = none.
        oracle: retrain from source, and give the distances to it.
        data: where the unlearned examples still are. Default: where they came from.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    return run.audit(folder, entry, last, references, oracle, data, json)


def certificate(folder: Folder, entry: Number = None, /, json: Json = False) -> int:
    """Write the signed certificate of a request, as JSON and as a page.

    Args:
        folder: of the model.
        entry: number of the request. Default: the last.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    return run.certificate(folder, entry, json)


def verify(
    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER|CERTIFICATE")],
    /,
    key: Path | None = None,
    folder: str | None = None,
    data: tuple[str, ...] = (),
    json: Json = False,
) -> int:
    """Compute everything that a folder, or a certificate, says again.

    Args:
        path: of a model's folder, or of a certificate.
        key: the model's public.pem, from a place that you trust; a certificate is checked by it alone.
        folder: of the model, to compute a certificate's numbers again.
        data: sources whose unlearned examples are looked for, byte by byte, in every file of the folder.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    return run.verify(path, key, folder, data, json)


def predict(
    folder: Folder,
    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")],
    /,
    limit: int | None = None,
    json: Json = False,
) -> int:
    """Say what the network takes inputs for.

    Args:
        folder: of the model.
        what: a picture, or a source as for learn.
        limit: most inputs.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    return run.predict(folder, what, limit, json)


def export(
    folder: Folder,
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    onnx: Flag = False,
    json: Json = False,
) -> int:
    """Write the network as safetensors or ONNX, and its configuration beside it as JSON.

    Args:
        folder: of the model.
        output: file that is written.
        onnx: write ONNX, for any number of examples; it is run and compared first.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    return run.export(folder, output, onnx, json)


def status(folder: Folder, /, json: Json = False) -> int:
    """Say how a model stands.

    Args:
        folder: of the model.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    return run.status(folder, json)


def history(folder: Folder, /, json: Json = False) -> int:
    """List everything that was done to a model.

    Args:
        folder: of the model.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    return run.history(folder, json)


def rollback(folder: Folder, /, to: int, by: By = None, ticket: Ticket = None, json: Json = False) -> int:
    """Go back to the network of an earlier entry; never past an unlearning.

    Args:
        folder: of the model.
        to: number of the entry.
        by: who asked for it.
        ticket: number under which it was asked for.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    return run.rollback(folder, to, by, ticket, json)


def purge(folder: Folder, /, dry_run: Flag = False, json: Json = False) -> int:
    """Remove what still holds traces of unlearned examples, and scan what is left.

    Args:
        folder: of the model.
        dry_run: list it only.
        json: print the result as JSON, and nothing else.
    """
    from ugclu_jax.living import run

    return run.purge(folder, dry_run, json)


VERBS: dict[str, Any] = {
    verb.__name__: verb
    for verb in (
        *(init, learn, unlearn, audit, certificate, verify),
        *(predict, export, status, history, rollback, purge),
    )
}
