//! Reloads lists and users of a running proxy: at SIGHUP, and with `--watch` when a file changes.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::blocklist::file_state::{FileStates, FileWatch};
use crate::blocklist::load::LoadedFile;
use crate::cli::error::{CliError, print_line};
use crate::protocol::Credentials;
use crate::proxy::rules::Rules;
use crate::sys::{local, reopen, sched_policy};

/// Interval of checks for changed files. A file is read once it is unchanged between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The reloadable files.
pub(super) struct Files {
    rules: Arc<Rules>,
    users: Option<Users>,
}

/// `--auth-file`.
struct Users {
    file: PathBuf,
    /// State of the file at the last read, successful or not.
    seen: Mutex<FileStates>,
}

impl Files {
    /// The lists of these rules and the file of their users.
    pub(super) fn new(rules: Arc<Rules>, users: Option<&Path>) -> Arc<Self> {
        let users = users.map(|file| Users {
            file: file.to_owned(),
            seen: Mutex::new(FileStates::of([file])),
        });
        Arc::new(Self { rules, users })
    }

    /// Reloads at each of `hangups` (SIGHUP) and, with `watch`, at changes. With `logged`, SIGHUP may be meant for the log only.
    pub(super) fn follow(
        self: Arc<Self>,
        watch: bool,
        logged: bool,
        hangups: Receiver<()>,
    ) -> io::Result<()> {
        let files = Arc::clone(&self);
        background("reload", move || {
            for () in hangups {
                files.reload(logged);
            }
        })?;
        if watch {
            let files = Arc::clone(&self);
            background("watch", move || files.watch())?;
        }
        if self.rules.policies.uses_local_addresses() {
            let mut changes = local::Changes::new()?;
            let rules = Arc::clone(&self.rules);
            thread::Builder::new()
                .name("addresses".to_owned())
                .spawn(move || follow_local_addresses(&rules, &mut changes))?;
        }
        Ok(())
    }

    /// With `for_log`, a SIGHUP without lists and users to reload is not reported.
    fn reload(&self, for_log: bool) {
        let has_lists = !self.rules.policies.current().files().is_empty();
        if has_lists {
            self.reload_lists();
        }
        if let Some(users) = &self.users {
            self.reload_users(users);
        } else if !has_lists && !for_log {
            print_line("no lists to reload");
        }
    }

    fn watch(&self) {
        let (mut lists, mut auth_file) = (FileWatch::default(), FileWatch::default());
        loop {
            thread::sleep(CHECK_INTERVAL);
            if self.rules.policies.changed(&mut lists) {
                self.reload_lists();
            }
            if let Some(users) = &self.users {
                let changed = {
                    let seen = users.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    auth_file.changed(FileStates::of([users.file.as_path()]), &seen)
                };
                if changed {
                    self.reload_users(users);
                }
            }
        }
    }

    fn reload_lists(&self) {
        match self.rules.policies.reload() {
            Ok(files) => {
                for file in files {
                    print_line(&format!("reloaded {file}"));
                    warn_of_skipped(&file.file);
                }
            }
            Err(error) => {
                let error = error.to_string().replace('\n', "\nbench: ");
                print_line(&format!("{error}\nbench: the previous lists stay active"));
            }
        }
    }

    /// A removed user is refused from the next request on.
    fn reload_users(&self, users: &Users) {
        let mut seen = users.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = FileStates::of([users.file.as_path()]);
        let file = users.file.display();
        match (
            parse_users(&users.file, reopen::text(&users.file)),
            &self.rules.settings.credentials,
        ) {
            (Ok(new), Some(credentials)) => {
                print_line(&format!("reloaded {file}: {} users", new.len()));
                credentials.replace(new);
            }
            (Err(error), _) => {
                print_line(&format!("{error}\nbench: the previous users stay active"));
            }
            (Ok(_), None) => {}
        }
    }
}

/// Runs `work` on a low-priority thread, so that it does not delay connections.
fn background(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        if let Err(error) = sched_policy::set_background() {
            print_line(&format!(
                "lists are read at full priority, which may delay connections: {error}"
            ));
        }
        work();
    })?;
    Ok(())
}

fn follow_local_addresses(rules: &Rules, changes: &mut local::Changes) {
    loop {
        // Also at the start: addresses may have changed since the policy was loaded.
        let followed = rules.policies.refresh_local_addresses();
        if let Err(error) = followed.and_then(|()| changes.wait()) {
            print_line(&format!(
                "the addresses of this host are no longer followed; they are read with the lists only: {error}"
            ));
            return;
        }
    }
}

/// Reads a file of users.
pub(super) fn read_users(file: &Path) -> Result<Credentials, UsersError> {
    parse_users(file, fs::read_to_string(file))
}

fn parse_users(file: &Path, text: io::Result<String>) -> Result<Credentials, UsersError> {
    let text = text.map_err(|error| {
        UsersError::Unreadable(format!("cannot read {}: {error}", file.display()))
    })?;
    Credentials::parse(&text)
        .map_err(|error| UsersError::Invalid(format!("{}: {error}", file.display())))
}

/// Why a file of users is rejected.
#[derive(Debug)]
pub(super) enum UsersError {
    /// The file cannot be read.
    Unreadable(String),
    /// The file is not a list of users.
    Invalid(String),
}

impl std::fmt::Display for UsersError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (Self::Unreadable(sentence) | Self::Invalid(sentence)) = self;
        f.write_str(sentence)
    }
}

impl From<UsersError> for CliError {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::Unreadable(sentence) => Self::Runtime(sentence),
            UsersError::Invalid(sentence) => Self::Usage(sentence),
        }
    }
}

/// Prints the summary of each list.
pub(super) fn print_lists(rules: &Rules, out: &mut impl Write) -> io::Result<()> {
    for file in rules.policies.current().files() {
        writeln!(out, "{file}")?;
    }
    out.flush()
}

/// Prints warnings about lists.
pub(super) fn warn(files: &[LoadedFile]) {
    for warning in files.iter().flat_map(LoadedFile::warnings) {
        print_line(&warning);
    }
}

fn warn_of_skipped(file: &LoadedFile) {
    if let Some(skipped) = &file.skipped {
        print_line(&format!("{}: {skipped}", file.file.display()));
    }
}
