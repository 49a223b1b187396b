"""TLS between xends: each shows a certificate of the authority that both trust, whatever its names."""

import errno
import ssl
from pathlib import Path

from xenion.xend.migration.wire import WireError
from xenion.xend.settings import Migration


def client_context(settings: Migration) -> ssl.SSLContext:
    """WireError."""
    if settings.certificate is None or settings.key is None or settings.ca is None:
        raise WireError("TLS needs certificate, key and ca in [migration] of xend.toml")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        _load(context, settings.certificate, settings.key, settings.ca)
    except OSError as error:
        raise WireError(error.strerror) from error
    return context


def server_context(settings: Migration) -> ssl.SSLContext | None:
    """None: no TLS. OSError."""
    if settings.certificate is None or settings.key is None or settings.ca is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, settings.certificate, settings.key, settings.ca)
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path, ca: Path) -> None:
    """OSError."""
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(certificate, key, password="")  # nobody is asked for one at a terminal
        context.load_verify_locations(ca)
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror or error
        raise OSError(errno.EINVAL, f"{certificate}, {key} and {ca} cannot be used: {why}") from error
