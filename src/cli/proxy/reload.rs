//! Lists and users that are read again while the proxy goes on: at SIGHUP, and with `--watch` when a file of theirs changes.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::blocklist::load::Loaded;
use crate::blocklist::stamp::{FileWatch, Stamps};
use crate::cli::failure::Failure;
use crate::protocol::Credentials;
use crate::proxy::rules::Rules;
use crate::sys::{local, sched_policy};

/// How often files are looked at. One that has not changed between two looks is read.
const LOOK: Duration = Duration::from_secs(1);

/// What is read again.
pub(super) struct Files {
    rules: Arc<Rules>,
    users: Option<Users>,
}

/// `--auth-file`.
struct Users {
    file: PathBuf,
    /// What the file was when it was last read, well or not.
    seen: Mutex<Stamps>,
}

impl Files {
    /// The lists of these rules, and the file that their users are from.
    pub(super) fn new(rules: Arc<Rules>, users: Option<&Path>) -> Arc<Self> {
        let users = users.map(|file| Users {
            file: file.to_owned(),
            seen: Mutex::new(Stamps::of([file])),
        });
        Arc::new(Self { rules, users })
    }

    /// From now on they are read again at each of the `hangups` (SIGHUP), and with `watch` when they change. Where the proxy is
    /// `logged`, SIGHUP may have been meant for that alone.
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
        if self.rules.policies.has_own_addresses() {
            let mut changes = local::Changes::new()?;
            let rules = Arc::clone(&self.rules);
            thread::Builder::new()
                .name("addresses".to_owned())
                .spawn(move || follow_own_addresses(&rules, &mut changes))?;
        }
        Ok(())
    }

    /// Where SIGHUP may have been meant `for_log` alone, it is not said that there is nothing to read.
    fn reload(&self, for_log: bool) {
        let has_lists = !self.rules.policies.current().files().is_empty();
        if has_lists {
            self.reload_lists();
        }
        if let Some(users) = &self.users {
            self.reload_users(users);
        } else if !has_lists && !for_log {
            say("there are no lists to read anew");
        }
    }

    fn watch(&self) {
        let (mut lists, mut auth_file) = (FileWatch::default(), FileWatch::default());
        loop {
            thread::sleep(LOOK);
            if self.rules.policies.look(&mut lists) {
                self.reload_lists();
            }
            if let Some(users) = &self.users {
                let changed = {
                    let seen = users.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    auth_file.look(Stamps::of([users.file.as_path()]), &seen)
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
                    say(&format!("now in force: {file}"));
                    warn_of_skipped(&file);
                }
            }
            Err(error) => {
                let error = error.to_string().replace('\n', "\nbench: ");
                say(&format!("{error}\nbench: the lists before stay in force"));
            }
        }
    }

    /// A user who was removed is refused from the next request on.
    fn reload_users(&self, users: &Users) {
        let mut seen = users.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Stamps::of([users.file.as_path()]);
        let file = users.file.display();
        match (read_users(&users.file), &self.rules.settings.credentials) {
            (Ok(new), Some(credentials)) => {
                say(&format!("now in force: {file}: {} users", new.len()));
                credentials.replace(new);
            }
            (Err(error), _) => {
                say(&format!("{error}\nbench: the users before stay in force"));
            }
            (Ok(_), None) => {}
        }
    }
}

/// Runs `work` for the rest of the program, beside threads that are to answer at once.
fn background(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        if let Err(error) = sched_policy::set_background() {
            say(&format!(
                "lists are read at full priority, which may delay connections: {error}"
            ));
        }
        work();
    })?;
    Ok(())
}

fn follow_own_addresses(rules: &Rules, changes: &mut local::Changes) {
    loop {
        // At first too: they may have changed since the policy was made.
        let followed = rules.policies.refresh_own_addresses();
        if let Err(error) = followed.and_then(|()| changes.wait()) {
            say(&format!(
                "the addresses of this host are not followed any more, only read with the lists: {error}"
            ));
            return;
        }
    }
}

/// The users in a file.
pub(super) fn read_users(file: &Path) -> Result<Credentials, UsersError> {
    let text = fs::read_to_string(file).map_err(|error| {
        UsersError::Unreadable(format!("cannot read {}: {error}", file.display()))
    })?;
    Credentials::parse(&text)
        .map_err(|error| UsersError::Invalid(format!("{}: {error}", file.display())))
}

/// Why a file has no users, in a sentence.
#[derive(Debug)]
pub(super) enum UsersError {
    /// It cannot be read.
    Unreadable(String),
    /// It is not a list of users.
    Invalid(String),
}

impl std::fmt::Display for UsersError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (Self::Unreadable(sentence) | Self::Invalid(sentence)) = self;
        f.write_str(sentence)
    }
}

impl From<UsersError> for Failure {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::Unreadable(sentence) => Self::Undone(sentence),
            UsersError::Invalid(sentence) => Self::Usage(sentence),
        }
    }
}

/// Prints what each list turned out to be.
pub(super) fn print_lists(rules: &Rules, out: &mut impl Write) -> io::Result<()> {
    for file in rules.policies.current().files() {
        writeln!(out, "{file}")?;
    }
    out.flush()
}

/// What may be a slip.
pub(super) fn warn(files: &[Loaded]) {
    for warning in files.iter().flat_map(Loaded::warnings) {
        say(&warning);
    }
}

fn warn_of_skipped(file: &Loaded) {
    if let Some(skipped) = &file.skipped {
        say(&format!("{}: {skipped}", file.file.display()));
    }
}

/// To stderr, which may be closed.
pub(super) fn say(sentence: &str) {
    // In one piece, since other threads write there too.
    let _ = io::stderr().write_all(format!("bench: {sentence}\n").as_bytes());
}
