//! The user and password of the load generator, from options or a file.

use std::fs;

use super::args::{Load, RequestProtocolArg};
use crate::cli::error::CliError;
use crate::protocol::User;

/// The user to sign in as, if any.
pub(super) fn user(args: &Load) -> Result<Option<User>, CliError> {
    let Some(name) = &args.user else {
        return Ok(None);
    };
    let cannot_sign_in = |asked: &&RequestProtocolArg| {
        matches!(
            asked,
            RequestProtocolArg::Json | RequestProtocolArg::Forward
        )
    };
    if args.protocols().iter().any(|asked| cannot_sign_in(&asked)) {
        return Err(CliError::usage(
            "--user cannot be sent with a JSON request or to a forwarding proxy; choose --protocol socks5 or connect",
        ));
    }
    let password = match (&args.password, &args.password_file) {
        (Some(password), _) => password.clone(),
        (None, Some(file)) => {
            let text = fs::read_to_string(file).map_err(|error| {
                let file = file.display();
                CliError::Runtime(format!(
                    "cannot read {file}: {error}; name a readable file with --password-file"
                ))
            })?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        (None, None) => String::new(),
    };
    User::new(name, &password)
        .map(Some)
        .map_err(|error| CliError::Usage(format!("{error}; see --user and --password-file")))
}
