"""People told of what happened to a job: by webhook, e-mail, chat, or whatever else apprise has a URL for.

Tell only what a person can use: a product, a failure that trying again does not help, a deadline passed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crgen.errors import RequestError

_log = logging.getLogger(__name__)

Kind = Literal["done", "failed", "late"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a job, for people."""

    kind: Kind
    job: str
    title: str
    """One line; the subject of an e-mail."""
    body: str
    """Plain text."""
    quicklook: Path | None = None
    """A picture to attach, if it is there."""


def notify(urls: Sequence[str], event: Event, told: Collection[str] = ()) -> set[str]:
    """Send an event to every URL that does not know it yet.

    Never raises: what could not be sent is logged, without the secrets of its URL, and the others are sent.

    Args:
        urls: apprise URLs, e.g. ``json://host/path`` or ``mailtos://user:password@host?to=ops@example.org``.
        event: what happened.
        told: digests of those that know it.

    Returns:
        The digests of those that know it now.
    """
    digests = [hashlib.sha256(url.encode()).hexdigest()[:16] for url in urls]
    knowing = {digest for digest in digests if digest in told}
    try:
        import apprise
    except ImportError:
        _log.error("nobody was notified of %s: install crgen[batch]", event.title)
        return knowing
    _silence()
    kinds = {
        "done": apprise.NotifyType.SUCCESS,
        "failed": apprise.NotifyType.FAILURE,
        "late": apprise.NotifyType.WARNING,
    }
    picture = event.quicklook if event.quicklook is not None and event.quicklook.is_file() else None
    for at, (url, digest) in enumerate(zip(urls, digests, strict=True), 1):
        if digest in knowing:
            continue
        name = f"notify url {at}"
        try:
            service = apprise.Apprise.instantiate(url)
            if not isinstance(service, apprise.NotifyBase):
                _log.error("%s is none that apprise understands; nobody was notified of %s", name, event.title)
                continue
            name = f"{name} ({service.service_name})"
            attached = apprise.AppriseAttachment(str(picture)) if picture and service.attachment_support else None
            if service.notify(title=event.title, body=event.body, notify_type=kinds[event.kind], attach=attached):
                _log.info("%s: notified of %s", name, event.title)
                knowing.add(digest)
            else:
                _log.error("%s did not take the notification of %s", name, event.title)
        except Exception as error:
            # A person who is not told must not cost the product; what the error says may hold the URL.
            _log.error("%s could not be notified of %s: %s", name, event.title, type(error).__name__)
    return knowing


def check_urls(urls: Sequence[str]) -> None:
    """Refuse URLs that no notification could go to; sends nothing.

    Raises:
        RequestError: naming which of them, without its secrets.
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
