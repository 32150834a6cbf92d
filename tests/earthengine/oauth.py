"""Access tokens for service accounts, granted as Google's token endpoint does."""

import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from google.auth import jwt

ACCOUNT = "tester@local-earth-engine.iam.gserviceaccount.com"
#: google-auth signs for Google's endpoint whatever the key's ``token_uri`` says.
AUDIENCE = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/earthengine"


class Tokens:
    """Access tokens in circulation; a request without any is let in unless ``required``."""

    def __init__(self, url: str, required: bool) -> None:
        self.required = required
        self.granted = 0
        self._url = url
        self._valid: set[str] = set()
        self._public: bytes | None = None
        self._lock = threading.Lock()

    def expire(self) -> None:
        """Voids every token handed out so far."""
        with self._lock:
            self._valid.clear()

    def accepts(self, header: str | None) -> bool:
        if header is None:
            return not self.required
        with self._lock:
            return header.removeprefix("Bearer ") in self._valid

    def grant(self, raw: bytes) -> tuple[int, bytes]:
        """Status and body of a request to the token endpoint: the assertion's signature and scope are checked."""
        form = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
        try:
            claims = jwt.decode(form["assertion"], certs=self._public, audience=AUDIENCE)
        except (KeyError, ValueError) as wrong:
            return 400, _json(error="invalid_grant", error_description=f"Invalid JWT Signature. {wrong}")
        if SCOPE not in claims.get("scope", "").split():
            return 400, _json(
                error="invalid_scope", error_description="Invalid OAuth scope or ID token audience provided."
            )
        with self._lock:
            self.granted += 1
            token = f"local-access-token-{self.granted}"
            self._valid.add(token)
        return 200, _json(access_token=token, expires_in=3599, token_type="Bearer")

    def service_account(self, path: Path, project: str = "test-project") -> Path:
        """Writes the JSON key of a new service account whose token endpoint is this server."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        content = {
            "type": "service_account",
            "project_id": project,
            "private_key_id": "0123456789abcdef",
            "private_key": private.decode(),
            "client_email": ACCOUNT,
            "client_id": "1234567890",
            "auth_uri": f"{self._url}/auth",
            "token_uri": f"{self._url}/token",
        }
        path.write_text(json.dumps(content))
        return path


def _json(**content: Any) -> bytes:
    return json.dumps(content).encode()
