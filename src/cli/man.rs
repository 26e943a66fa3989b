//! `bench man`: the manual, a page for each command.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};

use super::args::Bench;
use super::error::CliError;
use crate::report::store::atomic_file::AtomicFile;

/// Printed at the end of each page.
const EXIT_STATUS: &str = r#".SH "EXIT STATUS"
.TP
0
Done, also if a signal ended the run.
.TP
1
A check failed.
.TP
2
The command line is invalid.
.TP
3
The run could not be done, or not to its end.
"#;

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Folder for the pages, created if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(args: &Man) -> Result<(), CliError> {
    let folder = &args.folder;
    fs::create_dir_all(folder).map_err(|error| {
        CliError::Runtime(format!("cannot create {}: {error}", folder.display()))
    })?;
    let mut out = io::stdout().lock();
    for page in pages() {
        let path = folder.join(&page.name);
        write(&page, &path).map_err(CliError::runtime)?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(out.flush()?)
}

fn write(page: &Page, path: &Path) -> io::Result<()> {
    let mut file = AtomicFile::create(path).map_err(io::Error::other)?;
    file.write_all(page.content.as_bytes())?;
    file.finish().map_err(io::Error::other)
}

/// A page in roff, and its file name.
struct Page {
    name: String,
    content: String,
}

fn pages() -> Vec<Page> {
    // `bench help` has no page.
    let mut bench = Bench::command().disable_help_subcommand(true);
    bench.build();
    let mut pages = Vec::new();
    add(&bench, &mut pages);
    pages
}

/// Adds the page of `command`, then those of its subcommands.
fn add(command: &Command, pages: &mut Vec<Page>) {
    let page = clap_mangen::Man::new(command.clone());
    let mut rendered = Vec::new();
    // A write to memory does not fail.
    let _ = page.render(&mut rendered);
    let content = edited(&String::from_utf8_lossy(&rendered));
    pages.push(Page {
        name: page.get_filename(),
        content: content + EXIT_STATUS,
    });
    for subcommand in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        add(subcommand, pages);
    }
}

/// Replaces clap_mangen's title, which omits an empty date and thereby shifts the fields behind it, and its name of the
/// section for notes.
fn edited(page: &str) -> String {
    let lines = page.lines().map(|line| match line.strip_prefix(".TH ") {
        Some(title) => {
            let name = title.split(' ').next().unwrap_or_default();
            let version = env!("CARGO_PKG_VERSION");
            format!(".TH {name} 1 \"\" \"wirebench {version}\" \"User Commands\"\n")
        }
        None if line == ".SH EXTRA" => ".SH NOTES\n".to_owned(),
        None => format!("{line}\n"),
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_visible_command_has_a_page() {
        let names: Vec<_> = pages().into_iter().map(|page| page.name).collect();
        let expected = [
            "bench.1",
            "bench-udp.1",
            "bench-udp-search.1",
            "bench-serve.1",
            "bench-proxy.1",
            "bench-proxy-serve.1",
            "bench-proxy-origin.1",
            "bench-proxy-load.1",
            "bench-proxy-send.1",
            "bench-blocklist.1",
            "bench-blocklist-check.1",
            "bench-compare.1",
            "bench-merge.1",
            "bench-report.1",
            "bench-doctor.1",
            "bench-completions.1",
            "bench-man.1",
        ];
        assert_eq!(names, expected);
    }
}
