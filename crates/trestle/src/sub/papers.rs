//! What a handshake shows at the door: a token, and the page that it claims to come from.

use std::path::PathBuf;

use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, ORIGIN};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};

/// Where the token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Read anew for each connection: whoever makes tokens writes the next one there.
    File(PathBuf),
    Text(HeaderValue),
}

/// Both are left out where there is none.
#[derive(Debug, Default)]
pub(super) struct Papers {
    pub(super) token: Option<Token>,
    pub(super) origin: Option<HeaderValue>,
}

impl Papers {
    /// # Errors
    /// If the token's file cannot be read, or holds none.
    pub(super) fn show(&self, headers: &mut HeaderMap) -> Result<(), String> {
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.header()?);
        }
        if let Some(origin) = &self.origin {
            headers.insert(ORIGIN, origin.clone());
        }
        Ok(())
    }
}

impl Token {
    /// # Errors
    /// If it is no word of printable characters.
    pub(super) fn of_text(text: &str) -> Result<Self, String> {
        header(text).map(Self::Text)
    }

    fn header(&self) -> Result<HeaderValue, String> {
        let path = match self {
            Self::Text(header) => return Ok(header.clone()),
            Self::File(path) => path,
        };
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        text.and_then(|text| header(&text))
            .map_err(|reason| format!("--token-file {}: {reason}", path.display()))
    }
}

/// The token itself is said nowhere.
fn header(text: &str) -> Result<HeaderValue, String> {
    let token = text.trim();
    let is_word = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let header = is_word.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
    let mut header = header.ok_or("it holds no token, which is one word")?;
    header.set_sensitive(true);
    Ok(header)
}
