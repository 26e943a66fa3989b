use super::Row as _;
use super::columns::Row;
use super::*;
use crate::report::record::{Record, Run};
use crate::report::sample;
use proptest::prelude::*;
use std::thread;

const ID: &str = "20261122T140501Z-udp-abc123";

fn record() -> Record {
    sample::record(vec![sample::measured().run])
}

fn table(path: &Path) -> Vec<Vec<String>> {
    let text = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
    let rows = reader(File::open(path).unwrap()).into_byte_records();
    rows.map(|row| row.unwrap().iter().map(text).collect())
        .collect()
}

fn row_cells(record: &Record) -> Vec<String> {
    Row::all(ID, record)[0].cells().collect()
}

fn header_of(width: usize) -> String {
    <Row<'_> as super::Row>::names()
        .take(width)
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn the_header_stands_once_and_each_run_has_a_row() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    let record = record();
    fs::write(&path, "").unwrap();
    for _ in 0..3 {
        append(out.path(), &Row::all(ID, &record)).unwrap();
    }
    let rows = table(&path);
    assert_eq!(rows.len(), 4);
    assert!(rows[0].iter().eq(<Row<'_> as super::Row>::names()));
    assert!(rows[1..].iter().all(|row| *row == row_cells(&record)));

    let mut fresh = Vec::new();
    write_fresh(&mut fresh, &Row::all(ID, &record)).unwrap();
    let whole = fs::read(&path).unwrap();
    assert!(whole.starts_with(&fresh));
}

#[test]
fn newer_columns_are_kept_and_left_empty() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    fs::write(
        &path,
        format!(
            "{},newer\n",
            header_of(<Row<'_> as super::Row>::names().count())
        ),
    )
    .unwrap();
    let record = record();
    append(out.path(), &Row::all(ID, &record)).unwrap();
    let rows = table(&path);
    assert_eq!(rows[0].last().unwrap(), "newer");
    assert_eq!(
        rows[1][..<Row<'_> as super::Row>::names().count()],
        row_cells(&record)
    );
    assert_eq!(rows[1][<Row<'_> as super::Row>::names().count()..], [""]);
}

#[test]
fn what_is_no_ledger_is_left_alone_and_named() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    let record = record();
    let ragged = format!("{}\n1,2,3,4\n", header_of(3));
    let blank = "\n".repeat(100_000);
    let long = "x".repeat(100_000);
    for content in ["a,b\n1,2\n", "id;run\n", "\0\0\0", &ragged, &blank, &long] {
        fs::write(&path, content).unwrap();
        let told = append(out.path(), &Row::all(ID, &record)).unwrap_err();
        assert!(matches!(told, LedgerError::Foreign { .. }), "{told}");
        let told = told.to_string();
        assert!(told.starts_with(&format!("{} is no ledger", path.display())));
        assert!(told.contains("move it away"), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let told = append(out.path(), &Row::all(ID, &record)).unwrap_err();
    assert!(matches!(told, LedgerError::Foreign { .. }), "{told}");
}

#[test]
fn errors_say_what_to_do() {
    let record = record();
    let told = append(Path::new("/nowhere"), &Row::all(ID, &record)).unwrap_err();
    assert_eq!(
        told.to_string(),
        "cannot lock /nowhere: No such file or directory (os error 2); choose another folder with --out or skip saving with --no-save"
    );
}

#[test]
fn rows_of_many_at_once_all_arrive_whole() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    fs::write(&path, format!("{}\n", header_of(5))).unwrap();
    let record = record();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    append(out.path(), &Row::all(ID, &record)).unwrap();
                }
            });
        }
    });
    let rows = table(&path);
    assert_eq!(rows.len(), 41);
    assert!(rows[1..].iter().all(|row| *row == row_cells(&record)));
}

/// Some old rows of `width` cells, and how much of the file's end a crash took.
fn old_rows() -> impl Strategy<Value = (usize, Vec<Vec<String>>)> {
    (2..=<Row<'_> as super::Row>::names().count()).prop_flat_map(|width| {
        let cell = "[a,\"\n\r; é]{0,4}";
        let row = prop::collection::vec(cell, width);
        (Just(width), prop::collection::vec(row, 0..4))
    })
}

fn old_file(width: usize, rows: &[Vec<String>]) -> Vec<u8> {
    let mut file = csv::Writer::from_writer(Vec::new());
    file.write_record(<Row<'_> as super::Row>::names().take(width))
        .unwrap();
    for row in rows {
        file.write_record(row).unwrap();
    }
    file.into_inner().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn old_rows_are_kept_and_padded((width, rows) in old_rows(), reason in ".{0,9}") {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("udp.csv");
        fs::write(&path, old_file(width, &rows)).unwrap();
        let reason = Some(reason);
        let record = sample::record(vec![Run { reason, ..sample::measured().run }]);
        append(out.path(), &Row::all(ID, &record)).unwrap();
        let mut expected = rows;
        expected.iter_mut().for_each(|row| row.resize(<Row<'_> as super::Row>::names().count(), String::new()));
        expected.push(row_cells(&record));
        prop_assert_eq!(&table(&path)[1..], expected);
    }

    #[test]
    fn a_row_cut_off_by_a_crash_takes_no_other_with_it(
        (width, rows) in old_rows(),
        cut in 1usize..40,
    ) {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("udp.csv");
        let header = old_file(width, &[]).len();
        let file = old_file(width, &rows);
        fs::write(&path, &file[..file.len().saturating_sub(cut).max(header)]).unwrap();
        let record = record();
        append(out.path(), &Row::all(ID, &record)).unwrap();
        append(out.path(), &Row::all(ID, &record)).unwrap();
        let table = table(&path);
        prop_assert!(table[0].iter().eq(<Row<'_> as super::Row>::names()));
        let [.., first, second] = &table[..] else { panic!("{table:?}") };
        prop_assert_eq!(first, &row_cells(&record));
        prop_assert_eq!(second, &row_cells(&record));
    }

    #[test]
    fn no_file_panics_or_loses_a_byte(content: Vec<u8>) {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("udp.csv");
        fs::write(&path, &content).unwrap();
        let record = record();
        if append(out.path(), &Row::all(ID, &record)).is_err() {
            prop_assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
}

#[test]
fn a_ledger_that_others_touch_meanwhile_is_looked_at_again() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    let record = record();
    let rows = Row::all(ID, &record);
    let mut ledger = Ledger::new(out.path());
    ledger.append(&rows).unwrap();
    ledger.append(&rows).unwrap();
    // Another command adds a row, and one is cut off by a crash within a quote.
    append(out.path(), &rows).unwrap();
    ledger.append(&rows).unwrap();
    let mut text = fs::read(&path).unwrap();
    text.extend(b"\"cut");
    fs::write(&path, &text).unwrap();
    ledger.append(&rows).unwrap();
    assert_eq!(table(&path).len(), 1 + 4 + 1 + 1);
    assert_eq!(table(&path).last().unwrap(), &row_cells(&record));
    fs::remove_file(&path).unwrap();
    ledger.append(&rows).unwrap();
    assert_eq!(table(&path).len(), 2);
}
