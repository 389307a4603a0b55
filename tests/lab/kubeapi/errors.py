"""What the API answers when it refuses: one exception that carries a `Status` object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
"""A JSON object; API objects are handled as plain dictionaries throughout."""


@dataclasses.dataclass(frozen=True)
class Cause:
    """One field that is wrong: `reason` is a word such as FieldValueInvalid, `field` a path such as spec.a[0]."""

    reason: str
    message: str
    field: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """A refusal; `code` is the HTTP status, `reason` the machine-readable word of Kubernetes' `metav1.StatusReason`."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def status(self) -> Json:
        """Return the `Status` object of the answer."""
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details:
            body["details"] = self.details
        return body | {"code": self.code}


def success(details: Json) -> Json:
    """Return the `Status` that answers a deletion which is already complete."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def qualified(plural: str, group: str) -> str:
    """Return `plural.group`, or `plural` in the core group."""
    return f"{plural}.{group}" if group else plural


def _about(name: str, plural: str, group: str) -> Json:
    return {key: value for key, value in (("name", name), ("group", group), ("kind", plural)) if value}


def not_found(plural: str, group: str, name: str) -> ApiError:
    """404 for an object."""
    return ApiError(404, "NotFound", f'{qualified(plural, group)} "{name}" not found', _about(name, plural, group))


def no_such_path() -> ApiError:
    """404 for an address under which nothing is served."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """409 for a name that is taken."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _about(name, plural, group))


def conflict(plural: str, group: str, name: str, why: str = "") -> ApiError:
    """409 for a write based on an outdated object or a failed precondition."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _about(name, plural, group))


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    """403; here only for what lifecycle forbids, since there is no authorisation."""
    message = f'{qualified(plural, group)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _about(name, plural, group))


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    """410: the asked revision is no longer in the history; list again."""
    return ApiError(410, "Expired", message)


def unsupported_media(message: str) -> ApiError:
    """415: this content type is not understood here."""
    return ApiError(415, "UnsupportedMediaType", message)


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object is well-formed but breaks its schema or its kind's rules."""
    listed = ", ".join(str(cause) for cause in causes)
    message = f'{qualified(kind, group)} "{name}" is invalid: {listed if len(causes) == 1 else f"[{listed}]"}'
    details = _about(name, kind, group) | {"causes": [dataclasses.asdict(cause) for cause in causes]}
    return ApiError(422, "Invalid", message, details)
