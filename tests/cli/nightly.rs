//! `tools/nightly`: a page of saved measurements, with the trend and where it changed.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn nightly_page_names_the_change_of_an_artificial_week() {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").exists() {
        eprintln!("skipped: the package has no tools");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let week = folder.path().join("week");
    let script = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tools/nightly")
            .join(name);
        let mut command = Command::new(path);
        command
            .env("BENCH", env!("CARGO_BIN_EXE_bench"))
            .env("RESULTS", &week)
            .env("RATES", "20M 20M 20M 20M 10M 10M 10M")
            .env("DURATION", "50ms");
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    script("artificial_week.sh");
    let printed = script("page.sh");
    let page = fs::read_to_string(printed.trim_end()).unwrap();
    assert!(
        page.contains("Goodput changed between 2026-01-04 02:10 and 2026-01-05 02:10 UTC: "),
        "{}",
        page.split("<figure>").next().unwrap()
    );
    assert!(page.contains("<h3>Goodput of each record</h3>"));
    // Seven nights, and three comparisons with the first: those of the other rate share no setting with it.
    assert_eq!(page.matches("<section ").count(), 1 + 7 + 3);
}
