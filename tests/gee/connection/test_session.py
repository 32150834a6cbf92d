"""Credentials in their order, what is missing in plain words, and nothing secret in what is shown."""

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crgen.errors import RequestError, SourceError
from crgen.gee.connection.credentials import find_account, find_project
from crgen.gee.connection.session import HIGH_VOLUME, STANDARD, WORKLOAD, Settings, connect
from tests.cli.conftest import crgen, here  # noqa: F401
from tests.earthengine import faults
from tests.earthengine.server import EarthEngineServer

USER = {"refresh_token": "1//0secretsecretsecret", "client_id": "12-x.apps.googleusercontent.com", "project": "of-file"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person without any credentials."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "EE_PROJECT_ID", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return tmp_path


def stored(home: Path, content: dict) -> None:
    path = home / ".config" / "earthengine" / "credentials"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def test_without_credentials_the_fix_is_named(home: Path) -> None:
    with pytest.raises(SourceError, match="earthengine authenticate' once, or pass --credentials"):
        find_account(None)


def test_the_order_is_file_then_environment_then_stored(home: Path, monkeypatch, earth_engine) -> None:
    stored(home, USER)
    assert "earthengine authenticate" in find_account(None).origin
    assert find_account(None).project == "of-file"
    key = home / "key.json"
    earth_engine.tokens.service_account(key)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    assert "$GOOGLE_APPLICATION_CREDENTIALS" in find_account(None).origin
    named = home / "user.json"
    named.write_text(json.dumps({"type": "authorized_user", **USER}))
    assert find_account(str(named)).origin == f"--credentials {named}"


def test_stored_credentials_are_sent_to_google_alone(home: Path) -> None:
    stored(home, USER)
    account = find_account(None, google=False)
    assert type(account.credentials).__name__ == "AnonymousCredentials"


def test_the_project_is_named_set_or_of_the_credentials(home: Path, monkeypatch) -> None:
    stored(home, USER)
    account = find_account(None)
    assert find_project(None, account) == "of-file"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-cloud")
    monkeypatch.setenv("EE_PROJECT_ID", "of-environment")
    assert find_project(None, account) == "of-environment"
    assert find_project("named", account) == "named"
    monkeypatch.delenv("EE_PROJECT_ID")
    assert find_project(None, account) == "of-file", "what 'earthengine set_project' stored comes before the cloud's"


def test_the_stored_project_counts_with_any_credentials(home: Path, monkeypatch, earth_engine) -> None:
    monkeypatch.delenv("EE_PROJECT_ID")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-cloud")
    key = home / "key.json"
    earth_engine.tokens.service_account(key)
    assert find_project(None, find_account(str(key))) == "of-cloud"
    stored(home, {"project": "set"})
    assert find_project(None, find_account(str(key))) == "set"


def test_a_user_asks_only_for_the_scopes_the_token_has(home: Path) -> None:
    scopes = ["https://www.googleapis.com/auth/earthengine"]
    for held in ({}, {"scopes": scopes}):
        path = home / "user.json"
        path.write_text(json.dumps({"type": "authorized_user", **USER, **held}))
        assert find_account(str(path)).credentials.scopes == (scopes if held else None)


@pytest.mark.parametrize("kind", ["external_account", "impersonated_service_account"])
def test_external_and_impersonated_accounts_are_taken(home: Path, kind: str) -> None:
    user = {"type": "authorized_user", "client_secret": "s", **USER}
    content = {
        "external_account": {
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": str(home / "token")},
        },
        "impersonated_service_account": {
            "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
            "a@b.iam.gserviceaccount.com:generateAccessToken",
            "source_credentials": user,
        },
    }[kind]
    path = home / "account.json"
    path.write_text(json.dumps({"type": kind, **content}))
    account = find_account(str(path))
    assert account.as_service
    assert account.origin == f"--credentials {path}, {kind.replace('_', ' ')}"


def test_threads_that_find_their_token_expired_renew_it_once(service: EarthEngineServer, tmp_path: Path) -> None:
    import ee

    key = tmp_path / "key.json"
    service.tokens.service_account(key)
    service.tokens.required = True
    session = connect(Settings.from_environment(credentials=str(key)))
    granted = service.tokens.granted
    service.tokens.expire()
    with ThreadPoolExecutor(16) as pool:
        ask = [pool.submit(session.call, "n", lambda: ee.data.computeValue(ee.Number(1).add(1))) for _ in range(16)]
        assert {answer.result() for answer in ask} == {2}
    assert service.tokens.granted == granted + 1


def test_no_project_is_explained(home: Path) -> None:
    stored(home, {"refresh_token": USER["refresh_token"]})
    with pytest.raises(SourceError, match="pass --project NAME, set EE_PROJECT_ID") as error:
        find_project(None, find_account(None))
    assert USER["refresh_token"] not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "not a JSON file"),
        ("[1]", "not a JSON file"),
        (json.dumps({"type": "external_account"}), "are damaged"),
        (json.dumps({"type": "gdch_service_account"}), "of type 'gdch_service_account'"),
        (json.dumps({"type": "service_account", "private_key": "SECRETSECRET", "project_id": "p"}), "are damaged"),
        (
            json.dumps(
                {
                    "type": "service_account",
                    "private_key": "-----BEGIN PRIVATE KEY-----\nSECRETSECRET\n-----END PRIVATE KEY-----\n",
                    "client_email": "a@b.c",
                    "token_uri": "https://oauth2.googleapis.com/token",
                    "project_id": "p",
                }
            ),
            "are damaged",
        ),
    ],
)
def test_a_bad_key_is_refused_without_showing_it(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(SourceError, match=message) as error:
        find_account(str(path))
    assert "SECRET" not in str(error.value)
    assert error.value.__cause__ is None


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRGEN_EE_URL", raising=False)
    assert Settings.from_environment().url == HIGH_VOLUME
    assert Settings.from_environment().standard.url == STANDARD
    assert Settings(url="http://127.0.0.1:1").standard.url == "http://127.0.0.1:1"
    monkeypatch.setenv("CRGEN_EE_CONCURRENCY", "7")
    assert Settings.from_environment(project="p") == Settings(project="p", concurrency=7)
    monkeypatch.setenv("CRGEN_EE_PATIENCE", "soon")
    with pytest.raises(RequestError, match="CRGEN_EE_PATIENCE is 'soon'"):
        Settings.from_environment()


def test_a_service_account_signs_in_and_requests_carry_the_workload_tag(
    service: EarthEngineServer, tmp_path: Path
) -> None:
    key = tmp_path / "key.json"
    service.tokens.service_account(key)
    service.tokens.required = True
    session = connect(Settings.from_environment(credentials=str(key)))
    import ee

    assert session.call("a number", lambda: ee.data.computeValue(ee.Number(1).add(1))) == 2
    assert service.requests[-1].workload == WORKLOAD
    assert connect(Settings.from_environment(credentials=str(key))) is session, "one session per process"


def test_nothing_secret_is_shown_however_much_is_asked(service: EarthEngineServer, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    service.tokens.service_account(key)
    service.tokens.required = True
    words = ("--debug", "doctor", "--credentials", str(key))
    command = [sys.executable, "-c", "from crgen.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout + done.stderr
    content = json.loads(key.read_text())
    body = content["private_key"].splitlines()[1:-1]
    assert not [line for line in body if line in shown]
    for token in service.tokens.granted if isinstance(service.tokens.granted, list | set | dict) else ():
        assert str(token) not in shown


def number_in_another_process(settings: Settings) -> int:
    import ee

    return connect(settings).call("a number", lambda: ee.data.computeValue(ee.Number(1).add(1)))


def test_a_spawned_process_connects_by_itself(service: EarthEngineServer) -> None:
    settings = Settings.from_environment()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(number_in_another_process, (settings,)) == 2


def two() -> int:
    import ee

    return ee.data.computeValue(ee.Number(1).add(1))


def test_a_notebooks_own_client_stays_as_it_was(service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while crgen's threads ask: its address, its retries, its tag, what it warns of."""
    import ee
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.setattr("ee.deprecation._FetchDataCatalogStac", lambda: {"links": []})
    ee.Reset()
    first = connect(Settings.from_environment())
    assert not ee.data.is_initialized(), "crgen came first"
    assert not ee.deprecation.deprecated_assets
    ee.Initialize(AnonymousCredentials(), project="of-the-notebook", url=service.url)
    ee.data.setMaxRetries(3)
    ee.data.setDefaultWorkloadTag("notebook")
    before = dict(vars(ee.data._get_state()))
    service.requests.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(first.call, "n", two) if n % 2 else pool.submit(two) for n in range(40)]
        assert {answer.result() for answer in answers} == {2}
    assert [asked.workload for asked in service.requests].count("notebook") == 20
    assert [asked.workload for asked in service.requests].count(WORKLOAD) == 20
    assert connect(Settings.from_environment()) is first
    assert dict(vars(ee.data._get_state())) == before
    ee.Reset()
    second = connect(Settings.from_environment())
    assert second is not first
    assert second.call("n", two) == 2
    assert not ee.data.is_initialized()


@pytest.mark.parametrize(
    "name", ["_state.get_state", "_state.EEState", "deprecation.deprecated_assets", "deprecation.DeprecatedAsset"]
)
def test_a_client_that_lacks_an_internal_name_is_told_as_such(
    service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(f"ee.{name}")
    told = rf"earthengine-api \d.* '{name.rsplit('.')[-1]}'.*install 1\.6\.12 or later"
    with pytest.raises(SourceError, match=told):
        connect(Settings.from_environment())


def test_a_dead_endpoint_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EE_PROJECT_ID", "p")
    with pytest.raises(SourceError, match=r"can 127\.0\.0\.1:9 be reached from here\? 'crgen doctor'"):
        connect(Settings(url="http://127.0.0.1:9", patience=0.5))


def test_doctor_finds_all_well(service: EarthEngineServer, crgen, here: Path) -> None:  # noqa: F811
    outcome = crgen("doctor")
    assert outcome.code == 0, outcome.out
    states = {line.split()[1]: line.split()[0] for line in outcome.out.splitlines()}
    assert {"credentials", "project", "network", "sign-in", "API", "pixels", "device", "disk", "tiles"} == set(states)
    assert "missing" not in states.values()


def test_doctor_finds_that_tiles_cannot_be_kept(service: EarthEngineServer, crgen, here: Path, monkeypatch) -> None:  # noqa: F811
    (here / "file").write_text("no folder can be here")
    monkeypatch.setenv("CRGEN_CACHE", str(here / "file" / "cache"))
    outcome = crgen("doctor")
    assert outcome.code == 7
    (line,) = (line for line in outcome.out.splitlines() if " tiles " in line)
    assert line.startswith("missing")
    assert "choose another folder, with CRGEN_CACHE" in line


@pytest.mark.parametrize(
    ("wording", "fix"),
    [
        (faults.API_NOT_USED, "enable it at https"),
        (faults.NO_PERMISSION, "Service Usage Consumer"),
        (faults.NOT_REGISTERED, "register it at https"),
        (faults.PROJECT_NOT_REGISTERED, "register it at https"),
    ],
)
def test_doctor_names_the_fix(service: EarthEngineServer, crgen, here: Path, wording: str, fix: str) -> None:  # noqa: F811
    message = wording.format(project="test-project") if "{project}" in wording else wording
    service.add(faults.error(403, message, endpoint="value:compute"))
    outcome = crgen("doctor")
    assert outcome.code == 7
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("missing"))
    assert fix in line
    assert "test-project" in line


def test_doctor_without_anything(home: Path, crgen, here: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.delenv("CRGEN_EE_URL", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    outcome = crgen("doctor")
    assert outcome.code == 7
    missing = [line.split()[1] for line in outcome.out.splitlines() if line.startswith("missing")]
    assert missing == ["credentials", "network"]
