//! Whose keys are let in: a file of public keys, or a folder of certificates, that may change at any time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::certificate::{SECRET_SUFFIX, public_keys, read_text};
use super::key::PublicKey;

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AllowError {
    #[error("{path}: {reason}", path = .path.display())]
    Read { path: PathBuf, reason: io::Error },
    #[error("{path}: a line that is no public key: 40 characters of Z85, or a certificate", path = .path.display())]
    Key { path: PathBuf },
}

/// The list as it was read last.
#[derive(Debug)]
pub(super) struct AllowList {
    path: PathBuf,
    /// Each file's text, so that a change is one of content, whatever file times say.
    texts: BTreeMap<PathBuf, String>,
    /// With names, as files call them.
    keys: BTreeMap<PublicKey, String>,
    /// What was said of the list that is there now, if it is no good.
    complaint: Option<String>,
}

/// What reading the list again has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Other keys are let in now.
    Keys { added: usize, removed: usize },
    /// What is there now is no good, and is told for the first time; the old keys count.
    Bad(String),
}

impl AllowList {
    /// Reads the list for the first time.
    ///
    /// # Errors
    /// Which file is no good.
    pub(super) fn read(path: &Path) -> Result<Self, AllowError> {
        let texts = read(path)?;
        let keys = parse(&texts)?;
        Ok(Self { path: path.to_owned(), texts, keys, complaint: None })
    }

    /// Reads it again.
    pub(super) fn reread(&mut self) -> Option<Change> {
        let parsed = match read(&self.path) {
            Ok(texts) if texts == self.texts && self.complaint.is_none() => return None,
            Ok(texts) => parse(&texts).map(|keys| (texts, keys)),
            Err(error) => Err(error),
        };
        match parsed {
            Ok((texts, keys)) => {
                let news = |new: &BTreeMap<PublicKey, _>, old: &BTreeMap<_, _>| {
                    new.keys().filter(|&key| !old.contains_key(key)).count()
                };
                let (added, removed) = (news(&keys, &self.keys), news(&self.keys, &keys));
                (self.texts, self.keys) = (texts, keys);
                let was_bad = self.complaint.take().is_some();
                (was_bad || added + removed > 0).then_some(Change::Keys { added, removed })
            }
            Err(error) => {
                let complaint = error.to_string();
                let is_news = self.complaint.replace(complaint.clone()).as_ref() != Some(&complaint);
                is_news.then_some(Change::Bad(complaint))
            }
        }
    }

    /// The name of who has this key, perhaps empty, if it is let in.
    pub(super) fn name(&self, key: &PublicKey) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// How many keys are let in.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Of a folder each file that can be a public certificate: not hidden, and no secret one.
fn read(path: &Path) -> Result<BTreeMap<PathBuf, String>, AllowError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |reason| AllowError::Read { path, reason }
    };
    let mut paths = vec![path.to_owned()];
    if fs::metadata(path).map_err(failed(path))?.is_dir() {
        paths.clear();
        for entry in fs::read_dir(path).map_err(failed(path))? {
            let entry = entry.map_err(failed(path))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // `.new` is a certificate that is being written.
            if name.starts_with('.') || name.ends_with(SECRET_SUFFIX) || name.ends_with(".new") {
                continue;
            }
            // What a link leads to counts: orchestrators mount files so.
            if fs::metadata(entry.path()).map_err(failed(&entry.path()))?.is_file() {
                paths.push(entry.path());
            }
        }
    }
    paths.into_iter().map(|path| Ok((path.clone(), read_text(&path).map_err(failed(&path))?))).collect()
}

fn parse(texts: &BTreeMap<PathBuf, String>) -> Result<BTreeMap<PublicKey, String>, AllowError> {
    let mut keys = BTreeMap::new();
    for (path, text) in texts {
        let listed = public_keys(text).map_err(|_| AllowError::Key { path: path.clone() })?;
        for (key, name) in listed {
            let file = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            keys.insert(key, if name.is_empty() { file() } else { name });
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::super::certificate::Pair;
    use super::super::key::SecretKey;
    use super::*;

    fn key() -> PublicKey {
        SecretKey::generate().unwrap().public().unwrap()
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| fs::write(file.path(), text).unwrap();
        let [one, two, three] = [key(), key(), key()];
        write(&format!("{one} first\n{two}\n"));
        let mut list = AllowList::read(file.path()).unwrap();
        assert_eq!((list.name(&one), list.name(&three), list.len()), (Some("first"), None, 2));
        assert_eq!(list.reread(), None);

        write(&format!("# changed\n{one}\n{three}\n"));
        assert_eq!(list.reread(), Some(Change::Keys { added: 1, removed: 1 }));
        assert!(list.name(&three).is_some() && list.name(&two).is_none());

        write(&format!("{two}\nrubbish\n"));
        let Some(Change::Bad(reason)) = list.reread() else { panic!("it is bad") };
        assert!(reason.contains(file.path().to_str().unwrap()), "{reason}");
        assert_eq!(list.reread(), None, "said once");
        assert!(list.name(&three).is_some() && list.name(&two).is_none(), "the old list counts");

        write(&format!("{one}\n{three}\n"));
        assert_eq!(list.reread(), Some(Change::Keys { added: 0, removed: 0 }), "it is good again");
        fs::remove_file(file.path()).unwrap();
        assert!(matches!(list.reread(), Some(Change::Bad(_))));
        assert!(list.name(&one).is_some());
        write("");
        assert_eq!(
            list.reread(),
            Some(Change::Keys { added: 0, removed: 2 }),
            "an empty list lets nobody in"
        );
    }

    #[test]
    fn of_a_folder_public_certificates_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let make = |name: &str| {
            let (public, secret) = (path(&format!("{name}.key")), path(&format!("{name}.key_secret")));
            Pair { public, secret }.make(name).unwrap()
        };
        let (edge, publisher) = (make("edge"), make("publisher"));
        fs::write(path(".hidden"), "rubbish").unwrap();
        fs::create_dir(path("folder")).unwrap();
        let mut list = AllowList::read(folder.path()).unwrap();
        assert_eq!(
            (list.name(&edge), list.name(&publisher), list.len()),
            (Some("edge"), Some("publisher"), 2)
        );
        fs::remove_file(path("edge.key")).unwrap();
        assert_eq!(list.reread(), Some(Change::Keys { added: 0, removed: 1 }));
        fs::write(path("bad.key"), "rubbish").unwrap();
        assert!(matches!(list.reread(), Some(Change::Bad(reason)) if reason.contains("bad.key")));
    }

    #[test]
    fn the_first_list_must_be_good() {
        let error = AllowList::read(Path::new("/none")).unwrap_err().to_string();
        assert!(error.starts_with("/none: "), "{error}");
    }
}
