"""Notifications about jobs, by webhook, e-mail, chat, or whatever else apprise has a URL for."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from crgen.errors import RequestError

_log = logging.getLogger(__name__)


def notify(
    urls: Sequence[str],
    kind: Literal["done", "failed", "late"],
    title: str,
    body: str,
    *,
    picture: Path | None = None,
    told: Collection[str] = (),
) -> set[str]:
    """Send a message to every URL that has not had it yet.

    Never raises: what cannot be sent is logged, without the secrets of its URL, and the other URLs are sent to.

    Args:
        urls: apprise URLs, e.g. ``json://host/path`` or ``mailtos://user:password@host?to=ops@example.org``.
        kind: what happened to the job.
        title: one line; the subject of an e-mail.
        body: plain text.
        picture: attached if the file exists.
        told: digests of the URLs that have had the message.

    Returns:
        The digests of those of ``urls`` that have had it now.
    """
    digests = [hashlib.sha256(url.encode()).hexdigest()[:16] for url in urls]
    reached = {digest for digest in digests if digest in told}
    try:
        import apprise
    except ImportError:
        _log.error("nobody was notified of %s: install crgen[batch]", title)
        return reached
    _silence()
    types = apprise.NotifyType
    kinds = {"done": types.SUCCESS, "failed": types.FAILURE, "late": types.WARNING}
    for at, (url, digest) in enumerate(zip(urls, digests, strict=True), 1):
        if digest in reached:
            continue
        name = f"notify url {at}"
        try:
            service = apprise.Apprise.instantiate(url)
            if not isinstance(service, apprise.NotifyBase):
                _log.error("%s is none that apprise understands; nobody was notified of %s", name, title)
                continue
            name = f"{name} ({service.service_name})"
            attach = picture is not None and picture.is_file() and service.attachment_support
            attached = apprise.AppriseAttachment(str(picture)) if attach else None
            if service.notify(title=title, body=body, notify_type=kinds[kind], attach=attached):
                _log.info("%s: notified of %s", name, title)
                reached.add(digest)
            else:
                _log.error("%s did not take the notification of %s", name, title)
        except Exception as error:
            # Somebody who is not told must not cost the product; the error's own text may hold the URL.
            _log.error("%s could not be notified of %s: %s", name, title, type(error).__name__)
    return reached


def check_urls(urls: Sequence[str]) -> None:
    """Refuse URLs that apprise does not understand; sends nothing.

    Raises:
        RequestError: naming the URL by its number, without its secrets.
    """
    try:
        import apprise
    except ImportError:
        raise RequestError("notifications need apprise: pip install 'crgen[batch]'") from None
    _silence()
    for at, url in enumerate(urls, 1):
        if not isinstance(apprise.Apprise.instantiate(url), apprise.NotifyBase):
            scheme = url.partition("://")[0] if "://" in url else "no scheme"
            raise RequestError(
                f"notify url {at} ({scheme}) is none that apprise understands; "
                "write e.g. json://host/path or mailtos://user:password@host?to=ops@example.org"
            )


def _silence() -> None:
    """Keep libraries from logging URLs, whose paths are the secrets of many services."""
    for name in ("apprise", "urllib3", "requests"):
        library = logging.getLogger(name)
        library.propagate = False
        if not library.handlers:
            library.addHandler(logging.NullHandler())
