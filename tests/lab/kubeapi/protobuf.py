"""Just enough of Kubernetes' protobuf for what `kubectl create` sends: namespace, configmap, secret, serviceaccount.

A body is four magic bytes and an envelope (`runtime.Unknown`) around one message. The tables name the fields that these
commands can set, by number, as in the `generated.proto` files of k8s.io/api; everything else is skipped.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from . import errors
from .errors import Json

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"

_Read = Callable[[bytes], Any]
_Fields = dict[int, tuple[str, _Read]]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, content) of the length-delimited fields of a message, passing over its numbers."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        if tag & 7 == 0:
            _, position = _varint(data, position)
        elif tag & 7 == 2:
            length, position = _varint(data, position)
            yield tag >> 3, data[position : position + length]
            position += length
        else:
            position += 8 if tag & 7 == 1 else 4


def _text(data: bytes) -> str:
    return data.decode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _entry(read: _Read) -> _Read:
    """Return a reader of one entry of a map: field 1 is the key, field 2 the value."""

    def entry(data: bytes) -> Json:
        parts = dict(_fields(data))
        return {_text(parts.get(1, b"")): read(parts.get(2, b""))}

    return entry


def _message(fields: _Fields) -> _Read:
    def read(data: bytes) -> Json:
        result: Json = {}
        for number, content in _fields(data):
            if number in fields and content:
                name, part = fields[number]
                value = part(content)
                result[name] = {**result.get(name, {}), **value} if isinstance(value, dict) else value
        return result

    return read


_METADATA = _message(
    {
        1: ("name", _text),
        2: ("generateName", _text),
        3: ("namespace", _text),
        11: ("labels", _entry(_text)),
        12: ("annotations", _entry(_text)),
    }
)
_KINDS = {
    "ConfigMap": _message({1: ("metadata", _METADATA), 2: ("data", _entry(_text)), 3: ("binaryData", _entry(_base64))}),
    "Namespace": _message({1: ("metadata", _METADATA)}),
    "Secret": _message(
        {1: ("metadata", _METADATA), 2: ("data", _entry(_base64)), 3: ("type", _text), 4: ("stringData", _entry(_text))}
    ),
    "ServiceAccount": _message({1: ("metadata", _METADATA)}),
}
_TYPE = _message({1: ("apiVersion", _text), 2: ("kind", _text)})


def decode(body: bytes) -> Json:
    """Return the object in a protobuf body; 415 for kinds that are not in the table."""
    if not body.startswith(_MAGIC):
        raise errors.bad_request("the body is not a Kubernetes protobuf message")
    envelope = dict(_fields(body[len(_MAGIC) :]))
    identity: Json = _TYPE(envelope.get(1, b""))
    read = _KINDS.get(identity.get("kind", ""))
    if read is None or identity.get("apiVersion") != "v1":
        raise errors.unsupported_media(
            f"no protobuf for {identity.get('kind')} here: send JSON, as 'create -f' and 'apply' do"
        )
    return {**identity, **read(envelope.get(2, b""))}
