//! Readers of our formats that others wrote: python's packages, in a virtual environment of the tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The packages, whose versions are fixed so that a new one changes no test.
const PACKAGES: [&str; 3] = [
    "hdrhistogram==0.10.8",
    "prometheus_client==0.26.0",
    "jsonschema==4.26.0",
];

/// Runs a script of `tests/formats`, and returns the JSON that it prints. `None` if python or its packages cannot be had, which is
/// printed.
#[track_caller]
pub(crate) fn read(script: &str, args: &[&str]) -> Option<Value> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = match PYTHON.get_or_init(environment) {
        Ok(python) => python,
        Err(why) => {
            eprintln!("skipped: {script}: {why}");
            return None;
        }
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/formats")
        .join(script);
    let output = Command::new(python)
        .arg(script)
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// What python prints that runs this text. `None` if there is no python, which is printed.
#[track_caller]
pub(crate) fn printed(text: &str) -> Option<String> {
    match Command::new("python3").args(["-c", text]).output() {
        Ok(output) => {
            let printed = [output.stdout, output.stderr].concat();
            Some(String::from_utf8(printed).unwrap())
        }
        Err(why) => {
            println!("skipped: python3: {why}");
            None
        }
    }
}

/// The python of the environment, which is made once for all test programs.
fn environment() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = folder.join("bin/python");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let complete = folder.join(".complete");
    let wanted = PACKAGES.join(" ");
    if fs::read_to_string(&complete).is_ok_and(|has| has == wanted) {
        return Ok(python);
    }
    let run = |program: &Path, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .output()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{} {}: {}",
                program.display(),
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim_end()
            )),
        }
    };
    let folder = folder.to_str().unwrap();
    run(Path::new("python3"), &["-m", "venv", folder])?;
    let mut install = "-m pip install --quiet --disable-pip-version-check --timeout 15 --retries 1"
        .split(' ')
        .collect::<Vec<_>>();
    install.extend(PACKAGES);
    run(&python, &install)?;
    fs::write(complete, wanted).unwrap();
    Ok(python)
}
