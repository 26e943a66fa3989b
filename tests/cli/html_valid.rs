//! Every kind of page and picture is valid, by the Nu Html Checker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::{Results, Serve, bench};

/// The checker's archive: of `$VNU_JAR`, or as installed by `.ci/run`.
fn checker() -> Result<PathBuf, &'static str> {
    let mut java = Command::new("java");
    java.arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !java.status().is_ok_and(|status| status.success()) {
        return Err("java is not installed");
    }
    let installed = "target/validator/node_modules/vnu-jar/build/dist/vnu.jar";
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(installed);
    let path = std::env::var_os("VNU_JAR").map_or(installed, PathBuf::from);
    match path.is_file() {
        true => Ok(path),
        false => Err(
            "the Nu Html Checker is not installed: npm install --prefix target/validator vnu-jar",
        ),
    }
}

/// Measures with these options, and returns the folder.
fn saved(options: &str) -> (Results, PathBuf) {
    let results = Results::new();
    let out = results.arg();
    let args = options.split(' ').chain(["--quiet", "--out", &out]);
    bench(args).done();
    let folder = results.only();
    (results, folder)
}

/// Makes every run of the record in `folder` incomplete, without a figure that can be unknown.
fn forget(folder: &Path) {
    let path = folder.join("run.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for run in record["runs"].as_array_mut().unwrap() {
        for key in [
            "kb_per_s",
            "seconds",
            "latency_ns",
            "jitter_ns",
            "latency_from_intended_ns",
        ] {
            run[key] = Value::Null;
        }
        (run["complete"], run["intervals"]) = (json!(false), json!([]));
        run["reason"] = json!("the <receiver> & \"its\" host went away");
        run["warnings"] = json!(["a 'warning' <b>"]);
    }
    fs::write(&path, record.to_string()).unwrap();
}

const PROXY: &str =
    "proxy --scenario connect,bulk,blocked --duration 50ms --warmup 5ms --connections 2";

#[test]
fn every_kind_of_page_and_picture_is_valid() {
    let checker = match checker() {
        Ok(path) => path,
        Err(reason) => {
            println!("skipped every_kind_of_page_and_picture_is_valid: {reason}");
            return;
        }
    };
    let server = Serve::start(&[]);
    let both = format!("udp --to {} --bidir --packets 300", server.address);
    let many = "udp --packets 300 --repeat 2 --warmup 1ms --batch 1,2,3,4,5,6,7,8,9,10 --cpus free";
    let paced = "udp --pps 2000 --duration 300ms --interval 50ms";
    let settings = "udp --duration 100ms --interval 20ms --warmup 1ms --batch 16,64 --repeat 6";
    let kinds = [
        saved("udp --packets 300"),
        saved(paced),
        saved("udp --packets 300 --repeat 3"),
        saved(&both),
        saved("udp --packets 300"),
        saved(settings),
        saved(many),
        saved(&format!("{PROXY} --repeat 1")),
        saved(&format!("{PROXY} --repeat 2 --forwarding copy,splice")),
    ];
    let folders: Vec<&str> = kinds.iter().map(|(_, of)| of.to_str().unwrap()).collect();
    forget(Path::new(folders[4]));

    let pages = tempfile::tempdir().unwrap();
    let (one_by_one, two): (Vec<_>, [Vec<&str>; 3]) = (
        folders.iter().map(|folder| vec![*folder]).collect(),
        [
            vec![folders[5], folders[5]],
            vec![folders[8], folders[8]],
            folders.clone(),
        ],
    );
    for (number, paths) in one_by_one.into_iter().chain(two).enumerate() {
        let file = |end: &str| pages.path().join(format!("{number}.{end}"));
        let (html, svg) = (file("html"), file("svg"));
        let outputs = [
            "--html",
            html.to_str().unwrap(),
            "--svg",
            svg.to_str().unwrap(),
        ];
        bench(["report"].iter().chain(&paths).chain(&outputs)).done();
    }
    let found = Command::new("java")
        .arg("-jar")
        .arg(checker)
        .args(["--Werror", "--also-check-svg", "--stdout"])
        .arg(pages.path())
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&found.stdout);
    assert!(
        found.status.success(),
        "{messages}\n{}",
        String::from_utf8_lossy(&found.stderr)
    );
}
