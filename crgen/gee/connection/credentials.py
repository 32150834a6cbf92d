"""Who asks: credentials and project, found in one documented order, never printed.

1. ``--credentials FILE``: a service account's key, an authorised user's file as gcloud writes it, or one of an external
   or impersonated account;
2. ``$GOOGLE_APPLICATION_CREDENTIALS``, such a file;
3. what ``earthengine authenticate`` stored;
4. application default credentials (``gcloud auth application-default login``, or the machine's own account).

With another endpoint than Google's (``$CRGEN_EE_URL``) only the first two count, and without them requests are
anonymous: a person's stored token is sent to nobody but Google.

The project is ``--project``, else ``$EE_PROJECT_ID``, else what ``earthengine set_project`` stored, else
``$GOOGLE_CLOUD_PROJECT``, else what the credentials name.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google.auth
from google.auth import aws, identity_pool, pluggable
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.oauth2.credentials import Credentials as UserCredentials
from google.oauth2.service_account import Credentials as ServiceCredentials

from crgen.errors import SourceError

SCOPES = (
    "https://www.googleapis.com/auth/earthengine",
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/drive",
    "https://www.googleapis.com/auth/devstorage.full_control",
)
AWS_TOKEN = "urn:ietf:params:aws:token-type:aws4_request"
OTHERS = {
    "external_account": "external account",
    "impersonated_service_account": "impersonated service account",
    "external_account_authorized_user": "external user",
}
"""Further types of credentials files, and what they are called."""
SETUP = "run 'earthengine authenticate' once, or pass --credentials KEY.json of a service account"


@dataclass(frozen=True)
class Account:
    """Credentials, where they come from, and the project they name."""

    credentials: Any
    origin: str
    """For people; holds no secret."""
    project: str | None
    as_service: bool = False
    """Whether it is a service account's, which has no Drive."""


def find_account(path: str | None, *, google: bool = True) -> Account:
    """Return the credentials to use.

    Args:
        path: a credentials file a person named.
        google: whether requests go to Google, so that stored credentials may be sent.

    Raises:
        SourceError: if there are none, or a file cannot be used; never with the file's content in the message.
    """
    if path is not None:
        return _from_file(Path(path), f"--credentials {path}")
    if named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return _from_file(Path(named), f"$GOOGLE_APPLICATION_CREDENTIALS ({named})")
    if not google:
        return Account(AnonymousCredentials(), "anonymous, for an endpoint that is not Google's", None)
    return _stored_by_earthengine() or _application_default()


def find_project(named: str | None, account: Account) -> str:
    """Return the Cloud project that requests are counted to.

    Raises:
        SourceError: if none is named anywhere.
    """
    own, of_cloud = os.environ.get("EE_PROJECT_ID"), os.environ.get("GOOGLE_CLOUD_PROJECT")
    project = named or own or _stored_project() or of_cloud or account.project
    if not project:
        raise SourceError(
            "Earth Engine needs a Cloud project to count requests to: pass --project NAME, set EE_PROJECT_ID, or run "
            f"'earthengine set_project NAME' (credentials: {account.origin}); make one at "
            "https://console.cloud.google.com/earth-engine"
        )
    return project


def renewed_once(credentials: Any) -> Any:
    """Return the credentials, which threads whose token was refused, or has expired, renew once for all of them."""
    lock, renew, apply, used = threading.Lock(), credentials.refresh, credentials.apply, threading.local()

    def apply_and_remember(headers: Any, token: str | None = None) -> None:
        used.token = credentials.token
        apply(headers, token)

    def refresh(request: Any) -> None:
        with lock:
            renewed = credentials.valid and credentials.token != getattr(used, "token", credentials.token)
            if not renewed:
                renew(request)

    credentials.apply, credentials.refresh = apply_and_remember, refresh
    return credentials


def _stored_project() -> str | None:
    """Return the project that ``earthengine set_project`` stored, whoever signs in."""
    from ee import oauth

    try:
        project = json.loads(Path(oauth.get_credentials_path()).read_text()).get("project")
    except (OSError, ValueError, AttributeError):
        return None
    return project if isinstance(project, str) else None


def _from_file(path: Path, origin: str) -> Account:
    try:
        content = json.loads(path.read_text())
        kind = content.get("type")
    except OSError as error:
        raise SourceError(f"cannot read the credentials of {origin}: {error.strerror}; {SETUP}") from None
    except (ValueError, AttributeError):
        raise SourceError(f"the credentials of {origin} are not a JSON file with credentials; {SETUP}") from None
    try:
        if kind == "service_account":
            credentials: Any = ServiceCredentials.from_service_account_info(content, scopes=SCOPES)
            who = f"{origin}, service account {content.get('client_email')}"
            return Account(credentials, who, content["project_id"], as_service=True)
        if kind in OTHERS:
            return Account(_load_others(content, path), f"{origin}, {OTHERS[kind]}", None, as_service=True)
        if kind == "authorized_user" or (kind is None and "refresh_token" in content):
            return _user(content, origin)
    # google-auth's messages quote the key it could not read.
    except (ValueError, KeyError, TypeError, GoogleAuthError):
        raise SourceError(
            f"the credentials of {origin} are damaged (their content is not shown); download the key again"
        ) from None
    raise SourceError(f"the credentials of {origin} are of type '{kind}', not of a service account or a user; {SETUP}")


def _load_others(content: dict[str, Any], path: Path) -> Any:
    if content["type"] == "external_account":
        # Google's own loader asks its services for a project first.
        if content["subject_token_type"] == AWS_TOKEN:
            kind: Any = aws
        else:
            kind = pluggable if "executable" in content["credential_source"] else identity_pool
        return kind.Credentials.from_info(content, scopes=SCOPES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return google.auth.load_credentials_from_file(str(path), scopes=SCOPES)[0]


def _user(content: dict[str, Any], origin: str) -> Account:
    from ee import oauth

    credentials = UserCredentials(
        None,
        refresh_token=content["refresh_token"],
        token_uri=oauth.TOKEN_URI,
        client_id=content.get("client_id", oauth.CLIENT_ID),
        client_secret=content.get("client_secret", oauth.CLIENT_SECRET),
        # What a token was granted for cannot be widened: without scopes it is renewed with those it has.
        scopes=content.get("scopes"),
    )
    return Account(credentials, origin, content.get("project") or content.get("quota_project_id"))


def _stored_by_earthengine() -> Account | None:
    from ee import oauth

    path = Path(oauth.get_credentials_path())
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        return _user(content, f"earthengine authenticate ({path})") if content.get("refresh_token") else None
    except (OSError, ValueError, KeyError, AttributeError):
        raise SourceError(
            f"the stored credentials {path} cannot be read; run 'earthengine authenticate --force'"
        ) from None


def _application_default() -> Account:
    try:
        with warnings.catch_warnings():
            # The advice is about the wrong one of gcloud's two projects.
            warnings.simplefilter("ignore", UserWarning)
            credentials, project = google.auth.default(scopes=SCOPES)
    except (GoogleAuthError, ValueError):
        raise SourceError(f"no Earth Engine credentials were found; {SETUP}") from None
    return Account(credentials, "application default credentials", credentials.quota_project_id or project)
