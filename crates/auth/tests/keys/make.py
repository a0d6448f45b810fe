"""Makes tokens.json and jwks.json of these keys by PyJWT, for the test that reads them. Needs: pip install pyjwt[crypto]

The keys are openssl's: `genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`, `EC -pkeyopt ec_paramgen_curve:P-256` and `ED25519`,
then `pkey -pubout`.
"""
import json
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

HERE = Path(__file__).parent
FAR = 4_102_444_800  # 2100-01-01
CLAIMS = {
    "sub": "ann",
    "exp": FAR,
    "iss": "https://login.example.org",
    "aud": ["other", "trestle"],
    "trestle": {"subscribe": ["users/{sub}/"]},
}


def key(file):
    return (HERE / file).read_text().removesuffix("\n")


def public(kid, file, algorithm):
    return {**json.loads(algorithm.to_jwk(load_pem_public_key(key(file).encode()))), "kid": kid, "use": "sig"}


files = {"HS256": "secret", "HS384": "secret", "HS512": "secret", "RS256": "rsa.pem", "ES256": "ec.pem", "EdDSA": "ed.pem"}
tokens = {algorithm: jwt.encode(CLAIMS, key(file), algorithm) for algorithm, file in files.items()}
jwks = {
    "keys": [
        public("r", "rsa.pub.pem", RSAAlgorithm),
        public("e", "ec.pub.pem", ECAlgorithm),
        public("d", "ed.pub.pem", OKPAlgorithm),
    ]
}
(HERE / "tokens.json").write_text(json.dumps(tokens, indent=1) + "\n")
(HERE / "jwks.json").write_text(json.dumps(jwks, indent=1) + "\n")
