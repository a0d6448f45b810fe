//! Files that hold keys: the certificates of ØMQ's bindings, and bare keys.
//!
//! `NAME.key` holds the public key, `NAME.key_secret` both, in the format that CZMQ's `zcert` and pyzmq's
//! `zmq.auth` write and read (ZeroMQ RFC 4, ZPL). Where a file has no such lines its keys stand alone, one a line, each
//! perhaps with a name behind it.

use std::fmt::{self, Write as _};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::key::{KeyError, PublicKey, SecretKey};
use crate::exit::Exit;

/// Behind the name of a certificate that holds the secret key, as in CZMQ and pyzmq.
pub const SECRET_SUFFIX: &str = "_secret";
/// A larger file holds no keys; bytes. Some ten thousand keys fit.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a secret key from a file that nobody else may read.
///
/// # Errors
/// An [`Exit`] with code 64 that names `flag` and the file.
pub fn read_secret(flag: &str, path: &Path) -> Result<SecretKey, Exit> {
    let refuse = |reason: &dyn fmt::Display| Exit::usage(format!("{flag} {}: {reason}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| refuse(&error))?;
    let mode = metadata.permissions().mode() & 0o777;
    // A group may read it, as it must where an orchestrator mounts secrets for one.
    if mode & 0o027 != 0 {
        let file = path.display();
        return Err(refuse(&format_args!("others may use it (mode {mode:04o}): chmod 600 {file}")));
    }
    let text = read_text(path).map_err(|error| refuse(&error))?;
    let key = match field(&text, "secret-key") {
        Some(key) => key.parse(),
        None => bare(&text).next().ok_or(KeyError).and_then(|(key, _)| key.parse()),
    };
    key.map_err(|_| refuse(&"holds no secret key; `trestle keys` makes one"))
}

/// Reads the one public key of a file.
///
/// # Errors
/// An [`Exit`] with code 64 that names `flag` and the file.
pub fn read_public(flag: &str, path: &Path) -> Result<PublicKey, Exit> {
    let refuse = |reason: &dyn fmt::Display| Exit::usage(format!("{flag} {}: {reason}", path.display()));
    let text = read_text(path).map_err(|error| refuse(&error))?;
    match public_keys(&text).as_deref() {
        Ok([(key, _)]) => Ok(*key),
        _ => Err(refuse(&"holds not exactly one public key; `trestle keys` makes one, in NAME.key")),
    }
}

/// The public keys in a text, each with its name; the first that is none is the error.
pub(super) fn public_keys(text: &str) -> Result<Vec<(PublicKey, String)>, KeyError> {
    match field(text, "public-key") {
        Some(key) => Ok(vec![(key.parse()?, String::new())]),
        None => bare(text).map(|(key, name)| Ok((key.parse()?, name.to_owned()))).collect(),
    }
}

/// A file of keys, as text.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    fs::read_to_string(path)
}

/// The value of `    name = "value"`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let value = line.trim().strip_prefix(name)?.trim_start().strip_prefix('=')?.trim();
        value.strip_prefix('"')?.strip_suffix('"')
    })
}

/// Lines of a key and perhaps a name. `#` begins a comment where a space follows: it is a digit of Z85, too.
fn bare(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim);
    let told = lines.filter(|line| !line.is_empty() && *line != "#" && !line.starts_with("# "));
    told.map(|line| line.split_once(char::is_whitespace).unwrap_or((line, "")))
        .map(|(key, name)| (key, name.trim()))
}

/// The two files of a pair of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Holds the public key, for whoever connects to it, and for allow-lists.
    pub public: PathBuf,
    /// Holds both keys; stays where it is used.
    pub secret: PathBuf,
}

impl Pair {
    /// Whether one of the files is there, also as a link that leads nowhere.
    pub fn is_there(&self) -> bool {
        [&self.public, &self.secret].into_iter().any(|path| path.symlink_metadata().is_ok())
    }

    /// Writes a new pair; `name` is said in comments.
    ///
    /// # Errors
    /// What the system says, with the path; also that a file is there already.
    pub fn make(&self, name: &str) -> io::Result<PublicKey> {
        let secret = SecretKey::generate().map_err(io::Error::other)?;
        let public = secret.public().map_err(io::Error::other)?;
        let mut text = format!(
            "# CURVE public key of {name}, made by `trestle keys`. Give it to whoever is to know it.\n"
        );
        certificate(&mut text, &public, None);
        let mut secret_text =
            format!("# CURVE secret key of {name}, made by `trestle keys`. Whoever reads it is {name}.\n");
        certificate(&mut secret_text, &public, Some(&secret));
        // Whoever finds a public key finds that the secret one is there, too.
        write(&self.secret, 0o600, &secret_text)?;
        write(&self.public, 0o644, &text)?;
        Ok(public)
    }
}

fn certificate(text: &mut String, public: &PublicKey, secret: Option<&SecretKey>) {
    let _ = write!(text, "metadata\ncurve\n    public-key = \"{public}\"\n");
    if let Some(secret) = secret {
        let _ = writeln!(text, "    secret-key = \"{}\"", secret.to_z85());
    }
}

/// Whole or not at all, and never readable to others even for a moment.
fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let name = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let part = path.with_added_extension("new");
    // Left over from a run that was cut short.
    let _ = fs::remove_file(&part);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part).map_err(name)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // Fails where there is a file already, which a rename does not.
    let placed = written.and_then(|()| fs::hard_link(&part, path)).and_then(|()| fs::remove_file(&part));
    placed.inspect_err(|_| _ = fs::remove_file(&part)).map_err(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    const OTHER: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
    const SECRET: &str = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";

    fn pair(folder: &tempfile::TempDir) -> Pair {
        Pair { public: folder.path().join("a.key"), secret: folder.path().join("a.key_secret") }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_pair_that_was_made_is_read_and_never_replaced_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let pair = pair(&folder);
        assert!(!pair.is_there());
        let public = pair.make("a").unwrap();
        assert_eq!((mode(&pair.secret), pair.is_there()), (0o600, true));
        let secret = read_secret("--curve-secret-key", &pair.secret).unwrap();
        assert_eq!(secret.public().unwrap(), public);
        let text = fs::read_to_string(&pair.public).unwrap();
        assert_eq!(public_keys(&text).unwrap(), [(public, String::new())]);
        assert!(!text.contains(&secret.to_z85()));

        let refused = pair.make("a").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert!(refused.to_string().contains("a.key_secret"), "{refused}");
        assert_eq!(read_secret("x", &pair.secret).unwrap(), secret);
        assert_eq!(read_public("--link", &pair.public).unwrap(), public);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pair = pair(&folder);
        pair.make("a").unwrap();
        for (mode, taken) in
            [(0o600, true), (0o400, true), (0o440, true), (0o644, false), (0o604, false), (0o620, false)]
        {
            fs::set_permissions(&pair.secret, fs::Permissions::from_mode(mode)).unwrap();
            match read_secret("--curve-secret-key", &pair.secret) {
                Ok(_) => assert!(taken, "{mode:o}"),
                Err(error) => {
                    assert!(!taken, "{mode:o}");
                    assert!(error.reason.starts_with("--curve-secret-key /"), "{error}");
                    assert!(
                        error.reason.contains(&format!("{mode:04o}")) && error.reason.contains("chmod 600")
                    );
                }
            }
        }
    }

    #[test]
    fn what_other_bindings_write_is_read() {
        // As pyzmq's zmq.auth.create_certificates does.
        let text = format!(
            "#   ****  Generated on 2026-01-01 by pyzmq  ****\n#   ZeroMQ CURVE Public Certificate\n\n\
             metadata\ncurve\n    public-key = \"{PUBLIC}\"\n    secret-key = \"{SECRET}\"\n"
        );
        assert_eq!(public_keys(&text).unwrap(), [(PUBLIC.parse().unwrap(), String::new())]);
        assert_eq!(field(&text, "secret-key"), Some(SECRET));
        // Bare keys, with names and comments, one of which begins with a digit of Z85.
        let text = format!("# who may\n\n{PUBLIC} forwarder of Oslo\n  {OTHER}\n#\n");
        let keys = public_keys(&text).unwrap();
        assert_eq!(keys[0], (PUBLIC.parse().unwrap(), "forwarder of Oslo".to_owned()));
        assert_eq!(keys[1], (OTHER.parse().unwrap(), String::new()));
        assert_eq!(public_keys(""), Ok(Vec::new()));
        assert_eq!(public_keys("public-key = rubbish"), Err(KeyError));
        assert_eq!(public_keys("    public-key = \"rubbish\""), Err(KeyError));
    }

    #[test]
    fn a_bare_secret_key_is_read_and_rubbish_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("{SECRET}\n")).unwrap();
        assert_eq!(read_secret("x", file.path()).unwrap().to_z85(), SECRET);
        for rubbish in ["", "# nothing\n", "short", "    secret-key = \"x\""] {
            fs::write(file.path(), rubbish).unwrap();
            let refused = read_secret("--curve-secret-key", file.path()).unwrap_err();
            assert!(refused.reason.contains("holds no secret key"), "{rubbish}: {refused}");
        }
        assert!(read_secret("--curve-secret-key", Path::new("/none")).is_err());
    }
}
