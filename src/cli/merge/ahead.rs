//! Records are read on a thread of their own while those before them are merged.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

/// Records that are read and not merged yet.
const AHEAD: usize = 4;

/// Reads each file, and passes it on with its number, in order, until `each` fails.
///
/// # Errors
/// Of `each`.
pub(super) fn read<T: Send, E>(
    paths: &[PathBuf],
    read: impl Fn(&Path) -> T + Sync,
    mut each: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let read = &read;
    thread::scope(|scope| {
        let (sender, records) = mpsc::sync_channel(AHEAD);
        let reader = thread::Builder::new().name("read".to_owned());
        let started = reader.spawn_scoped(scope, move || {
            // Fails once `each` has failed.
            let _ = paths.iter().try_for_each(|path| sender.send(read(path)));
        });
        match started {
            Ok(_) => (records.into_iter().enumerate())
                .try_for_each(|(number, record)| each(number, record)),
            // No thread can be started here.
            Err(_) => {
                (paths.iter().enumerate()).try_for_each(|(number, path)| each(number, read(path)))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_order_until_one_fails() {
        let paths: Vec<PathBuf> = (0..50).map(|number| number.to_string().into()).collect();
        let name = |path: &Path| path.display().to_string();
        for last in [0, 30, 49] {
            let mut seen = Vec::new();
            let outcome = read(&paths, name, |number, record| {
                seen.push((number, record));
                if number == last { Err(number) } else { Ok(()) }
            });
            assert_eq!(outcome, Err(last));
            let expected = (0..=last).map(|number| (number, number.to_string()));
            assert!(seen.into_iter().eq(expected));
        }
        let mut count = 0;
        let all = read(&paths, name, |_, _| {
            count += 1;
            Ok::<(), ()>(())
        });
        assert_eq!((all, count), (Ok(()), 50));
    }
}
