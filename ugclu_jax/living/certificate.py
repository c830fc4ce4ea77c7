"""What a third person gets of a request: one JSON and one HTML, signed, with everything that checks them.

The signature is of the JSON in its one form (`chain.canonical`) without the signature; the page shows the same, holds
it whole, and has a signature of its own, of its text where that stands blank. With the public key alone anybody sees
that neither was changed, and that the request's row is the one of which the folder's chain was made; with the folder,
its numbers are computed again (`verified.py`).
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ugclu_jax import files
from ugclu_jax.extras import installed_by
from ugclu_jax.living import chain, signing
from ugclu_jax.living.ledger import Ledger
from ugclu_jax.living.rows import Entry, operation
from ugclu_jax.living.store import CERTIFICATES, Store
from ugclu_jax.report.visible import visible
from ugclu_jax.strict_json import parse

with installed_by("run"):
    import jinja2

WHAT = "certificate of a request to a model, 1"
_START, _END = '<script type="application/json" id="certificate">', "</script>"
_BLANK = "0" * 128
_SIGNED = re.compile(r'<meta name="signature" content="([0-9a-f]{128})">')
_PAGE = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
).from_string(Path(__file__).with_name("certificate.html").read_text(encoding="utf-8"))


class Certificate(NamedTuple):
    """A certificate as it was read.

    Attributes:
        content: JSON values.
        text: of the file.
        page: whether it is the page.
    """

    content: dict[str, Any]
    text: str
    page: bool


def statements(entry: Entry) -> list[str]:
    """What the request was, and what the certificate says and does not say of it, in sentences.

    >>> statements(Entry(4, "unlearn", {"trained": 29, "held_out": 6, "method": "retrain", "at": "now"}, b""))[0]
    'Request 4 unlearned 29 examples that the model was trained on and 6 held-out ones, by retrain, at now.'
    """
    body = entry.body
    verb = {"unlearn": "unlearned", "learn": "learned", "init": "began with", "rollback": "took back"}[entry.kind]
    said = [
        f"Request {entry.number} {verb} {body['trained']} examples that the model was trained on and "
        f"{body['held_out']} held-out ones, by {body['method']}, at {body['at']}."
    ]
    if body.get("verdict"):
        said.append(body["verdict"])
    if entry.kind == "unlearn":
        said.append(
            "The folder holds no input, key, class or metadata of these examples; a salted hash of each is left, by "
            "which one that is offered again is known."
        )
        if body["method"] == "retrain":
            said.append("The network was trained from scratch on what remained: it never saw these examples.")
        else:
            said.append(
                "The network was changed by gradient steps. Measurements are evidence that it forgot, not proof; the "
                "proof is training from scratch."
            )
    return said


def made(ledger: Ledger, number: int, signer: signing.Signer) -> dict[str, Any]:
    """The certificate of an entry as JSON values.

    Raises:
        ValueError: there is no such entry, or it is no request.
    """
    entry = ledger.entry(number)
    if entry.kind in ("audit", "purge"):
        raise ValueError(f"entry {number} is of kind {entry.kind}: a certificate is of a request; see history")
    before = chain.START if number == 1 else ledger.entry(number - 1).chain
    audits = [e for e in ledger.entries() if e.kind == "audit" and e.body["request"] == number]
    content = {
        "what": WHAT,
        "public_key": signer.public,
        "model": ledger.entry(1).body["name"],
        "entry": {"number": number, "kind": entry.kind, "body": entry.body},
        "before": before.hex(),
        "chain": entry.chain.hex(),
        "audits": [{"number": e.number, "body": e.body} for e in audits],
        "statements": statements(entry),
    }
    return {**content, "signature": signer.sign(chain.canonical(content))}


def write(store: Store, number: int) -> tuple[Path, Path]:
    """Write both files of an entry's certificate; their paths.

    Raises:
        ValueError: there is no such request, or another process writes.
        OSError: they cannot be written.
    """
    with store.writing("certificate") as ledger:
        signer = signing.load(store.path)
        content = made(ledger, number, signer)
        folder = store.path / CERTIFICATES
        paths = folder / f"{number}.json", folder / f"{number}.html"
        files.write(paths[0], as_text(content))
        files.write(paths[1], as_html(content, signer))
    return paths


def as_text(content: dict[str, Any]) -> str:
    """The JSON file."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def as_html(content: dict[str, Any], signer: signing.Signer) -> str:
    """The page, which holds the JSON too, signed."""
    body = content["entry"]["body"]
    facts = {
        "Model": content["model"],
        "Request": f"{content['entry']['number']} ({content['entry']['kind']})",
        "Asked": body["asked"],
        "For": body.get("by"),
        "Ticket": body.get("ticket"),
        "Time": body["at"],
        "Method": body["method"],
        "Network before": body["before"],
        "Network after": body["after"],
        "Chain": content["chain"],
        "Public key": content["public_key"],
        "Signature": content["signature"],
    }
    embedded = as_text(content).replace("<", "\\u003c")  # nothing in it can end the script
    shown = [(name, visible(str(value))) for name, value in facts.items() if value is not None]
    page = _PAGE.render(facts=shown, content=content, start=_START, end=_END, embedded=embedded, signature=_BLANK)
    return page.replace(_BLANK, signer.sign(page.encode()))


def read(path: Path) -> Certificate:
    """The certificate of a JSON file or of a page.

    Raises:
        ValueError: it is none.
        OSError: it cannot be read.
    """
    with files.open_plain(path) as file:
        raw = file.read()
    try:
        text = raw.decode()
        page = _START in text
        content = parse(str(path), text.partition(_START)[2].partition(_END)[0] if page else text)
        if not isinstance(content, dict) or content.get("what") != WHAT:
            raise ValueError("it is no certificate of this library")
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is no certificate, or was changed ({error})") from error
    return Certificate(content, text, page)


def problems(found: Certificate, public: str) -> list[str]:
    """What is wrong with a certificate by itself; empty: nothing.

    Args:
        found: from `read`.
        public: the key of the model's folder, in hexadecimal, from a place that is trusted.
    """
    content = found.content
    try:
        unsigned = {name: value for name, value in content.items() if name != "signature"}
        entry = content["entry"]
        row = operation(entry["number"], entry["kind"], chain.canonical(entry["body"]).decode(errors="surrogatepass"))
        wrong = []
        if content["public_key"] != public:
            wrong.append("it names another public key than the one given")
        if not signing.verified(public, chain.canonical(unsigned), content["signature"]):
            wrong.append("the signature is not of this content by this key")
        if chain.link(bytes.fromhex(content["before"]), row).hex() != content["chain"]:
            wrong.append("the chain does not hold: the request is not the one of which it was made")
        if not (_signed_page(found.text, public) if found.page else found.text == as_text(content)):
            wrong.append("its text is not the one that was written")
        return wrong
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"it lacks what a certificate has ({error})"]


def _signed_page(text: str, public: str) -> bool:
    found = _SIGNED.search(text)
    if found is None:
        return False
    blank = text[: found.start(1)] + _BLANK + text[found.end(1) :]
    return signing.verified(public, blank.encode(), found[1])
