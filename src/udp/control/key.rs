//! A key that client and server share, and the proof that the peer has it.
//!
//! Challenge and response by HMAC-SHA-256 (RFC 2104, FIPS 180-4). Each side's proof covers both nonces and its role, so that it
//! cannot be replayed or reflected. The key authenticates the start of the control connection; the messages are not encrypted.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

/// Shortest key, in bytes.
const MIN_BYTES: usize = 16;

/// Longest key file, in bytes.
const MAX_BYTES: u64 = 4_096;

/// Bytes of a nonce.
const NONCE: usize = 32;

/// Bytes of an authentication code.
const MAC: usize = 32;

/// Why a key cannot be read from a file.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Too many bytes.
    #[error(
        "the key file {} holds more than {MAX_BYTES} bytes, expected {MIN_BYTES} to {MAX_BYTES}; make one with: head -c 32 /dev/urandom | base64 > FILE",
        .0.display()
    )]
    Long(PathBuf),
    /// Too few bytes.
    #[error(
        "the key file {} holds {bytes} bytes, expected {MIN_BYTES} to {MAX_BYTES}; make one with: head -c 32 /dev/urandom | base64 > FILE",
        path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// Bytes in the file, without white space at the end.
        bytes: usize,
    },
}

/// The side that proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The side that opened the connection.
    Client,
    /// The side that accepted the connection.
    Server,
}

/// A shared key.
#[derive(Clone)]
pub struct Key(Vec<u8>);

/// Keeps the key out of logs.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A random number that is used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; NONCE]);

impl Key {
    /// Reads the key in the file at `path`: its bytes without white space at the end.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let refused = |cause| KeyError::Read {
            path: path.to_owned(),
            cause,
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(refused)?;
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(refused)?;
        let key = bytes.trim_ascii_end();
        if bytes.len() as u64 > MAX_BYTES {
            return Err(KeyError::Long(path.to_owned()));
        }
        if key.len() < MIN_BYTES {
            return Err(KeyError::Short {
                path: path.to_owned(),
                bytes: key.len(),
            });
        }
        Ok(Self(key.to_vec()))
    }

    /// The key with these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The proof of `role`, in hexadecimal.
    pub fn prove(&self, role: Role, client: Nonce, server: Nonce) -> String {
        hex(&self.mac(role, client, server).finalize().into_bytes())
    }

    /// Whether `proof` is the proof of `role`. Runs in constant time.
    pub fn is_proof(&self, proof: &str, role: Role, client: Nonce, server: Nonce) -> bool {
        let Some(proof) = unhex::<MAC>(proof) else {
            return false;
        };
        self.mac(role, client, server).verify_slice(&proof).is_ok()
    }

    fn mac(&self, role: Role, client: Nonce, server: Nonce) -> Hmac<Sha256> {
        // HMAC accepts a key of any length, which the crate's type cannot express.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(match role {
            Role::Client => b"wirebench client",
            Role::Server => b"wirebench server",
        });
        mac.update(&client.0);
        mac.update(&server.0);
        mac
    }
}

impl Nonce {
    /// A new nonce.
    ///
    /// # Errors
    /// When no random numbers can be read.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; NONCE];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The nonce in hexadecimal.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// Parses a nonce in hexadecimal; `None` if it is malformed.
    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nonce(byte: u8) -> Nonce {
        Nonce([byte; NONCE])
    }

    #[test]
    fn a_proof_is_valid_for_its_role_key_and_nonces_only() {
        let key = Key::new(b"0123456789abcdef");
        let proof = key.prove(Role::Client, nonce(1), nonce(2));
        assert!(key.is_proof(&proof, Role::Client, nonce(1), nonce(2)));
        assert!(!key.is_proof(&proof, Role::Server, nonce(1), nonce(2)));
        assert!(!key.is_proof(&proof, Role::Client, nonce(2), nonce(1)));
        let other = Key::new(b"0123456789abcdeg");
        assert!(!other.is_proof(&proof, Role::Client, nonce(1), nonce(2)));
    }

    #[test]
    fn the_authentication_code_equals_that_of_another_implementation() {
        // printf 'wirebench client' plus 32 bytes of 1 and of 2, through Python's hmac.new(b'0123456789abcdef', ..., sha256).
        let key = Key::new(b"0123456789abcdef");
        let proof = key.prove(Role::Client, nonce(1), nonce(2));
        assert_eq!(proof, EXPECTED);
    }

    const EXPECTED: &str = "78622cdfa4d8c374fc086276dff67872adf068ea2c792bec00436651b871bc8e";

    #[test]
    fn a_key_file_is_read_without_its_last_newline_and_a_short_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        assert_eq!(Key::read(&path).unwrap().0, b"0123456789abcdef");
        for bad in [&b"short\n"[..], b"               \n\n\n\n", &[7; 5_000]] {
            std::fs::write(&path, bad).unwrap();
            let error = Key::read(&path).unwrap_err().to_string();
            assert!(error.contains("expected 16 to 4096"), "{error}");
        }
        // A long file is not read to its end.
        std::fs::write(&path, [7; 5_000]).unwrap();
        let error = Key::read(&path).unwrap_err().to_string();
        assert!(error.contains("holds more than 4096 bytes"), "{error}");
        let missing = Key::read(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere"), "{missing}");
    }

    proptest! {
        #[test]
        fn a_nonce_in_hexadecimal_parses_to_itself(bytes: [u8; NONCE]) {
            prop_assert_eq!(Nonce::from_hex(&Nonce(bytes).to_hex()), Some(Nonce(bytes)));
        }

        #[test]
        fn no_text_panics(text in ".{0,70}") {
            let _ = Nonce::from_hex(&text);
            Key::new(b"0123456789abcdef").is_proof(&text, Role::Client, nonce(1), nonce(2));
        }
    }
}
