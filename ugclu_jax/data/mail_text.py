"""What a mail says in its sender's own words, without those by which people are known.

Of the headers only the subject is read as text. Left out are quoted lines and what introduces them, headers of
forwarded mails, signatures after `--` and the footers of mailing lists; in place of addresses, links, long numbers and
names stands `[address]`, `[url]`, `[number]` or `[name]`. Names are those in the headers of the mails at hand: a person
who is called by the first name in another's mail, and in no greeting, is not found.
"""

import email
import email.errors
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr

Name = tuple[str, ...]
"""Words of a name, case folded."""
_OF_PEOPLE = (
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Return-Path",
    "Resent-From",
    "Resent-To",
    "Delivered-To",
)
_PIECE = re.compile(r'"[^"]*"|[^<>,;"():]+')  # a name in quotes may have a comma
_DOMAIN = re.compile(r"@[^\s<>,;\"()]+")
_WORD = re.compile(r"[^\W_]+")
_MARK = re.compile(r"<\s*/?\s*(html|body|table|font|br|p)\b", re.IGNORECASE)
_UNSEEN = re.compile(r"<(script|style)\b.*?(</\1\s*>|\Z)|<!--.*?(-->|\Z)", re.IGNORECASE | re.DOTALL)
_BREAK = re.compile(r"<\s*/?\s*(br|p|div|tr|li|h[1-6])\b[^>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[a-z/!?][^>]*>", re.IGNORECASE)
_END = re.compile(r"--|_{47}|-+ ?(original|forwarded) message\b.*", re.IGNORECASE)
_SAYS = re.compile(r"\b(wrote|writes|said)\b|^quoting\b", re.IGNORECASE)
_ON = re.compile(r"on\b", re.IGNORECASE)
_QUOTED = re.compile(r"\w{0,5}[>|]")
_HEADER = re.compile(
    r"\W{0,4}(from|to|cc|bcc|sender|sent|date|received|return-path|message-id|in-reply-to|references|errors-to|"
    r"(reply|delivered|resent|list|x)-[\w-]+)[ \t]*:",
    re.IGNORECASE,
)
_GREETING = re.compile(r"\b((?i:hi|hello|hey|dear) +)[^\W\d_a-z][^\W\d_]+")
# Each begins where a token begins: a long run of letters is gone through once.
_MASKED = {
    re.compile(
        r"(?<![\w.+-])[\w.+-]+ ?[(\[]?\bat\b[)\]]? ?[\w-]+( ?[(\[]?\bdot\b[)\]]? ?[\w-]+)+", re.IGNORECASE
    ): "[address]",
    re.compile(r"""(?<![^\s<>()\[\]"',;:])[^\s<>()\[\]"',;:@]+ ?@ ?[^\s<>()\[\]"',;]+"""): "[address]",
    re.compile(
        r"(?<![\w.-])((https?|ftp|mailto|news|file):\S+|[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}\b(/\S*)?)", re.IGNORECASE
    ): "[url]",
    re.compile(r"(?<!\w)\+?\(?\d[\d ().-]{6,}\d(?!\w)"): "[number]",
}
"""What is put in place of what. A pattern begins where a token does, so that a long one is gone through once."""
_MASK = re.compile(r"(\[(?:address|url|number|name)\])")
_NAMES = re.compile(r"\[name\](?:,? ?\[name\])+")


def parsed(raw: str) -> Message:
    """A mail with its headers, as it was sent; the line by which a mailbox begins a mail may stand before it."""
    return email.message_from_string(raw)


def sender(mail: Message) -> str | None:
    """The address that a mail is from, in lower case; None where there is none.

    Example:
        >>> sender(parsed("From: Ada Example <Ada@Example.ORG>\\n\\nwords"))
        'ada@example.org'
    """
    address = parseaddr(_decoded(mail["From"]))[1].lower()
    return address if "@" in address else None


def people(mail: Message) -> set[Name]:
    """Names in the headers of a mail, and of mails within it, with those parts of addresses that stand before the @.

    Example:
        >>> sorted(people(parsed('From: "Example, Ada" <a.ex_ample@x.org>\\nCc: bo@x.org\\n\\nwords')))
        [('a', 'ex', 'ample'), ('bo',), ('example', 'ada')]
    """
    headers = [_decoded(value) for part in mail.walk() for name in _OF_PEOPLE for value in part.get_all(name, [])]
    headers += [(part.get_unixfrom() or "From ").split(" ")[1] for part in mail.walk()]
    pieces = (piece for header in headers for piece in _PIECE.findall(_DOMAIN.sub("", header)))
    return {name for name in map(_name, pieces) if name}


def own_words(mail: Message) -> str:
    """Subject and body, decoded, without what others said; names and addresses are still in it.

    The body is the parts of plain text, or where these are empty those of HTML without its tags; attachments and
    mails within the mail are none.

    Example:
        >>> own_words(parsed("Subject: Re: tea\\n\\nBo wrote:\\n> Tea?\\nYes.\\n-- \\nAda\\n"))
        'Re: tea\\nYes.'
    """
    plain, marked = list[str](), list[str]()
    for part in _parts(mail):
        kind = part.get_content_type()
        if not kind.startswith("text/") or kind == "text/rfc822-headers" or part.get_filename():
            continue
        body = _body(part)
        if kind.startswith("text/plain") and not _MARK.search(body):
            plain.append(body)
        else:
            marked.append(_without_tags(body))
    bodies = [body for body in plain if body.strip()] or marked
    lines = [_decoded(mail["Subject"]).strip(), *(line for body in bodies for line in _of_the_sender(body))]
    return "\n".join(filter(None, lines))


def without_people(text: str, own: Iterable[Name], others: Mapping[str, set[Name]]) -> str:
    """A text on one line, with a word in brackets in place of addresses, links, long numbers and names.

    Args:
        text: of `own_words`.
        own: names of this mail: each of their words of two letters or more goes.
        others: names of all mails, of `by_first_word`: these go where all their words follow each other.

    Example:
        >>> text = "Hi Eve, ada (at) x dot org and b@x.org met Cy Doe; call +1 555 010 0199, ADA. x.org/ada"
        >>> without_people(text, [("ada", "example")], by_first_word([("cy", "doe")]))
        'Hi [name], [address] and [address] met [name]; call [number], [name]. [url]'
    """
    text = text.encode(errors="replace").decode()  # half a surrogate pair, which some charsets can give, is no text
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    for pattern, word in _MASKED.items():
        text = pattern.sub(word, text)
    text = _GREETING.sub(r"\1[name]", text)
    known = {word for name in own for word in name if len(word) > 1}
    parts = _MASK.split(text)
    parts[::2] = (_without_names(part, known, others) for part in parts[::2])
    return _NAMES.sub("[name]", "".join(parts))


def by_first_word(names: Iterable[Name]) -> dict[str, set[Name]]:
    """Names of two words or more, and pairs the other way round too, by their first word.

    Example:
        >>> by_first_word([("cy", "doe"), ("eve",)])
        {'cy': {('cy', 'doe')}, 'doe': {('doe', 'cy')}}
    """
    found: dict[str, set[Name]] = {}
    for name in names:
        for order in (name, name[::-1]) if len(name) == 2 else (name,):
            if len(order) > 1:
                found.setdefault(order[0], set()).add(order)
    return found


def _without_names(text: str, known: set[str], others: Mapping[str, set[Name]]) -> str:
    words = [(match.group().casefold(), *match.span()) for match in _WORD.finditer(text)]
    made, done, place = list[str](), 0, 0
    while place < len(words):
        word, start, _ = words[place]
        lengths = [
            len(name)
            for name in others.get(word, ())
            if name == tuple(following for following, _, _ in words[place : place + len(name)])
        ]
        length = max([*lengths, int(word in known)])
        if length:
            made += [text[done:start], "[name]"]
            done = words[place + length - 1][2]
        place += max(length, 1)
    return "".join(made) + text[done:]


def _name(piece: str) -> Name:
    return tuple(word.casefold() for word in _WORD.findall(piece))


def _decoded(value: object) -> str:
    """A header as text; without its encoded words where they are of no charset that is known."""
    written = "" if value is None else str(value)
    try:
        return str(make_header(decode_header(written)))
    except (LookupError, ValueError, email.errors.MessageError):
        return re.sub(r"=\?.*?\?=", " ", written)


def _parts(mail: Message) -> Iterator[Message]:
    """The parts of a mail that have no parts; a mail within it is none of its own."""
    payload = mail.get_payload()
    if not isinstance(payload, list):
        yield mail
    elif mail.get_content_maintype() != "message":
        for part in payload:
            if isinstance(part, Message):
                yield from _parts(part)


def _body(part: Message) -> str:
    coded = str(part.get("Content-Transfer-Encoding", "")).strip().lower() in ("quoted-printable", "base64")
    payload = part.get_payload(decode=True) if coded else part.get_payload()
    if isinstance(payload, bytes):
        try:
            return payload.decode(part.get_content_charset("latin-1"), "replace")
        except (LookupError, ValueError):
            return payload.decode("latin-1")
    return payload if isinstance(payload, str) else ""


def _without_tags(body: str) -> str:
    return html.unescape(_TAG.sub(" ", _BREAK.sub("\n", _UNSEEN.sub(" ", body))))


def _of_the_sender(body: str) -> list[str]:
    """The lines that a sender wrote."""
    kept = list[str]()
    for line in map(str.strip, body.splitlines()):
        if _END.fullmatch(line):
            break
        if line.endswith(":") and _SAYS.search(line):
            if kept and _ON.match(kept[-1]):  # "On Monday, Ada" stands on the line above "wrote:"
                kept.pop()
        elif line and not _QUOTED.match(line) and not _HEADER.match(line):
            kept.append(line)
    return kept
