//! Tokens that count and tokens that do not, by keys of each kind. `keys/make.py` made those of another library.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};
use trestle_auth::{Claims, Jwt, KeyError, Keys, Refused, Rules, SigningKey, TOKEN_BYTES_MAX, unverified};

const SECRET: &[u8] = include_bytes!("keys/secret");
const RSA: (&[u8], &[u8]) = (include_bytes!("keys/rsa.pem"), include_bytes!("keys/rsa.pub.pem"));
const EC: (&[u8], &[u8]) = (include_bytes!("keys/ec.pem"), include_bytes!("keys/ec.pub.pem"));
const ED: (&[u8], &[u8]) = (include_bytes!("keys/ed.pem"), include_bytes!("keys/ed.pub.pem"));
const P384: &[u8] = include_bytes!("keys/p384.pub.pem");
const RSA_1024: &[u8] = include_bytes!("keys/rsa1024.pub.pem");
const JWKS: &[u8] = include_bytes!("keys/jwks.json");
const TOKENS: &str = include_str!("keys/tokens.json");
const ISSUER: &str = "https://login.example.org";

fn jwt(keys: &[u8]) -> Jwt {
    Jwt::new(Keys::read(keys).unwrap(), Rules::default())
}

fn rules() -> Rules {
    Rules { issuers: vec![ISSUER.into()], audiences: vec!["trestle".into()], ..Rules::default() }
}

fn claims() -> Claims {
    Claims::new("ann", ["users/{sub}/"], ["chat/"], 60)
}

fn in_seconds(seconds: i64) -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + seconds
}

/// Signed by HS256 with the tests' secret, whatever it says.
fn signed(header: &Value, claims: &Value) -> String {
    signed_with(SECRET.strip_suffix(b"\n").unwrap(), header, claims)
}

fn signed_with(secret: &[u8], header: &Value, claims: &Value) -> String {
    let said = said(header, claims);
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let signature =
        jsonwebtoken::crypto::sign(said.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{said}.{signature}")
}

/// What a signature is of.
fn said(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

#[test]
fn what_each_kind_of_key_signs_its_public_key_verifies_and_no_other() {
    let kinds = [(SECRET, SECRET), RSA, EC, ED];
    for (signs, (private, _)) in kinds.iter().enumerate() {
        let token = SigningKey::read(private).unwrap().sign(&claims()).unwrap();
        for (verifies, (_, public)) in kinds.iter().enumerate() {
            let grant = jwt(public).verify(&token);
            match signs == verifies {
                true => assert_eq!(grant.unwrap().subject.as_deref(), Some("ann")),
                false => assert_eq!(grant.unwrap_err(), Refused::WrongAlgorithm),
            }
        }
    }
}

#[test]
fn tokens_of_another_library_count_and_its_key_set_is_read() {
    let tokens: Value = serde_json::from_str(TOKENS).unwrap();
    let of_algorithm = |algorithm: &str| match algorithm {
        "RS256" => RSA.1,
        "ES256" => EC.1,
        "EdDSA" => ED.1,
        _ => SECRET,
    };
    let tokens = tokens.as_object().unwrap();
    assert_eq!(tokens.len(), 6);
    let set = Keys::read(JWKS).unwrap();
    assert_eq!(set.len(), 3);
    for (algorithm, token) in tokens {
        let token = token.as_str().unwrap();
        let verify = |keys: Keys| Jwt::new(keys, rules()).verify(token);
        let grant = verify(Keys::read(of_algorithm(algorithm)).unwrap()).unwrap();
        assert!(grant.may_subscribe(b"users/ann/x").is_ok() && grant.may_subscribe(b"users/").is_err());
        assert!(grant.may_publish(b"users/ann/").is_err());
        // Without a `kid` whichever of them fits.
        let by_set = verify(set.clone());
        assert_eq!(by_set.is_ok(), !algorithm.starts_with("HS"), "{algorithm}: {by_set:?}");
    }
}

#[test]
fn a_kid_chooses_the_key() {
    let set = || Keys::read(JWKS).unwrap();
    let token = |kid| SigningKey::read(RSA.0).unwrap().named(kid).sign(&claims()).unwrap();
    let by_set = Jwt::new(set(), Rules::default());
    assert!(by_set.verify(&token("r")).is_ok());
    assert_eq!(by_set.verify(&token("e")), Err(Refused::WrongAlgorithm));
    assert_eq!(by_set.verify(&token("old")), Err(Refused::UnknownKey));
    // A key without a name is for tokens of any name.
    assert!(jwt(RSA.1).verify(&token("old")).is_ok());
    assert!(matches!(set().and(set()), Err(KeyError::Twice(kid)) if kid == "d"));
    // Two keys without names: the next release's beside this one's.
    let other = SigningKey::read(b"another secret for tests, not the same").unwrap().sign(&claims()).unwrap();
    let both =
        Keys::read(SECRET).unwrap().and(Keys::read(b"another secret for tests, not the same").unwrap());
    assert!(Jwt::new(both.unwrap(), Rules::default()).verify(&other).is_ok());
    assert_eq!(jwt(SECRET).verify(&other), Err(Refused::BadSignature));
}

#[test]
fn keys_that_were_published_are_public_and_those_of_later_replace_them() {
    let by_url = |json: &Value| Keys::published(json.to_string().as_bytes());
    let set: Value = serde_json::from_slice(JWKS).unwrap();
    assert_eq!(by_url(&set).unwrap().len(), 3);
    let with = |key: Value| {
        let mut set = set.clone();
        set["keys"].as_array_mut().unwrap().push(key);
        by_url(&set)
    };
    let secret = URL_SAFE_NO_PAD.encode([7; 32]);
    assert!(matches!(with(json!({"kty": "oct", "k": secret, "kid": "s"})), Err(KeyError::PublishedSecret)));
    assert!(matches!(with(json!({"kty": "oct", "use": "enc"})), Err(KeyError::PublishedSecret)));
    let mut other = set["keys"][0].clone();
    assert!(matches!(with(other.clone()), Err(KeyError::Twice(_))));
    other["kid"] = "for encryption".into();
    other["use"] = "enc".into();
    assert_eq!(with(other.clone()).unwrap().len(), 3, "it is for others");
    other["d"] = "AA".into();
    assert!(matches!(with(other), Err(KeyError::Private)));
    assert_eq!(with(json!({"kty": "of tomorrow", "kid": "t"})).map(|keys| keys.len()).ok(), Some(3));
    assert!(matches!(by_url(&set["keys"][0]), Err(KeyError::NoSet)));
    assert!(matches!(by_url(&json!([1])), Err(KeyError::NoSet)));
    assert!(matches!(by_url(&json!({"keys": []})), Err(KeyError::Empty)));
    assert!(matches!(Keys::published(b"<html>"), Err(KeyError::Json(_))));
    assert!(matches!(Keys::published(SECRET), Err(KeyError::Json(_))));

    let token = SigningKey::read(RSA.0).unwrap().named("r").sign(&claims()).unwrap();
    let jwt = Jwt::new(Keys::default(), Rules::default());
    assert_eq!(jwt.verify(&token), Err(Refused::UnknownKey), "without keys nothing counts");
    jwt.replace_keys(by_url(&set).unwrap());
    assert!(jwt.verify(&token).is_ok());
    jwt.replace_keys(Keys::read(ED.1).unwrap());
    assert_eq!((jwt.verify(&token), jwt.n_keys()), (Err(Refused::WrongAlgorithm), 1));
}

/// Every case is signed rightly with the right secret, but for what its name says.
#[test]
fn a_table_of_tokens_that_do_not_count() {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let good = json!({"sub": "ann", "exp": in_seconds(60), "iss": ISSUER, "aud": "trestle", "trestle": {}});
    let strict = Jwt::new(Keys::read(SECRET).unwrap(), rules());
    let but = |name: &str, value: Value| {
        let mut claims = good.clone();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        signed(&header, &claims)
    };
    assert!(strict.verify(&signed(&header, &good)).is_ok());
    assert!(strict.verify(&but("exp", in_seconds(-3).into())).is_ok(), "clocks differ");
    assert!(strict.verify(&but("nbf", in_seconds(3).into())).is_ok());
    assert!(strict.verify(&but("aud", json!(["x", "trestle"]))).is_ok());

    let unsigned = |algorithm: &str| format!("{}.", said(&json!({"alg": algorithm}), &good));
    let is_bad_claims = |refused: &Refused| matches!(refused, Refused::BadClaims(_));
    for (name, token, is_expected) in [
        (
            "alg none",
            unsigned("none"),
            &(|refused: &Refused| *refused == Refused::WrongAlgorithm) as &dyn Fn(&_) -> bool,
        ),
        ("alg None", unsigned("None"), &|refused| *refused == Refused::WrongAlgorithm),
        ("no signature", unsigned("HS256"), &|refused| *refused == Refused::BadSignature),
        ("another alg", signed(&json!({"alg": "RS256"}), &good), &|refused| {
            *refused == Refused::WrongAlgorithm
        }),
        ("another HMAC", signed(&json!({"alg": "HS512"}), &good), &|refused| {
            *refused == Refused::BadSignature
        }),
        ("crit", signed(&json!({"alg": "HS256", "crit": ["exp"]}), &good), &|refused| {
            *refused == Refused::Malformed
        }),
        ("expired", but("exp", in_seconds(-10).into()), &|refused| *refused == Refused::Expired),
        ("not yet", but("nbf", in_seconds(10).into()), &|refused| *refused == Refused::NotYetValid),
        ("issuer", but("iss", "https://evil.example.org".into()), &|refused| {
            *refused == Refused::WrongIssuer
        }),
        ("no issuer", but("iss", Value::Null), &|refused| *refused == Refused::WrongIssuer),
        ("audience", but("aud", "other".into()), &|refused| *refused == Refused::WrongAudience),
        ("audiences", but("aud", json!(["other", "trestle2"])), &|refused| {
            *refused == Refused::WrongAudience
        }),
        ("no audience", but("aud", Value::Null), &|refused| *refused == Refused::WrongAudience),
        ("a number as audience", but("aud", json!(7)), &is_bad_claims),
        ("no end", but("exp", Value::Null), &is_bad_claims),
        ("an end that is no time", but("exp", "soon".into()), &is_bad_claims),
        ("no subject", but("sub", Value::Null), &is_bad_claims),
        ("an empty subject", but("sub", "".into()), &is_bad_claims),
        ("an unknown word", but("trestle", json!({"subscribed": []})), &is_bad_claims),
        ("no object", signed(&header, &json!([1])), &is_bad_claims),
        ("nothing", String::new(), &|refused| *refused == Refused::Malformed),
        ("dots", "..".into(), &|refused| *refused == Refused::Malformed),
        ("one part more", format!("{}.x", signed(&header, &good)), &|refused| *refused == Refused::Malformed),
        ("too long", format!("{}{}", signed(&header, &good), "A".repeat(TOKEN_BYTES_MAX)), &|refused| {
            *refused == Refused::Malformed
        }),
    ] {
        let refused = strict.verify(&token).expect_err(name);
        assert!(is_expected(&refused), "{name}: {refused}");
    }
    // Without an audience of its own a service takes no token that is for somebody.
    assert_eq!(jwt(SECRET).verify(&signed(&header, &good)), Err(Refused::WrongAudience));
}

#[test]
fn a_public_key_as_a_secret_signs_nothing_that_counts() {
    let claims = json!({"sub": "eve", "exp": in_seconds(60)});
    for public in [RSA.1, EC.1, ED.1] {
        let forged = signed_with(public, &json!({"alg": "HS256"}), &claims);
        assert_eq!(jwt(public).verify(&forged), Err(Refused::WrongAlgorithm));
    }
}

#[test]
fn what_is_no_key_is_named() {
    let error = |bytes: &[u8]| Keys::read(bytes).unwrap_err().to_string();
    assert!(error(b"short").contains("5 bytes"));
    assert!(error(b"").contains("0 bytes"));
    assert!(error(RSA.0).contains("private key"));
    assert!(error(ED.0).contains("private key"));
    assert!(error(P384).contains("P-256"));
    assert!(error(RSA_1024).contains("2,048"));
    assert!(error(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").contains("PEM"));
    assert!(error(b"{\"keys\": []}").contains("no key"));
    assert!(error(b"{\"kty\": 7}").contains("not supported"));
    assert!(error(b"{\"keys\": 7}").contains("JSON"));
    assert!(error(b"{").contains("JSON"));
    let jwk = |value: Value| error(value.to_string().as_bytes());
    let short = URL_SAFE_NO_PAD.encode([1; 5]);
    assert!(
        jwk(json!({"kty": "OKP", "crv": "Ed25519", "x": short})).contains("32 bytes"),
        "it ended the thread"
    );
    assert!(
        jwk(json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([255; 128]), "e": "AQAB"})).contains("2,048")
    );
    let (x, y) = (URL_SAFE_NO_PAD.encode([1; 31]), URL_SAFE_NO_PAD.encode([1; 33]));
    assert!(jwk(json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})).contains("P-256"));
    assert!(
        jwk(json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}]})).contains("private")
    );
    let many: Vec<_> = (0..33).map(|n| json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([n; 32])})).collect();
    assert!(jwk(json!({"keys": many})).contains("32 keys"));
    assert_eq!(Keys::read(json!({"keys": many[1..]}).to_string().as_bytes()).unwrap().len(), 32);
    let weak = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode("short"), "kid": "x"}).to_string();
    assert!(error(weak.as_bytes()).contains("5 bytes"));
    let named = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32]), "alg": "RS256"}).to_string();
    assert!(error(named.as_bytes()).contains("RS256"));
    for public in [RSA.1, EC.1, ED.1] {
        assert!(matches!(SigningKey::read(public), Err(KeyError::Public)));
    }
    assert!(matches!(SigningKey::read(b"short"), Err(KeyError::Short(5))));
}

#[test]
fn keys_are_shown_nowhere() {
    let shown = format!("{:?}", SigningKey::read(SECRET).unwrap());
    assert!(!shown.contains("115, 101") && !shown.contains("secret for"), "{shown}");
    let shown = format!("{:?}{:?}", Keys::read(SECRET).unwrap(), jwt(SECRET));
    assert!(!shown.contains("115, 101") && !shown.contains("secret for"), "{shown}");
}

#[test]
fn what_a_token_says_can_be_looked_at_unverified() {
    let (header, claims) = (json!({"alg": "none"}), json!({"sub": "eve", "trestle": 7}));
    let token = format!("{}.x", said(&header, &claims));
    assert_eq!(unverified(&token), Ok((header, claims)));
    let two_parts = said(&json!({}), &json!({}));
    for wrong in ["", ".", "..", "a.b.c", &two_parts, &format!("{two_parts}.x.y"), "W10.W10.x"] {
        assert_eq!(unverified(wrong), Err(Refused::Malformed), "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is changed in a token, it does not count any more.
    #[test]
    fn no_changed_token_counts(at in 0usize..400, to in any::<char>(), kind in 0usize..3) {
        let private = [SECRET, EC.0, ED.0][kind];
        let public = [SECRET, EC.1, ED.1][kind];
        let token = SigningKey::read(private).unwrap().sign(&claims()).unwrap();
        let mut changed: Vec<char> = token.chars().collect();
        let at = at % changed.len();
        changed[at] = to;
        let changed: String = changed.into_iter().collect();
        // The last character holds bits that mean nothing, which base64 forbids to be set.
        prop_assert_eq!(jwt(public).verify(&changed).is_ok(), changed == token, "{}", changed);
    }

    #[test]
    fn nothing_said_at_random_counts_or_panics(token in "\\PC{0,200}") {
        prop_assert!(jwt(SECRET).verify(&token).is_err());
    }
}
