"""`python minting.py TOKEN_URL API_URL CLIENT_ID KID RESOURCE KEY_FILE`: a client of ADFS, as people have it.

It mints by a client assertion, keeps the token, and mints anew on a 401. For each line "METHOD PATH" on stdin it calls
the API and prints the status and how often it has minted so far.
"""

import sys
import time  # noqa: TID251 - a client has its own clock
import uuid  # noqa: TID251 - and its own chance
from pathlib import Path

import jwt
import requests

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TIMEOUT_SECONDS = 30
REFUSED = 401


class Client:
    """One that knows two URLs and who it is."""

    def __init__(self, *, token_url: str, api_url: str, client_id: str, kid: str, resource: str, key: str) -> None:
        self._token_url = token_url
        self._api_url = api_url
        self._client_id = client_id
        self._kid = kid
        self._resource = resource
        self._key = key
        self._session = requests.Session()
        self._token = ""
        self.mints = 0

    def call(self, method: str, path: str) -> int:
        """Return the status of a call."""
        if not self._token:
            self._mint()
        status = self._send(method, path)
        if status == REFUSED:
            self._mint()
            status = self._send(method, path)
        return status

    def _send(self, method: str, path: str) -> int:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        body = b'{"amount": 1}' if method == "POST" else None
        answer = self._session.request(
            method, self._api_url + path, headers=headers, data=body, timeout=TIMEOUT_SECONDS
        )
        return answer.status_code

    def _mint(self) -> None:
        now = int(time.time())
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": self._token_url,
            "iat": now,
            "exp": now + 300,
            "jti": str(uuid.uuid4()),
        }
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "resource": self._resource,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._kid}),
        }
        answer = self._session.post(self._token_url, data=form, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        self._token = answer.json()["access_token"]
        self.mints += 1


def main() -> None:
    """Make a call for each line."""
    token_url, api_url, client_id, kid, resource, key_file = sys.argv[1:]
    client = Client(
        token_url=token_url,
        api_url=api_url,
        client_id=client_id,
        kid=kid,
        resource=resource,
        key=Path(key_file).read_text(),
    )
    for line in sys.stdin:
        method, path = line.split()
        sys.stdout.write(f"{client.call(method, path)} {client.mints}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
