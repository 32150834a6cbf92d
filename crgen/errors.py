"""What can go wrong for a person, as exceptions that carry one clear line, no secret and a documented exit code.

Every message says what is wrong, in which input, and what to do. The command line prints it after
``error:`` and leaves with ``exit_code``; in Python the exceptions are raised as they are.
"""

import re

HIDDEN = "***"
_SECRETS = (
    (r"(?<=://)[^\s/@\"']+@", f"{HIDDEN}@"),
    (r"(?<=[^\s<]\?)[^\s\"'<>)]+", HIDDEN),
    (r"-----BEGIN[\s\S]*?(-----END[^-]*-----|$)", HIDDEN),
    (r"\bya29\.[\w.-]+|\b1//[\w-]{10,}|\beyJ[\w-]+\.[\w-]+\.?[\w-]*", HIDDEN),  # Google's tokens, and JSON Web Tokens
    (
        r"(?i)((?:password|passwd|secret|token|credential|(?:api|access|account|private)[_-]?key)[\w-]*\\?[\"']?\s*[=:]"
        r"\s*\\?[\"']?)[^\s\"',;&}]+",
        rf"\g<1>{HIDDEN}",
    ),
)


def redact(text: str) -> str:
    """Return ``text`` without what URLs carry before ``@`` and after ``?``, and without keys, tokens, named secrets.

    ``sftp://me:pw@host/maps?sig=1`` becomes ``sftp://***@host/maps?***``, and ``token=abc`` becomes ``token=***``.
    """
    for pattern, shown in _SECRETS:
        text = re.sub(pattern, shown, text)
    return text


class CrgenError(Exception):
    """Base of every error crgen raises on purpose.

    Args:
        message: one line.
        transient: whether the same request may well succeed later though nobody changes anything: the service was
            busy, the disk full.
    """

    exit_code = 1

    def __init__(self, message: str = "", *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class CrgenWarning(Warning):
    """What a person should know while a run goes on, once."""


class AreaError(CrgenError):
    """The area of interest cannot be read, or cannot be mapped as asked."""

    exit_code = 3


class StackError(CrgenError):
    """The input imagery is missing, on a wrong grid, in wrong units, or holds no data."""

    exit_code = 4


class WeightsError(CrgenError):
    """The weights are missing or damaged, or do not fit the imagery."""

    exit_code = 5


class OutputError(CrgenError):
    """The product cannot be written: no permission, no space, a file in the way."""

    exit_code = 6


class SourceError(CrgenError):
    """The source of imagery cannot be used: unknown, not set up, or out of reach."""

    exit_code = 7


class TrainingError(CrgenError):
    """A training run cannot start or go on."""

    exit_code = 8


class BusyError(CrgenError):
    """Another scheduler works on the same jobs file."""

    exit_code = 11


class RequestError(CrgenError, ValueError):
    """The request itself makes no sense: dates in the wrong order, an unknown option value."""

    exit_code = 2
