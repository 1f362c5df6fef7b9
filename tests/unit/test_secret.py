"""A secret never shows its text except through reveal()."""

from __future__ import annotations

import pickle
import traceback

import pytest

from raftctl.secret import Secret


def test_no_rendering_shows_the_text() -> None:
    secret = Secret("hunter2")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>10}", repr([secret])]
    assert all("hunter2" not in text for text in shown)
    assert secret.reveal() == "hunter2"


def test_an_exception_about_a_secret_does_not_show_it() -> None:
    error = ValueError("refused", Secret("hunter2"))
    assert "hunter2" not in "".join(traceback.format_exception(error))


def test_secrets_are_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret("hunter2"))


def test_equality_is_by_text() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
