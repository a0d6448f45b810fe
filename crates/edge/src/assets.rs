//! The page and the client module, inside the binary.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use rust_embed::{Embed, EmbeddedFile};

/// `web`, without what only its tests and its author's tools read.
#[derive(Embed)]
#[folder = "../../web"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.js"]
#[include = "*.svg"]
#[include = "*.LICENSE.txt"]
#[exclude = "node_modules/*"]
#[exclude = "test/*"]
#[exclude = "tests/*"]
#[exclude = "*.test.js"]
#[exclude = "*.config.js"]
struct Web;

/// A file as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asset {
    /// The whole file.
    pub(crate) bytes: &'static [u8],
    /// With its charset where it is text.
    pub(crate) content_type: &'static str,
    /// Strong and quoted (RFC 9110 §8.8.3): another build with the same file keeps browsers' caches.
    pub(crate) etag: &'static str,
}

static ASSETS: LazyLock<HashMap<String, Asset>> = LazyLock::new(|| {
    let asset = |path: &str| Some((format!("/{path}"), read(path, Web::get(path)?)));
    Web::iter().filter_map(|path| asset(&path)).collect()
});

/// The file at a URL's path, such as `/client.js`; `/` is the page.
pub(crate) fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.get(if path == "/" { "/index.html" } else { path })
}

/// Reads a file once for the life of the process; what it allocates is never given back.
fn read(path: &str, file: EmbeddedFile) -> Asset {
    let hash = file.metadata.sha256_hash();
    // 96 bits are more than enough to tell a file's versions apart.
    let hex: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    let bytes = match file.data {
        Cow::Borrowed(bytes) => bytes,
        Cow::Owned(bytes) => Box::leak(bytes.into_boxed_slice()),
    };
    Asset { bytes, content_type: content_type(path), etag: Box::leak(format!("\"{hex}\"").into_boxed_str()) }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_is_served_and_what_it_asks_for_is_there() {
        let page = asset("/").unwrap();
        assert_eq!(Some(page), asset("/index.html"));
        assert_eq!(page.content_type, "text/html; charset=utf-8");
        let html = std::str::from_utf8(page.bytes).unwrap();
        let asked = html.split(['"', '\'']).filter(|text| text.starts_with('/') && text.contains('.'));
        let asked: Vec<_> = asked.collect();
        assert!(asked.len() > 3, "{asked:?}");
        for path in asked {
            assert!(asset(path).is_some(), "the page asks for {path}");
        }
        assert_eq!(asset("/client.js").unwrap().content_type, "text/javascript; charset=utf-8");
    }

    #[test]
    fn a_file_is_the_one_in_the_source_and_its_etag_its_own() {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        let mut etags = std::collections::HashSet::new();
        for (path, asset) in &*ASSETS {
            assert_eq!(asset.bytes, std::fs::read(web.join(&path[1..])).unwrap(), "{path}");
            assert!(asset.etag.starts_with('"') && asset.etag.len() == 26, "{path}: {}", asset.etag);
            etags.insert(asset.etag);
        }
        assert_eq!(etags.len(), ASSETS.len());
    }

    #[test]
    fn nothing_else_is_served() {
        for path in ["", "index.html", "/package.json", "/../Cargo.toml", "/tsconfig.json", "/none.js"] {
            assert_eq!(asset(path), None, "{path}");
        }
        let foreign = |path: &&String| path.contains("node_modules") || path.contains("test");
        assert_eq!(ASSETS.keys().find(foreign), None);
    }
}
