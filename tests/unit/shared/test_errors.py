"""The error tree: a reason word for each, messages that fit a condition."""

from __future__ import annotations

import pytest

from podferry import errors, ids


def test_a_message_keeps_its_tail() -> None:
    error = errors.Permanent("x" * 5000 + "the cause")
    assert len(error.message) == errors.MESSAGE_LIMIT
    assert error.message.endswith("the cause")


def test_invalid_input_names_the_field() -> None:
    error = errors.InvalidInput("spec.podName", "no such pod")
    assert (error.field, error.reason, str(error)) == ("spec.podName", "Invalid", "Invalid: spec.podName: no such pod")


def test_inconsistent_says_what_is_left() -> None:
    assert "left behind: table a, veth b" in str(errors.Inconsistent("undo failed", left=["table a", "veth b"]))


@pytest.mark.parametrize(
    "uid", ["", "..", "A" * 36, "12345678-1234-1234-1234-1234567890ab/", "12345678-1234-1234-1234-1234567890ab\n"]
)
def test_only_a_uid_becomes_a_name(uid: str) -> None:
    with pytest.raises(errors.InvalidInput):
        ids.object_name(uid)


def test_a_kernel_objects_name_is_short_and_recognisable() -> None:
    assert ids.object_name("12345678-1234-1234-1234-1234567890ab") == "podferry-123456781234"
