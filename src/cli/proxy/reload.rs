//! Lists read anew while the proxy goes on: at SIGHUP, and with `--watch` when a file of theirs changes.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use crate::blocklist::load::Loaded;
use crate::proxy::rules::Rules;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// From now on, lists are read anew at each of the `hangups` (SIGHUP), and with `watch` when a file of theirs changes.
pub(super) fn begin(
    rules: Arc<Rules>,
    watch: bool,
    logged: bool,
    hangups: Receiver<()>,
) -> io::Result<()> {
    let hung_up = Arc::clone(&rules);
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || {
            for () in hangups {
                // With a log, SIGHUP may have been meant for that alone.
                if !logged || !hung_up.policies.current().files().is_empty() {
                    reload(&hung_up);
                }
            }
        })?;
    if watch {
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                loop {
                    thread::sleep(LOOK);
                    if rules.policies.changed() {
                        reload(&rules);
                    }
                }
            })?;
    }
    Ok(())
}

/// An empty list is no error, but it may be a slip.
pub(super) fn say_empty(files: &[Loaded]) {
    for file in files.iter().filter(|file| file.entries == 0) {
        say(&file.to_string());
    }
}

fn reload(rules: &Rules) {
    match rules.policies.reload() {
        Ok(files) if files.is_empty() => say("there are no lists to read anew"),
        Ok(files) => {
            for file in files {
                say(&format!("now in force: {file}"));
            }
        }
        Err(error) => {
            let error = error.to_string().replace('\n', "\nbench: ");
            say(&format!("{error}\nbench: the lists before stay in force"));
        }
    }
}

/// Nobody may be there to read it.
pub(super) fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "bench: {sentence}");
}
