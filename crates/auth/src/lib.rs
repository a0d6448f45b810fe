//! From a JSON Web Token (RFC 7519) to what its bearer may do, a [`Grant`](trestle_hub::Grant).
//!
//! - [`Keys`] are read from files, variables and what a server publishes: each pins the algorithm of the tokens that it verifies.
//! - [`Jwt`] verifies a token by them and by [`Rules`], and [`Refused`] says why it does not count.
//! - [`Claims`] are what a token says; `trestle token` makes them with a [`SigningKey`].
//!
//! ```
//! use trestle_auth::{Claims, Jwt, Keys, Rules, SigningKey};
//!
//! let secret = b"of thirty-two bytes or more, as here";
//! let key = SigningKey::read(secret)?;
//! let claims = Claims::new("ann", ["users/{sub}/"], ["chat/"], 60);
//! let jwt = Jwt::new(Keys::read(secret)?, Rules::default());
//! let grant = jwt.verify(&key.sign(&claims)?)?;
//! assert!(grant.may_subscribe(b"users/ann/mail").is_ok());
//! assert!(grant.may_publish(b"jobs/").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod claims;
mod key;
mod refused;
mod signing;
mod verify;

pub use claims::{Audience, Claims};
pub use key::{KeyError, Keys, SECRET_BYTES_MIN};
pub use refused::Refused;
pub use signing::SigningKey;
pub use verify::{Jwt, Rules, TOKEN_BYTES_MAX, unverified};
