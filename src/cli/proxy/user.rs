//! `--user` and its password, from the command line or a file.

use std::fs;

use super::args::{AskedArg, Load};
use crate::cli::failure::Failure;
use crate::protocol::User;

/// As whom the load generator signs in, if it is to.
pub(super) fn of(args: &Load) -> Result<Option<User>, Failure> {
    let Some(name) = &args.user else {
        return Ok(None);
    };
    let has_no_place = |asked: &&AskedArg| matches!(asked, AskedArg::Json | AskedArg::Forward);
    if args.protocol.iter().any(|asked| has_no_place(&asked)) {
        return Err(Failure::usage(
            "neither a JSON request nor a forwarding proxy has a place for --user; choose --protocol socks5 or connect",
        ));
    }
    let password = match (&args.password, &args.password_file) {
        (Some(password), _) => password.clone(),
        (None, Some(file)) => {
            let text = fs::read_to_string(file).map_err(|error| {
                let file = file.display();
                Failure::Undone(format!(
                    "cannot read {file}: {error}; name a readable file with --password-file"
                ))
            })?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        (None, None) => String::new(),
    };
    User::new(name, &password)
        .map(Some)
        .map_err(|error| Failure::Usage(format!("{error}; see --user and --password-file")))
}
