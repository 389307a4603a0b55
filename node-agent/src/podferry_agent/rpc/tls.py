"""Mutual TLS from mounted files, and who a peer is by its certificate.

The directory holds what a Kubernetes TLS secret mounts: ca.crt, tls.crt, tls.key. A client reads them anew for each
channel, a server once: gRPC's reloading server credentials end the process now and then (a reference count of its own
goes below zero when the files are handed over during a handshake).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc

from podferry import errors, ids

KEEPALIVE = (
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 4000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
)
"""A dead peer is noticed within 5 s: a frozen pod must not wait for TCP to find out."""

MAX_MESSAGE = 8 * 1024 * 1024
"""Largest message in bytes: a batch of snapshots with full queues; images travel in chunks of 1 MiB."""

OPTIONS = (*KEEPALIVE, ("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE))


@dataclass(frozen=True, slots=True)
class Identity:
    """This process's certificate, key and the authority that both sides trust."""

    directory: Path

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that demand a client certificate of the same authority."""
        ca, certificate, key = self._read()
        return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)

    def channel(self, endpoint: str, server_name: str) -> grpc.Channel:
        """Return a channel to `endpoint` ("host:port") that accepts no other holder than `server_name`."""
        ca, certificate, key = self._read()
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        options = (*OPTIONS, ("grpc.ssl_target_name_override", server_name))
        return grpc.secure_channel(endpoint, credentials, options=options)

    def _read(self) -> tuple[bytes, bytes, bytes]:
        try:
            ca, certificate, key = ((self.directory / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))
        except OSError as error:
            raise errors.Permanent(f"cannot read the TLS files: {error}", reason="NoCertificate") from error
        return ca, certificate, key


def peer_names(context: grpc.ServicerContext) -> set[str]:
    """Return the DNS names in the certificate of whoever calls."""
    names = cast("Iterable[bytes]", context.auth_context().get("x509_subject_alternative_name", ()))
    return {name.decode() for name in names}


def require_operator(context: grpc.ServicerContext) -> None:
    """Refuse everybody but the operator.

    Raises:
        Permanent: reason NotAuthorised.
    """
    if ids.OPERATOR_SERVER_NAME not in peer_names(context):
        raise errors.Permanent("only the operator may call this", reason="NotAuthorised")
