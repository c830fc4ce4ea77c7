"""Archives of the npm registry: which tool fetches them, what is refused, and that reading one writes nothing."""

import hashlib
import io
import tarfile

import pytest
from archives import tar

from ugclu_jax.data import npm

FILES = {"package/a.txt": b"one", "package/data/b.txt": b"two", "package/c.txt": b"three"}


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A folder with a package in it, in place of the registry, on a machine without npm."""
    folder = tmp_path / "registry" / "@some" / "thing" / "-"
    folder.mkdir(parents=True)
    tar(folder / "thing-1.0.0.tgz", FILES)
    monkeypatch.setattr(npm, "REGISTRY", (tmp_path / "registry").as_uri())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    digest = hashlib.sha256((folder / "thing-1.0.0.tgz").read_bytes()).hexdigest()
    return npm.Package("@some/thing", "1.0.0", digest)


def npm_that(tmp_path, does):
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "npm"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)


def test_without_npm_the_registry_is_asked(registry, tmp_path):
    path = npm.fetch(registry, tmp_path)
    assert path == tmp_path / "some-thing-1.0.0.tgz"
    assert npm.contents(path, lambda name: not name.startswith("c")) == {"a.txt": b"one", "data/b.txt": b"two"}


def test_npm_is_used_where_it_is(registry, tmp_path, monkeypatch):
    source = tmp_path / "registry" / "@some" / "thing" / "-" / "thing-1.0.0.tgz"
    npm_that(tmp_path, f'[ "$*" = "pack --silent @some/thing@1.0.0" ] && /bin/cp {source} some-thing-1.0.0.tgz')
    monkeypatch.setattr(npm, "REGISTRY", "file:///nowhere")
    assert npm.fetch(registry, tmp_path).is_file()


@pytest.mark.parametrize("does", ["echo no network >&2; exit 1", "echo no network >&2"])
def test_npm_that_brings_nothing_is_named(registry, tmp_path, does):
    npm_that(tmp_path, does)
    with pytest.raises(RuntimeError, match=r"npm pack .*thing@1\.0\.0 left no some-thing-1\.0\.0\.tgz: no network"):
        npm.fetch(registry, tmp_path)


def test_a_registry_without_it_and_another_file_are_named(registry, tmp_path):
    with pytest.raises(RuntimeError, match=r"thing-1\.0\.1\.tgz cannot be fetched .*: is there a network\?"):
        npm.fetch(registry._replace(version="1.0.1"), tmp_path)
    with pytest.raises(ValueError, match=rf"some-thing-1\.0\.0\.tgz has SHA-256 {registry.sha256}, not abc: fetch"):
        npm.fetch(registry._replace(sha256="abc"), tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda _: b"no archive", lambda _: b""]
)
def test_damaged_archives_are_named(tmp_path, damage):
    tar(tmp_path / "a.tgz", {"package/a.txt": bytes(range(256)) * 400})
    (tmp_path / "a.tgz").write_bytes(damage((tmp_path / "a.tgz").read_bytes()))
    with pytest.raises(ValueError, match=r"a\.tgz is not a readable archive .*: fetch it again"):
        npm.contents(tmp_path / "a.tgz", lambda _: True)


def test_names_that_lead_out_and_links_write_nothing(tmp_path):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for name in ("../outside", "package/fine"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"x"))
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.parent.rglob("*"))
    assert npm.contents(tmp_path / "a.tgz", lambda _: True) == {"../outside": b"x", "fine": b"x"}
    assert sorted(tmp_path.parent.rglob("*")) == before
