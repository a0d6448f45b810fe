"""Tokens that somebody made up, stole, changed or kept, at an edge where the fifty have good ones."""

import base64
import socket
import time
from pathlib import Path

import jwt
import pytest
import wire
from conftest import Site

KEYS = Path(__file__).parent.parent.parent / "crates/auth/tests/keys"
PUBLIC_KEY = (KEYS / "rsa.pub.pem").read_bytes()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Knows a secret by the name `hs`, and a public key without a name."""
    key = tmp_path_factory.mktemp("keys") / "key.json"
    key.write_text(jwt.jwk())
    flags = ["--auth", "jwt", "--auth-key-file", str(key), "--auth-key-file", str(KEYS / "rsa.pub.pem")]
    flags += ["--auth-issuer", jwt.ISSUER, "--auth-audience", jwt.AUDIENCE, "--auth-cookie", "session", "--auth-query"]
    day = jwt.claims("good", exp=int(time.time()) + 86_400)
    guarded = Site(*flags, Authorization=f"Bearer {jwt.token(day)}")
    yield guarded
    guarded.stop()


def failures(site, cause: str) -> int:
    return site.metric(f'auth_failures_total{{cause="{cause}"}}')


def carried(token: str) -> list[bytes]:
    """A handshake by each carrier, and a request for an event stream."""
    return [
        wire.request(Authorization=f"Bearer {token}"),
        wire.request(Sec_WebSocket_Protocol=f"trestle.v1.json, bearer.{token}"),
        wire.request(Cookie=f"session={token}"),
        wire.request(f"/ws?access_token={token}"),
        wire.request("/events?topic=good/", Authorization=f"Bearer {token}", Upgrade=None, Connection=None),
    ]


def changed(token: str, nth: int, part: str) -> str:
    parts = token.split(".")
    parts[nth] = part
    return ".".join(parts)


def der(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(line for line in pem.splitlines() if not line.startswith(b"-----")))


def check(site, cause: str, token: str) -> None:
    """It lets nobody in by any carrier, nor in band, and is counted by why."""
    before, requests = failures(site, cause), carried(token)
    assert [wire.ask(site.address, request) for request in requests] == [401] * len(requests), cause
    client = wire.WebSocket(site.address)
    client.say({"id": 1, "authenticate": {"token": token}})
    assert client.reply()["error"]["code"] in ("unauthorized", "token_expired"), cause
    assert client.end() in (4401, 4501)
    client.close()
    assert failures(site, cause) == before + len(requests) + 1, (cause, token)


def test_tokens_that_do_not_count(guarded):
    now = int(time.time())
    good = jwt.token()
    header, said, signature = good.split(".")
    everything = jwt.part(jwt.claims(trestle={"subscribe": [""], "publish": [""]}))
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    with guarded.attacked():
        for cause, token in [
            ("expired", jwt.token(jwt.claims(exp=now - 3600))),
            ("not_yet_valid", jwt.token(jwt.claims(nbf=now + 3600))),
            ("bad_signature", changed(good, 1, everything)),
            ("bad_signature", changed(good, 2, flipped)),
            ("bad_signature", changed(good, 2, "")),
            ("bad_signature", jwt.token(key=b"another secret, of more than 32 bytes")),
            ("bad_signature", jwt.token(key=b"")),
            ("wrong_algorithm", changed(good, 0, jwt.part({"alg": "none", "kid": "hs"}))),
            ("wrong_algorithm", f"{jwt.part({'alg': 'none'})}.{said}."),
            ("wrong_algorithm", f"{jwt.part({'alg': 'nOnE'})}.{said}."),
            ("wrong_audience", jwt.token(jwt.claims(aud="another service"))),
            ("wrong_audience", jwt.token(jwt.claims(aud=None))),
            ("wrong_issuer", jwt.token(jwt.claims(iss="https://evil.example"))),
            ("wrong_issuer", jwt.token(jwt.claims(iss=None))),
            ("bad_claims", jwt.token(jwt.claims(exp=None))),
            ("bad_claims", jwt.token(jwt.claims(sub=None))),
            ("bad_claims", jwt.token(jwt.claims("eve/../good"))),
            ("bad_claims", jwt.token(jwt.claims(trestle={"subscribe": ["users/{sub}"]}))),
            ("malformed", good.replace(".", "")),
            ("malformed", f"{good}.{signature}"),
            ("malformed", jwt.token(crit=["exp"])),
        ]:
            check(guarded, cause, token)


def test_a_public_key_is_no_secret(guarded):
    """Whoever has it could sign by HMAC, if the token's word for its algorithm were taken."""
    with guarded.attacked():
        for key in (PUBLIC_KEY, PUBLIC_KEY.strip(), der(PUBLIC_KEY)):
            check(guarded, "wrong_algorithm", jwt.token(key=key, kid="r"))
            check(guarded, "bad_signature", jwt.token(key=key))
            check(guarded, "bad_signature", jwt.token(key=key, kid=None))
            check(guarded, "bad_signature", jwt.token(key=key, alg="RS256", kid="r"))


def test_keys_that_a_token_brings_along_are_not_looked_at(guarded):
    own = b"a secret of the attacker's, of more than 32 bytes"
    with guarded.attacked(), socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/jwks.json"
        key = {"kty": "oct", "k": jwt.part(own), "kid": "hs"}
        for brought in [{"jwk": key}, {"jku": url}, {"x5u": url}, {"jku": url, "jwk": key}, {"x5c": ["MAA="]}]:
            for kid in ("hs", None):
                # A chain that is none cannot even be read.
                before = failures(guarded, "bad_signature") + failures(guarded, "malformed")
                token = jwt.token(key=own, kid=kid, **brought)
                assert [wire.ask(guarded.address, asked) for asked in carried(token)] == [401] * 5, brought
                assert failures(guarded, "bad_signature") + failures(guarded, "malformed") == before + 5
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_names_of_keys_lead_nowhere(guarded):
    names = ["../../../../../../dev/null", "/dev/null", "file:///dev/null", "hs\0", "HS", "' OR '1'='1", "$(id)", "", "k" * 4000]
    with guarded.attacked():
        for name in names:
            # The one key that has no name is for tokens of any name, and another algorithm.
            check(guarded, "wrong_algorithm", jwt.token(key=b"", kid=name))


def test_tokens_too_long(guarded):
    with guarded.attacked():
        for n in (9_000, 60_000, 1 << 20):
            token = jwt.token(jwt.claims(padding="x" * n))
            for request in carried(token):
                assert wire.ask(guarded.address, request) in (401, 414, 431, 0), n
        client = wire.WebSocket(guarded.address)
        client.say({"id": 1, "authenticate": {"token": jwt.token(jwt.claims(padding="x" * 9_000))}})
        assert client.reply()["error"]["code"] == "unauthorized"
        assert client.end() == 4501
        client.close()
        client = wire.WebSocket(guarded.address)
        client.say({"id": 1, "authenticate": {"token": "x" * (1 << 20)}})
        assert client.end() in (1009, 4501)
        client.close()


def test_a_recorded_handshake_is_worth_what_its_token_is(guarded):
    """So many connections at once, and nothing after its end."""
    end = int(time.time()) + 8
    said = jwt.claims("replayed", exp=end, trestle={"subscribe": ["good/"], "max_connections": 3})
    recorded = wire.request("/ws?topic=good/", Authorization=f"Bearer {jwt.token(said)}")
    with guarded.attacked():
        streams = []
        for _ in range(100):
            streams.append(stream := wire.dial(guarded.address))
            stream.sendall(recorded)
        statuses = [wire.answer(stream)[0] for stream in streams]
        # A machine that is busy may take so long that some come too late.
        assert statuses.count(101) <= 3 and set(statuses) <= {101, 429, 401}, statuses
        guarded.until("its end", lambda: wire.ask(guarded.address, recorded) == 401)
        assert time.time() >= end
        for stream in streams:
            stream.close()


def test_more_than_a_token_allows(guarded):
    with guarded.attacked():
        token = jwt.token(jwt.claims(trestle={"subscribe": ["good/", "flood/{sub}/"]}))
        client = wire.WebSocket(guarded.address, Authorization=f"Bearer {token}")
        topics = ["", "g", "good", "flood/", "flood/ev", "flood/eve", "flood/good/", "users/eve/", "\0trestle", "flood/{sub}/"]
        for extra in [{}, {"snapshot": True}, {"exact": True}, {"policy": "conflate"}]:
            for topic in topics:
                client.say({"id": 1, "subscribe": {"topics": [topic], **extra}})
                assert client.reply()["error"]["code"] in ("forbidden", "invalid_topic"), (topic, extra)
        client.say({"id": 2, "publish": {"topic": "chat/1", "text": "x"}})
        assert client.reply()["error"]["code"] == "forbidden"
        # One of several that it may not have spoils them all.
        client.say({"id": 3, "subscribe": {"topics": ["good/", "flood/"]}})
        assert client.reply()["error"]["code"] == "forbidden"
        # Another subject's token changes nothing.
        other = jwt.claims("root", trestle={"subscribe": [""]})
        client.say({"id": 4, "authenticate": {"token": jwt.token(other)}})
        assert client.reply()["error"]["code"] == "forbidden"
        for nth in range(100):
            guarded.publisher.send_multipart([b"flood/secret", str(nth).encode()])
            guarded.publisher.send_multipart([b"flood/eve/", str(nth).encode()])
        # What is recorded comes by the snapshot, if it was here before, and what comes now comes by itself.
        client.say({"id": 5, "subscribe": {"topics": ["flood/eve/"], "snapshot": True}})
        while (taken := client.next()) is not None:
            assert b"flood/secret" not in taken[1]
            if b'"topic":"flood/eve/"' in taken[1]:
                break
        assert taken is not None
        client.close()
        for path in ["/events", "/events?topic=flood/", "/events?topic=good/&topic=flood/", "/events?topic=&snapshot=true"]:
            headers = {"Authorization": f"Bearer {jwt.token()}", "Upgrade": None, "Connection": None}
            assert wire.ask(guarded.address, wire.request(path, **headers)) == 403, path


def test_a_flood_of_tokens(guarded):
    """Each connection has three tries; as many connections as there may be use them, again and again."""
    forged = jwt.token(key=b"another secret, of more than 32 bytes")
    command = wire.frame(wire.TEXT, b'{"id":1,"authenticate":{"token":"%s"}}' % forged.encode())
    with guarded.attacked():
        before = failures(guarded, "bad_signature")
        for _ in range(5):
            clients = [wire.WebSocket(guarded.address) for _ in range(100)]
            for client in clients:
                client.send(command * 100)
            for client in clients:
                assert client.end() in (4501, 1006)
                client.close()
        # At least one was looked at on each, and no more than three.
        assert 500 <= failures(guarded, "bad_signature") - before <= 1500
        # With a good token beside it as well.
        client = wire.WebSocket(guarded.address, Authorization=f"Bearer {jwt.token()}")
        client.send(command * 100)
        assert client.end() in (4501, 4029, 1006)
        client.close()
