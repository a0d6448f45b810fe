//! The decoders of bodies: as the configuration has them ([`Table`]), and as the hub uses them.

use serde::Deserialize;
use trestle_hub::decode::{BodyKind, Compression, Decoder, Decoders};
use trestle_process::exit::Exit;

use crate::Config;

/// A `[[decoder]]` of the file; elsewhere the same as a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Topics begin so; the longest of several decides.
    pub prefix: String,
    /// How bodies are compressed.
    pub decompress: Option<Decompress>,
    /// What they are then.
    pub body: Body,
}

/// How bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decompress {
    /// RFC 1950.
    Zlib,
    /// RFC 1952.
    Gzip,
}

/// What bodies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// Any JSON.
    Json,
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// A protobuf `trestle.v1.Event`.
    Event,
}

/// Reads a table from its JSON.
pub(crate) fn table(json: &str) -> Result<Table, String> {
    // By way of a value: the place in a line that nobody wrote says nothing.
    let value: serde_json::Value = serde_json::from_str(json).map_err(|error| {
        format!(r#"{error}; write for example {{"prefix":"eddn","decompress":"zlib","body":"json"}}"#)
    })?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

impl Table {
    fn decoder(&self) -> Decoder {
        let decompress = self.decompress.map(|decompress| match decompress {
            Decompress::Zlib => Compression::Zlib,
            Decompress::Gzip => Compression::Gzip,
        });
        let body = match self.body {
            Body::Json => BodyKind::Json,
            Body::Text => BodyKind::Text,
            Body::Binary => BodyKind::Binary,
            Body::Event => BodyKind::Event,
        };
        Decoder { prefix: self.prefix.clone().into(), decompress, body }
    }
}

/// All that `config` has.
///
/// # Errors
/// An [`Exit`] with code 64 that names the table.
pub(crate) fn of(config: &Config) -> Result<Decoders, Exit> {
    let decoders = config.decoder.iter().map(Table::decoder).collect();
    Decoders::new(decoders, config.limits.decoded_bytes_max())
        .map_err(|error| Exit::usage(format!("{}: {error}", place(config, error.second))))
}

/// Where the `nth` table stands, from 0; whether the flag, the variable or the file gave it is not known any more.
fn place(config: &Config, nth: usize) -> String {
    let file = config
        .common
        .config
        .as_ref()
        .map(|path| format!(" or table {} of `decoder` in {}", nth + 1, path.display()));
    format!("--decoder {}{}", nth + 1, file.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn of_file(toml: &str) -> Result<Decoders, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let path = file.path().to_str().unwrap();
        let named = |error: String| error.replace(path, "edge.toml");
        let config: Config =
            trestle_process::config::parse(["trestle-edge", "--config", path], &HashMap::new())
                .map_err(|error| named(error.to_string()))?;
        of(&config).map_err(|exit| {
            assert_eq!(exit.code, trestle_process::exit::USAGE);
            named(exit.reason)
        })
    }

    #[test]
    fn tables_and_objects_say_the_same() {
        let toml = "[[decoder]]\nprefix = 'eddn'\ndecompress = 'zlib'\nbody = 'json'\n[[decoder]]\nprefix = ''\nbody = 'binary'";
        assert!(format!("{:?}", of_file(toml).unwrap()).contains("Zlib"));
        let json = r#"{"prefix":"eddn","decompress":"zlib","body":"json"}"#;
        let of_flag = table(json).unwrap();
        assert_eq!(
            of_flag,
            Table { prefix: "eddn".to_owned(), decompress: Some(Decompress::Zlib), body: Body::Json }
        );
        let env = HashMap::from([("TRESTLE_DECODER".to_owned(), format!("[{json}]"))]);
        let config: Config = trestle_process::config::parse(["trestle-edge"], &env).unwrap();
        assert_eq!(config.decoder, [of_flag]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (toml, expected) in [
            ("prefix = 'a'", "missing field `body`"),
            ("body = 'json'", "missing field `prefix`"),
            ("prefix = 'a'\nbody = 'yaml'", "unknown variant `yaml`, expected one of `json`, `text`"),
            (
                "prefix = 'a'\nbody = 'json'\ndecompress = 'lz4'",
                "unknown variant `lz4`, expected `zlib` or `gzip`",
            ),
            ("prefix = 'a'\nbody = 'json'\nprefx = 1", "unknown field `prefx`"),
            ("prefix = 1\nbody = 'json'", "invalid type"),
        ] {
            let toml = format!("[[decoder]]\nprefix = 'b'\nbody = 'text'\n[[decoder]]\n{toml}");
            let error = of_file(&toml).unwrap_err();
            assert!(error.starts_with("table 2 of `decoder` in edge.toml: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        let twice = "[[decoder]]\nprefix = 'a'\nbody = 'json'\n[[decoder]]\nprefix = 'a'\nbody = 'text'";
        let expected =
            "--decoder 2 or table 2 of `decoder` in edge.toml: the prefix `a` has a decoder already";
        assert_eq!(of_file(twice).unwrap_err(), expected);
        assert!(table("prefix").unwrap_err().contains("write for example"));
    }
}
