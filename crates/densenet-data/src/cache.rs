//! Prepared samples kept on disk from run to run, where the user names a folder for them.
//!
//! ```text
//! key = SHA-256(format, program version, preprocessing up to the random part, bytes of the sample's files)
//! DIR/<key>.sample
//! ```
//!
//! - A file that changes has another key, and so has a sample that is prepared otherwise: nothing outdated is ever used.
//! - Entries are written beside their place and renamed, so another run sees a whole one or none. Each ends with the SHA-256
//!   of all before it; what does not fit it is made anew.
//! - The folder takes at most the bytes allowed. When it is full, entries that this run has not touched are removed, longest
//!   unused first; entries that it has touched stay, since an epoch would ask for all of them again.
//!
//! A cache is a help and no more: where it cannot be written, the run goes on without, and [`DiskCache::trouble`] says why.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::error::DataError;
use entry::Entry;
pub(crate) use entry::Steady;

/// The ending of an entry's name.
const ENDING: &str = ".sample";
/// The ending of an entry that is being written.
const UNFINISHED: &str = ".sample-part";
/// After so long nobody is writing it any more.
const ABANDONED: Duration = Duration::from_secs(3600);

type Key = [u8; 32];

/// A folder of prepared samples.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    max_bytes: u64,
    state: Mutex<State>,
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Entries in the folder, as far as they are known: size, and when it was last used.
    entries: BTreeMap<String, (u64, SystemTime)>,
    /// Those among them that this run has asked for.
    touched: BTreeSet<String>,
    total_bytes: u64,
    /// The digests of files, as long as length and time of change stay.
    digests: BTreeMap<PathBuf, (Stamp, Key)>,
    trouble: Option<String>,
    hits: u64,
    misses: u64,
}

/// Length and time of change of a file.
type Stamp = (u64, Option<SystemTime>);

impl DiskCache {
    /// The cache in `folder`, which is made if need be.
    ///
    /// # Errors
    /// Input/output, where the folder cannot be made, listed or written.
    pub fn open(folder: &Path, max_bytes: u64) -> Result<DiskCache, DataError> {
        let refused = |e: std::io::Error| DataError::write(folder, &e);
        fs::create_dir_all(folder).map_err(refused)?;
        let mut state = State::default();
        for found in fs::read_dir(folder).map_err(|e| DataError::io(folder, &e))? {
            let Ok(found) = found else { continue };
            let name = found.file_name().to_string_lossy().into_owned();
            let Ok(metadata) = found.metadata() else {
                continue;
            };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if is_entry(&name) {
                state.total_bytes += metadata.len();
                state.entries.insert(name, (metadata.len(), used));
            } else if name.ends_with(UNFINISHED) && used.elapsed().is_ok_and(|age| age > ABANDONED)
            {
                // Left behind by a run that was killed.
                let _ = fs::remove_file(found.path());
            }
        }
        let probe = folder.join(format!("{}{UNFINISHED}", std::process::id()));
        File::create(&probe).map_err(refused)?;
        fs::remove_file(&probe).map_err(refused)?;
        let cache = DiskCache {
            folder: folder.to_path_buf(),
            max_bytes,
            state: Mutex::new(state),
            written: AtomicU64::new(0),
        };
        cache.make_room(&mut cache.lock(), 0);
        Ok(cache)
    }

    /// Why nothing more is written, if that is so.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// How many samples were found, and how many had to be made.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.hits, state.misses)
    }

    /// The bytes that the entries take.
    pub fn bytes(&self) -> u64 {
        self.lock().total_bytes
    }

    /// The sample that `recipe` makes of `files`, from the folder or else by `make`, and then put into it.
    ///
    /// # Errors
    /// Files that cannot be read, and those of `make`.
    pub(crate) fn get(
        &self,
        files: &[PathBuf],
        recipe: &[u8],
        make: impl FnOnce() -> Result<Steady, DataError>,
    ) -> Result<Steady, DataError> {
        let stamps = stamps(files)?;
        let key = self.key(files, &stamps, recipe)?;
        let name = name_of(&key);
        if let Some(kept) = self.read(&name, &key) {
            return Ok(kept);
        }
        let made = make()?;
        // A file that changed meanwhile is not what the key says.
        let same = self::stamps(files).is_ok_and(|now| now == stamps);
        if same && let Err(error) = self.write(&name, &key, &made) {
            self.lock().trouble.get_or_insert(error.to_string());
        }
        Ok(made)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, files: &[PathBuf], stamps: &[Stamp], recipe: &[u8]) -> Result<Key, DataError> {
        let mut hash = Sha256::new();
        hash.update(entry::MAGIC);
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update((recipe.len() as u64).to_le_bytes());
        hash.update(recipe);
        for (path, stamp) in files.iter().zip(stamps) {
            let known = self
                .lock()
                .digests
                .get(path)
                .filter(|(known, _)| known == stamp)
                .map(|(_, digest)| *digest);
            let digest = match known {
                Some(digest) => digest,
                None => {
                    let digest = digest(path)?;
                    let place = path.clone();
                    self.lock().digests.insert(place, (*stamp, digest));
                    digest
                }
            };
            hash.update(digest);
        }
        Ok(hash.finalize().into())
    }

    /// The entry, if it is there and whole.
    fn read(&self, name: &str, key: &Key) -> Option<Steady> {
        let path = self.folder.join(name);
        let found = File::open(&path).ok().map(|mut file| {
            let length = file.metadata().map_or(0, |m| m.len());
            let sample = Entry::read(&mut file, length, key);
            // The time of the last use; where it cannot be set, the entry only looks older than it is.
            let _ = file.set_modified(SystemTime::now());
            (length, sample)
        });
        let mut state = self.lock();
        match found {
            Some((length, Some(sample))) => {
                state.hits += 1;
                let known = state
                    .entries
                    .insert(name.to_string(), (length, SystemTime::now()));
                if known.is_none() {
                    // Another run has put it there.
                    state.total_bytes += length;
                }
                state.touched.insert(name.to_string());
                Some(sample)
            }
            damaged => {
                state.misses += 1;
                let known = state.entries.remove(name);
                state.total_bytes -= known.map_or(0, |(bytes, _)| bytes);
                if damaged.is_some() {
                    let _ = fs::remove_file(&path);
                }
                None
            }
        }
    }

    fn write(&self, name: &str, key: &Key, sample: &Steady) -> Result<(), DataError> {
        let bytes = Entry::size(sample);
        {
            let mut state = self.lock();
            if state.trouble.is_some() || !self.make_room(&mut state, bytes) {
                return Ok(());
            }
            // Reserved before it is written, so that threads together stay below the limit.
            let now = SystemTime::now();
            let known = state.entries.insert(name.to_string(), (bytes, now));
            state.total_bytes = state.total_bytes + bytes - known.map_or(0, |(n, _)| n);
            state.touched.insert(name.to_string());
        }
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let part = self
            .folder
            .join(format!("{}-{number}{UNFINISHED}", std::process::id()));
        let done = File::create(&part)
            .and_then(|mut file| Entry::write(&mut file, key, sample))
            .and_then(|()| fs::rename(&part, self.folder.join(name)));
        done.map_err(|error| {
            let _ = fs::remove_file(&part);
            let mut state = self.lock();
            let known = state.entries.remove(name);
            state.total_bytes -= known.map_or(0, |(n, _)| n);
            DataError::write(&self.folder, &error)
        })
    }

    /// Removes entries that this run has not touched until `bytes` more fit; whether they do.
    fn make_room(&self, state: &mut State, bytes: u64) -> bool {
        if state.total_bytes.saturating_add(bytes) <= self.max_bytes {
            return true;
        }
        let mut old: Vec<(SystemTime, String, u64)> = state
            .entries
            .iter()
            .filter(|(name, _)| !state.touched.contains(*name))
            .map(|(name, &(bytes, used))| (used, name.clone(), bytes))
            .collect();
        old.sort();
        for (_, name, freed) in old {
            if state.total_bytes.saturating_add(bytes) <= self.max_bytes {
                break;
            }
            let _ = fs::remove_file(self.folder.join(&name));
            state.entries.remove(&name);
            state.total_bytes -= freed;
        }
        state.total_bytes.saturating_add(bytes) <= self.max_bytes
    }
}

fn name_of(key: &Key) -> String {
    let mut name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    name.push_str(ENDING);
    name
}

fn is_entry(name: &str) -> bool {
    name.strip_suffix(ENDING)
        .is_some_and(|key| key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn stamps(files: &[PathBuf]) -> Result<Vec<Stamp>, DataError> {
    files
        .iter()
        .map(|path| {
            let metadata = fs::metadata(path).map_err(|e| DataError::io(path, &e))?;
            Ok((metadata.len(), metadata.modified().ok()))
        })
        .collect()
}

fn digest(path: &Path) -> Result<Key, DataError> {
    let io = |e: std::io::Error| DataError::io(path, &e);
    let mut file = File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut piece).map_err(io)?;
        if n == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(piece.get(..n).unwrap_or(&[]));
    }
}

#[cfg(test)]
mod tests;
