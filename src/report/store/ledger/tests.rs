use super::*;
use crate::report::export::csv::Csv;
use crate::report::export::{Document, Exporter};
use crate::report::model::UdpRecord;
use crate::report::sample::udp as sample;
use crate::udp::result::Run;
use proptest::prelude::*;
use std::thread;

const ID: &str = "20261122T140501Z-udp-abc123";

fn full_record() -> UdpRecord {
    sample::record(vec![sample::measured().run])
}

fn table(path: &Path) -> Vec<Vec<String>> {
    let text = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
    let rows = reader(File::open(path).unwrap()).into_byte_records();
    rows.map(|row| row.unwrap().iter().map(text).collect())
        .collect()
}

fn row(record: &UdpRecord) -> LedgerRow<'_, Run> {
    LedgerRow::last(ID, &record.meta, &record.runs).unwrap()
}

fn row_cells(record: &UdpRecord) -> Vec<String> {
    row(record).cells().map(|cell| cell.to_string()).collect()
}

fn names() -> impl Iterator<Item = &'static str> {
    LedgerRow::<Run>::names()
}

fn append(out_dir: &Path, record: &UdpRecord) -> Result<(), LedgerError> {
    Ledger::new(out_dir).append(&row(record))
}

fn header_of(width: usize) -> String {
    names().take(width).collect::<Vec<_>>().join(",")
}

#[test]
fn ledger_has_one_header_and_a_row_per_run() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    let record = full_record();
    fs::write(&path, "").unwrap();
    for _ in 0..3 {
        append(out.path(), &record).unwrap();
    }
    let rows = table(&path);
    assert_eq!(rows.len(), 4);
    assert!(rows[0].iter().eq(names()));
    assert!(rows[1..].iter().all(|row| *row == row_cells(&record)));

    let mut fresh = Vec::new();
    let document = Document::UdpRuns {
        id: ID,
        record: &record,
    };
    Csv.write(&document, &mut fresh).unwrap();
    let whole = fs::read(&path).unwrap();
    assert!(whole.starts_with(&fresh));
}

#[test]
fn unknown_newer_columns_stay_and_are_empty() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    fs::write(&path, format!("{},newer\n", header_of(names().count()))).unwrap();
    let record = full_record();
    append(out.path(), &record).unwrap();
    let rows = table(&path);
    assert_eq!(rows[0].last().unwrap(), "newer");
    assert_eq!(rows[1][..names().count()], row_cells(&record));
    assert_eq!(rows[1][names().count()..], [""]);
}

#[test]
fn foreign_file_is_unchanged_and_named() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    let record = full_record();
    let ragged = format!("{}\n1,2,3,4\n", header_of(3));
    let blank = "\n".repeat(100_000);
    let long = "x".repeat(100_000);
    for content in ["a,b\n1,2\n", "id;run\n", "\0\0\0", &ragged, &blank, &long] {
        fs::write(&path, content).unwrap();
        let error = append(out.path(), &record).unwrap_err();
        assert!(matches!(error, LedgerError::Foreign { .. }), "{error}");
        let error = error.to_string();
        assert!(error.starts_with(&format!("{} is not a ledger", path.display())));
        assert!(error.contains("move it away"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = append(out.path(), &record).unwrap_err();
    assert!(matches!(error, LedgerError::Foreign { .. }), "{error}");
}

#[test]
fn errors_have_advice() {
    let record = full_record();
    let error = append(Path::new("/nowhere"), &record).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot lock /nowhere: No such file or directory (os error 2); choose another folder with --out or skip saving with --no-save"
    );
}

#[test]
fn concurrent_rows_are_complete() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    fs::write(&path, format!("{}\n", header_of(5))).unwrap();
    let record = full_record();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    append(out.path(), &record).unwrap();
                }
            });
        }
    });
    let rows = table(&path);
    assert_eq!(rows.len(), 41);
    assert!(rows[1..].iter().all(|row| *row == row_cells(&record)));
}

/// Old rows of `width` cells.
fn old_rows() -> impl Strategy<Value = (usize, Vec<Vec<String>>)> {
    (2..=names().count()).prop_flat_map(|width| {
        let cell = "[a,\"\n\r; é]{0,4}";
        let row = prop::collection::vec(cell, width);
        (Just(width), prop::collection::vec(row, 0..4))
    })
}

fn old_file(width: usize, rows: &[Vec<String>]) -> Vec<u8> {
    let mut file = csv::Writer::from_writer(Vec::new());
    file.write_record(names().take(width)).unwrap();
    for row in rows {
        file.write_record(row).unwrap();
    }
    file.into_inner().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn old_rows_are_padded((width, rows) in old_rows(), reason in ".{0,9}") {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("udp.csv");
        fs::write(&path, old_file(width, &rows)).unwrap();
        let reason = Some(reason);
        let record = sample::record(vec![Run { reason, ..sample::measured().run }]);
        append(out.path(), &record).unwrap();
        let mut expected = rows;
        expected.iter_mut().for_each(|row| row.resize(names().count(), String::new()));
        expected.push(row_cells(&record));
        prop_assert_eq!(&table(&path)[1..], expected);
    }

    #[test]
    fn row_cut_off_by_a_crash_damages_no_other_row(
        (width, rows) in old_rows(),
        cut in 1usize..40,
    ) {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("udp.csv");
        let header = old_file(width, &[]).len();
        let file = old_file(width, &rows);
        fs::write(&path, &file[..file.len().saturating_sub(cut).max(header)]).unwrap();
        let record = full_record();
        append(out.path(), &record).unwrap();
        append(out.path(), &record).unwrap();
        let table = table(&path);
        prop_assert!(table[0].iter().eq(names()));
        let [.., first, second] = &table[..] else { panic!("{table:?}") };
        prop_assert_eq!(first, &row_cells(&record));
        prop_assert_eq!(second, &row_cells(&record));
    }

    #[test]
    fn any_file_survives_an_error(content: Vec<u8>) {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("udp.csv");
        fs::write(&path, &content).unwrap();
        let record = full_record();
        if append(out.path(), &record).is_err() {
            prop_assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
}

#[test]
fn ledger_changed_by_another_process_is_read_again() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("udp.csv");
    let record = full_record();
    let mut ledger = Ledger::new(out.path());
    ledger.append(&row(&record)).unwrap();
    ledger.append(&row(&record)).unwrap();
    // Another command adds a row, and one is cut off by a crash within a quote.
    append(out.path(), &record).unwrap();
    ledger.append(&row(&record)).unwrap();
    let mut text = fs::read(&path).unwrap();
    text.extend(b"\"cut");
    fs::write(&path, &text).unwrap();
    ledger.append(&row(&record)).unwrap();
    assert_eq!(table(&path).len(), 1 + 4 + 1 + 1);
    assert_eq!(table(&path).last().unwrap(), &row_cells(&record));
    fs::remove_file(&path).unwrap();
    ledger.append(&row(&record)).unwrap();
    assert_eq!(table(&path).len(), 2);
}
