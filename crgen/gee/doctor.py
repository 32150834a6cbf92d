"""What Earth Engine needs to work, checked one by one: each failing check says the fix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import numpy as np
import requests
from affine import Affine
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from odc.geo.geobox import GeoBox

from crgen.errors import CrgenError, SourceError
from crgen.gee.connection.credentials import Account, find_account, find_project
from crgen.gee.connection.faults import explain, understand
from crgen.gee.connection.session import Session, Settings, connect
from crgen.gee.fetch.images import VALID, Layer
from crgen.gee.fetch.tile import Tile, grid_of, read_tile

PATIENCE = 20.0
"""Seconds a check keeps trying."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    text: str
    """What was found, or what is missing and the fix."""


def examine(settings: Settings) -> Iterator[Check]:
    """Check credentials, project, network, sign-in, API and permission, in the order in which one needs another.

    What cannot be checked because something before it is missing is left out.
    """
    settings = replace(settings, patience=min(PATIENCE, settings.patience))
    account = None
    try:
        account = find_account(settings.credentials, google=settings.is_google)
        yield Check("credentials", True, account.origin)
    except CrgenError as error:
        yield Check("credentials", False, str(error))
    project = None
    if account is not None:
        try:
            project = find_project(settings.project, account)
            yield Check("project", True, project)
        except CrgenError as error:
            yield Check("project", False, str(error))
    reached = _network(settings)
    yield reached
    if not reached.ok or account is None:
        return
    signed = _sign_in(account, project)
    yield signed
    if not signed.ok or project is None:
        return
    try:
        session = connect(settings)
        yield Check("API", True, f"enabled in {project}, and the account may use it: {_compute(session)}")
    except CrgenError as error:
        yield Check("API", False, str(error))
        return
    try:
        _pixel(session)
        yield Check("pixels", True, "a pixel came back whole")
    except CrgenError as error:
        yield Check("pixels", False, str(error))


def _network(settings: Settings) -> Check:
    host = urlsplit(settings.url).netloc
    try:
        answer = requests.get(f"{settings.url}/$discovery/rest?version=v1", timeout=settings.connect_timeout)
        if answer.status_code >= 500:
            return Check("network", False, f"{host} answers with HTTP {answer.status_code}; try again later")
    except requests.exceptions.RequestException as error:
        return Check(
            "network",
            False,
            f"{host} cannot be reached ({type(error).__name__}): check the connection, and the proxy (HTTPS_PROXY) or "
            "firewall if there is one",
        )
    return Check("network", True, f"{host} answers")


def _sign_in(account: Account, project: str | None) -> Check:
    if isinstance(account.credentials, AnonymousCredentials):
        return Check("sign-in", True, "anonymous")
    try:
        account.credentials.refresh(Request())
    except GoogleAuthError as error:
        return Check("sign-in", False, str(explain(understand(error), project, account.origin)))
    return Check("sign-in", True, "the credentials are valid")


def _compute(session: Session) -> str:
    """Compute a number, which takes the API and the permission."""
    import ee

    two = session.call("a number", lambda: ee.data.computeValue(ee.Number(1).add(1)))
    if two != 2:
        raise SourceError(f"Earth Engine says that 1 + 1 = {two}; is {session.settings.url} Earth Engine?")
    return f"it says that 1 + 1 = {two}"


def _pixel(session: Session) -> None:
    import ee

    layer, tile = Layer("pixel", "", ((VALID, "u1"),)), Tile(0, 0, 1, 1)
    image = ee.Image.constant(1).toByte().rename([VALID])
    grid = grid_of(GeoBox((1, 1), Affine(10, 0, 500_000, 0, -10, 4_000_000), "EPSG:32649"), tile)
    asked = {"expression": image, "fileFormat": "NPY", "grid": grid}
    pixel = session.call("a pixel", lambda: read_tile(ee.data.computePixels(asked), layer, tile))
    if not np.array_equal(pixel[VALID], [[1]]):
        raise SourceError(f"Earth Engine says that a pixel of 1 is {pixel[VALID].tolist()}")
