//! A user and password that a client signs in with.

use std::fmt;

use thiserror::Error;

use super::credentials::MAX_CREDENTIAL;

/// Why a user is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UserError {
    /// SOCKS5 or Basic authentication cannot carry the name.
    #[error("a user has 1 to {MAX_CREDENTIAL} bytes and no colon")]
    Name,
    /// SOCKS5 cannot carry the password.
    #[error("a password has 1 to {MAX_CREDENTIAL} bytes")]
    Password,
}

/// A user and password that both SOCKS5 (RFC 1929, section 2) and Basic authentication (RFC 7617, section 2) can carry.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    name: String,
    password: String,
}

impl User {
    /// A user with this name and password.
    ///
    /// # Errors
    /// [`UserError`], which contains no password.
    pub fn new(name: &str, password: &str) -> Result<Self, UserError> {
        let fits = |word: &str| (1..=MAX_CREDENTIAL).contains(&word.len());
        if !fits(name) || name.contains(':') {
            return Err(UserError::Name);
        }
        if !fits(password) {
            return Err(UserError::Password);
        }
        Ok(Self {
            name: name.to_owned(),
            password: password.to_owned(),
        })
    }

    /// The name and the password.
    pub fn pair(&self) -> (&str, &str) {
        (&self.name, &self.password)
    }
}

/// Without the password, which stays out of logs.
impl fmt::Debug for User {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "User({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_must_fit_both_protocols() {
        let long = "x".repeat(MAX_CREDENTIAL);
        for (name, password, error) in [
            ("ann", "a:b ü", None),
            (&long, &long, None),
            ("", "a", Some(UserError::Name)),
            ("a:b", "a", Some(UserError::Name)),
            (&format!("{long}x"), "a", Some(UserError::Name)),
            ("ann", "", Some(UserError::Password)),
            ("ann", &format!("{long}x"), Some(UserError::Password)),
        ] {
            assert_eq!(User::new(name, password).err(), error, "{name}");
        }
        let user = User::new("ann", "secret").unwrap();
        assert_eq!(user.pair(), ("ann", "secret"));
        assert_eq!(format!("{user:?}"), "User(ann)");
    }
}
