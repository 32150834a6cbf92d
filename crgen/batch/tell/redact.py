"""Secrets taken out of what is written for people and machines to read."""

from __future__ import annotations

import re

HIDDEN = "***"
_USERINFO = re.compile(r"(?<=://)[^\s/@\"']+@")
_QUERY = re.compile(r"(?<=[^\s<]\?)[^\s\"'<>)]+")
_NAMED = re.compile(
    r"((?:password|passwd|secret|token|credential|(?:api|access|account|private)[_-]?key)[\w-]*[\"']?\s*[=:]\s*[\"']?)"
    r"[^\s\"',;&}]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return ``text`` without what URLs carry before their ``@`` and after their ``?``, and without named secrets.

    ``sftp://me:pw@host/maps?sig=1`` becomes ``sftp://***@host/maps?***``, and ``token=abc`` becomes ``token=***``.
    """
    text = _USERINFO.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(HIDDEN, text)
    return _NAMED.sub(rf"\g<1>{HIDDEN}", text)
