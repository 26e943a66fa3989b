//! Who may use the proxy: users and passwords, compared without telling by the time it takes how much was right.

use std::fmt;
use std::hint::black_box;

use arc_swap::ArcSwap;
use thiserror::Error;

/// Most bytes of a user and of a password (RFC 1929, section 2).
pub const MAX_CREDENTIAL: usize = 255;

/// Why a text is no list of users. Never says a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// No colon, or nothing before it or after it, or more than [`MAX_CREDENTIAL`] bytes of either.
    #[error("line {0} is not USER:PASSWORD, with 1 to {MAX_CREDENTIAL} bytes each")]
    Line(usize),
    /// A user that an earlier line has.
    #[error("line {0} names a user for the second time")]
    Again(usize),
    /// Nobody could use the proxy.
    #[error("there is no USER:PASSWORD line")]
    Empty,
}

/// Users and their passwords. They can be replaced while others look them up.
pub struct Credentials {
    users: ArcSwap<Users>,
}

/// Each with the password.
type Users = Vec<(Vec<u8>, Vec<u8>)>;

impl Credentials {
    /// Reads a list of users: a line `USER:PASSWORD` each. A user has no colon, a password may; blank lines and
    /// lines that start with `#` are left out, and space counts.
    ///
    /// # Errors
    /// [`CredentialsError`], with the number of the line.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let mut users = Users::new();
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

    /// From now on these are the users. One who is not among them is unknown, also in the middle of a request.
    pub fn replace(&self, new: Self) {
        self.users.store(new.users.into_inner());
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.load().len()
    }

    /// Whether there are none, which [`Self::parse`] refuses.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `user` has this `password`. Takes as long for any answer: every user is compared, to the last byte.
    pub fn allow(&self, user: &[u8], password: &[u8]) -> bool {
        let mut found = false;
        for (known, secret) in self.users.load().iter() {
            found |= black_box(same(known, user) & same(secret, password));
        }
        found
    }
}

/// Only how many: passwords stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Credentials({} users)", self.len())
    }
}

/// Whether two words are the same, in a time that depends on neither.
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
    fn bad_lines_are_told_by_number() {
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
    fn the_longest_words_are_compared_to_the_end() {
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
    fn no_password_is_in_the_debug_form() {
        let users = Credentials::parse("ann:secret").unwrap();
        assert_eq!(format!("{users:?}"), "Credentials(1 users)");
    }
}
