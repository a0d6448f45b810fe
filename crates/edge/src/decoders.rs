//! The decoders of bodies: as the configuration has them ([`Table`]), and as the hub uses them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use trestle_hub::decode::{BodyKind, Compression, Decoder, Decoders, Protobuf};
use trestle_process::exit::Exit;

use crate::Config;

/// A `[[decoder]]` of the file; elsewhere the same as a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Any JSON.
    Json,
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// A protobuf `trestle.v1.Event`.
    Event,
    /// A protobuf message.
    Protobuf {
        /// The file of a `FileDescriptorSet`.
        descriptors: PathBuf,
        /// The full name of the message.
        message: String,
    },
    /// A MessagePack value.
    Msgpack,
    /// A CBOR item.
    Cbor,
}

/// A table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    prefix: String,
    decompress: Option<Decompress>,
    body: Word,
    descriptors: Option<PathBuf>,
    message: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Json,
    Text,
    Binary,
    Event,
    Protobuf,
    Msgpack,
    Cbor,
}

/// Reads a table from its JSON. Files are opened later.
pub(crate) fn table(json: &str) -> Result<Table, String> {
    // By way of a value: the place in a line that nobody wrote says nothing.
    let value: serde_json::Value = serde_json::from_str(json).map_err(|error| {
        format!(r#"{error}; write for example {{"prefix":"eddn","decompress":"zlib","body":"json"}}"#)
    })?;
    let Written { prefix, decompress, body, descriptors, message } =
        serde_json::from_value(value).map_err(|error| error.to_string())?;
    let body = match (body, descriptors, message) {
        (Word::Protobuf, Some(descriptors), Some(message)) => Body::Protobuf { descriptors, message },
        (Word::Protobuf, None, _) => {
            return Err("missing field `descriptors`, which `protobuf` needs".to_owned());
        }
        (Word::Protobuf, _, None) => return Err("missing field `message`, which `protobuf` needs".to_owned()),
        (_, Some(_), _) => return Err("field `descriptors` is only for body `protobuf`".to_owned()),
        (_, _, Some(_)) => return Err("field `message` is only for body `protobuf`".to_owned()),
        (Word::Json, ..) => Body::Json,
        (Word::Text, ..) => Body::Text,
        (Word::Binary, ..) => Body::Binary,
        (Word::Event, ..) => Body::Event,
        (Word::Msgpack, ..) => Body::Msgpack,
        (Word::Cbor, ..) => Body::Cbor,
    };
    Ok(Table { prefix, decompress, body })
}

impl Table {
    /// Reads the descriptors, if it has some.
    fn decoder(&self) -> Result<Decoder, String> {
        let decompress = self.decompress.map(|decompress| match decompress {
            Decompress::Zlib => Compression::Zlib,
            Decompress::Gzip => Compression::Gzip,
        });
        let body = match &self.body {
            Body::Json => BodyKind::Json,
            Body::Text => BodyKind::Text,
            Body::Binary => BodyKind::Binary,
            Body::Event => BodyKind::Event,
            Body::Protobuf { descriptors, message } => BodyKind::Protobuf(protobuf(descriptors, message)?),
            Body::Msgpack => BodyKind::Msgpack,
            Body::Cbor => BodyKind::Cbor,
        };
        Ok(Decoder { prefix: self.prefix.clone().into(), decompress, body })
    }
}

/// All that `config` has.
///
/// # Errors
/// An [`Exit`] with code 64 that names the table.
pub(crate) fn of(config: &Config) -> Result<Decoders, Exit> {
    let usage = |nth, reason: String| Exit::usage(format!("{}: {reason}", place(config, nth)));
    let decoder = |(nth, table): (usize, &Table)| table.decoder().map_err(|reason| usage(nth, reason));
    let decoders = config.decoder.iter().enumerate().map(decoder).collect::<Result<_, _>>()?;
    Decoders::new(decoders, config.limits.decoded_bytes_max())
        .map_err(|error| usage(error.second, error.to_string()))
}

fn protobuf(descriptors: &Path, message: &str) -> Result<Protobuf, String> {
    let named = |reason: String| format!("descriptors {}: {reason}", descriptors.display());
    let set = std::fs::read(descriptors).map_err(|error| named(error.to_string()))?;
    Protobuf::new(&set, message).map_err(|error| named(error.to_string()))
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
            ("prefix = 'a'\nbody = 'json'\nmessage = 'a.B'", "field `message` is only for body `protobuf`"),
            (
                "prefix = 'a'\nbody = 'protobuf'\nmessage = 'a.B'",
                "missing field `descriptors`, which `protobuf` needs",
            ),
            (
                "prefix = 'a'\nbody = 'protobuf'\ndescriptors = 'x'",
                "missing field `message`, which `protobuf` needs",
            ),
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
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let toml = |descriptors: &str| {
            format!(
                "[[decoder]]\nprefix = ''\nbody = 'protobuf'\ndescriptors = '{descriptors}'\nmessage = 'a.B'"
            )
        };
        let error = of_file(&toml("/nowhere")).unwrap_err();
        let place = "--decoder 1 or table 1 of `decoder` in edge.toml: descriptors ";
        assert!(error.starts_with(&format!("{place}/nowhere: No such file")), "{error}");
        let expected = format!("{place}{path}: no message `a.B` in the set; it has none");
        assert_eq!(of_file(&toml(&path)).unwrap_err(), expected);
        std::fs::write(file.path(), "no descriptors").unwrap();
        let error = of_file(&toml(&path)).unwrap_err();
        assert!(error.starts_with(&format!("{place}{path}: no descriptor set")), "{error}");
        assert!(table("prefix").unwrap_err().contains("write for example"));
    }
}
