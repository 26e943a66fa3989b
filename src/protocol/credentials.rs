//! Users of the proxy and their passwords, compared in constant time.

use std::fmt;
use std::hint::black_box;

use arc_swap::ArcSwap;
use thiserror::Error;

/// Longest user and longest password, in bytes (RFC 1929, section 2).
pub const MAX_CREDENTIAL: usize = 255;

/// Why a list of users is invalid. Contains no password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// Not `USER:PASSWORD`, or a part of the wrong length.
    #[error("line {0} is not USER:PASSWORD, with 1 to {MAX_CREDENTIAL} bytes each")]
    Line(usize),
    /// A repeated user.
    #[error("line {0} names a user for the second time")]
    Again(usize),
    /// No users.
    #[error("there is no USER:PASSWORD line")]
    Empty,
}

/// Users and their passwords, replaceable while in use.
pub struct Credentials {
    users: ArcSwap<Users>,
}

/// User and password.
type Users = Vec<(Vec<u8>, Vec<u8>)>;

impl Credentials {
    /// Parses one `USER:PASSWORD` a line. A password may contain colons. Blank lines and lines that start with `#` are skipped;
    /// space is significant.
    ///
    /// # Errors
    /// [`CredentialsError`] with the line number.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let mut users = Users::new();
        // Editors may write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, number) in text.lines().zip(1..) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, password) = line.split_once(':').ok_or(CredentialsError::Line(number))?;
            if ![user, password]
                .iter()
                .all(|word| (1..=MAX_CREDENTIAL).contains(&word.len()))
            {
                return Err(CredentialsError::Line(number));
            }
            if users.iter().any(|(other, _)| other == user.as_bytes()) {
                return Err(CredentialsError::Again(number));
            }
            users.push((user.into(), password.into()));
        }
        if users.is_empty() {
            return Err(CredentialsError::Empty);
        }
        Ok(Self {
            users: ArcSwap::from_pointee(users),
        })
    }

    /// Replaces all users, for requests in progress too.
    pub fn replace(&self, new: Self) {
        self.users.store(new.users.into_inner());
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.users.load().len()
    }

    /// Whether there are no users, which [`Self::parse`] rejects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `user` has this `password`. Constant time: every user is compared to the last byte.
    pub fn allow(&self, user: &[u8], password: &[u8]) -> bool {
        let mut found = false;
        for (known, secret) in self.users.load().iter() {
            found |= black_box(same(known, user) & same(secret, password));
        }
        found
    }
}

/// Prints the number only, so that passwords stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Credentials({} users)", self.len())
    }
}

/// Compares in a time that depends on neither argument.
fn same(known: &[u8], given: &[u8]) -> bool {
    let byte = |word: &[u8], at: usize| word.get(at).copied().unwrap_or(0);
    let differ = (0..MAX_CREDENTIAL).fold(0, |differ, at| {
        black_box(differ | (byte(known, at) ^ byte(given, at)))
    });
    (differ == 0) & (known.len() == given.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_password() {
        let users = Credentials::parse("\u{feff}ann:secret\n").unwrap();
        assert!(users.allow(b"ann", b"secret"));
        let users = Credentials::parse("# who may\n\nann:secret\r\nbob:a:b\n").unwrap();
        for (user, password, allowed) in [
            ("ann", "secret", true),
            ("bob", "a:b", true),
            ("ann", "a:b", false),
            ("bob", "secret", false),
            ("ann", "secre", false),
            ("ann", "secret\0", false),
            ("ann\0", "secret", false),
            ("", "", false),
            ("#", "who may", false),
        ] {
            assert_eq!(
                users.allow(user.as_bytes(), password.as_bytes()),
                allowed,
                "{user}:{password}"
            );
        }
    }

    #[test]
    fn invalid_lines_are_reported_by_number() {
        let long = "x".repeat(MAX_CREDENTIAL + 1);
        for (text, error) in [
            ("ann:a\nbob", CredentialsError::Line(2)),
            (":a", CredentialsError::Line(1)),
            ("ann:", CredentialsError::Line(1)),
            (&format!("ann:{long}"), CredentialsError::Line(1)),
            (&format!("{long}:a"), CredentialsError::Line(1)),
            ("ann:a\n\nann:b", CredentialsError::Again(3)),
            ("# nobody", CredentialsError::Empty),
            ("", CredentialsError::Empty),
        ] {
            assert_eq!(Credentials::parse(text).err(), Some(error), "{text}");
        }
    }

    #[test]
    fn the_longest_credentials_are_compared_to_the_end() {
        let word = "x".repeat(MAX_CREDENTIAL);
        let users = Credentials::parse(&format!("{word}:{word}")).unwrap();
        assert!(users.allow(word.as_bytes(), word.as_bytes()));
        let other = format!("{}y", &word[1..]);
        assert!(!users.allow(word.as_bytes(), other.as_bytes()));
        assert!(!users.allow(other.as_bytes(), word.as_bytes()));
        assert!(!users.allow(word.as_bytes(), format!("{word}x").as_bytes()));
    }

    #[test]
    fn users_can_be_replaced() {
        let users = Credentials::parse("ann:1\nbob:2").unwrap();
        users.replace(Credentials::parse("ann:3").unwrap());
        let allows = |user: &str, password: &str| users.allow(user.as_bytes(), password.as_bytes());
        assert!(allows("ann", "3") && !allows("ann", "1") && !allows("bob", "2"));
        assert_eq!(users.len(), 1);
    }

    #[test]
    fn the_debug_form_has_no_password() {
        let users = Credentials::parse("ann:secret").unwrap();
        assert_eq!(format!("{users:?}"), "Credentials(1 users)");
    }
}
