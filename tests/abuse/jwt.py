"""Tokens as bytes, so that a test can break any part of one."""

import base64
import hashlib
import hmac
import json
import time

SECRET = b"the secret of the attacked, of more than 32 bytes"
ISSUER, AUDIENCE = "https://login.example.org", "trestle"


def part(data: bytes | dict) -> str:
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(subject: str = "eve", **others) -> dict:
    """Those that count, for a minute, but for `others`; one that is None is left out."""
    said = {"sub": subject, "exp": int(time.time()) + 60, "iss": ISSUER, "aud": AUDIENCE}
    said |= {"trestle": {"subscribe": ["good/", "users/{sub}/"]}} | others
    return {name: value for name, value in said.items() if value is not None}


def token(said: dict | None = None, key: bytes = SECRET, **header) -> str:
    """Signed by HS256 with `key`, whatever the header says."""
    head = {"alg": "HS256", "typ": "JWT", "kid": "hs"} | header
    head = {name: value for name, value in head.items() if value is not None}
    signed = f"{part(head)}.{part(claims() if said is None else said)}"
    return f"{signed}.{part(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def jwk() -> str:
    """The key that verifies, with its name."""
    return json.dumps({"kty": "oct", "kid": "hs", "alg": "HS256", "k": part(SECRET)})
