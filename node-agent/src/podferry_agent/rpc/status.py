"""Errors across the wire: podferry's tree to gRPC statuses and back, with the reason word in the trailing metadata."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import grpc

from podferry import errors

log = logging.getLogger(__name__)

REASON_KEY = "podferry-reason"

_BY_REASON = {"NotAuthorised": grpc.StatusCode.PERMISSION_DENIED, "NotFound": grpc.StatusCode.NOT_FOUND}


def code(error: errors.PodferryError) -> grpc.StatusCode:
    """Return the status that tells a caller what to do about `error`."""
    if error.reason in _BY_REASON:
        return _BY_REASON[error.reason]
    match error:
        case errors.InvalidInput():
            return grpc.StatusCode.INVALID_ARGUMENT
        case errors.Transient():
            return grpc.StatusCode.UNAVAILABLE
        case errors.RolledBack():
            return grpc.StatusCode.ABORTED
        case errors.Inconsistent():
            return grpc.StatusCode.INTERNAL
        case _:
            return grpc.StatusCode.FAILED_PRECONDITION


def abort(context: grpc.ServicerContext, error: errors.PodferryError) -> NoReturn:
    """End the call with what `error` says."""
    context.set_trailing_metadata(((REASON_KEY, error.reason),))
    context.abort(code(error), error.message)
    raise AssertionError("abort returns never")


@contextmanager
def answered(context: grpc.ServicerContext) -> Iterator[None]:
    """Turn what a servicer raises into the call's status; what nobody expected is logged and said as INTERNAL."""
    try:
        yield
    except errors.PodferryError as error:
        abort(context, error)
    except Exception as error:
        if not context.is_active():  # cancelled by the peer
            raise
        log.exception("a call failed")
        abort(context, errors.Inconsistent(f"{type(error).__name__}: {error}", reason="InternalError"))


def translate(error: grpc.RpcError, what: str) -> errors.PodferryError:
    """Return what a failed call means to its caller; `what` names the call."""
    status = error.code()
    reason = next((str(item.value) for item in error.trailing_metadata() or () if item.key == REASON_KEY), None)
    message = f"{what}: {error.details() or status.name}"
    match status:
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED:
            return errors.Transient(message, reason=reason or "AgentUnreachable")
        case grpc.StatusCode.ABORTED:
            return errors.RolledBack(message, reason=reason)
        case grpc.StatusCode.INTERNAL:
            return errors.Inconsistent(message, reason=reason)
        case _:
            return errors.Permanent(message, reason=reason or status.name.title().replace("_", ""))
