"""A secret is seen by nobody who does not ask for it by name."""

import copy
import logging
import pickle

import pytest

from forward_auth.secret import Secret

VALUE = "kZ7-un-secret-qui-ne-sort-pas"


def test_LOG_02_a_secret_shows_itself_in_no_way_of_writing() -> None:
    """repr, str, every format, inside a container, in a log line."""
    secret = Secret(VALUE)
    record = logging.LogRecord("forward_auth", logging.INFO, "", 0, "%s %r", (secret, {"token": secret}), None)
    for text in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        f"{secret:^40}",
        str([secret]),
    ):
        assert VALUE not in text
        assert "«secret»" in text
    assert VALUE not in record.getMessage()
    assert VALUE == secret.reveal()


def test_a_secret_leaves_the_process_in_no_copy() -> None:
    """Neither pickled nor deep-copied; and none has a value to be compared by accident."""
    for leave in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match="not pickled"):
            leave(Secret(VALUE))
    assert Secret(VALUE) != Secret(VALUE)


def test_an_empty_secret_is_none() -> None:
    """Whoever asks whether there is one need not reveal it."""
    assert (True, False) == (bool(Secret(VALUE)), bool(Secret("")))
