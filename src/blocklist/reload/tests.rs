//! Which lists a reload activates, and which it rejects.

use std::fs;
use std::sync::atomic::AtomicBool;

use super::super::policy::Verdict;
use super::*;

fn policies(content: &str, allow_empty: bool) -> (tempfile::TempDir, PathBuf, Policies) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    fs::write(&file, content).unwrap();
    let policies = Policies::load(Sources {
        block: vec![file.clone()],
        allow_empty,
        ..Sources::default()
    });
    (folder, file, policies.unwrap())
}

fn blocked(policies: &Policies) -> [bool; 2] {
    let policy = policies.current();
    let addresses = ["192.0.2.1:80", "192.0.2.2:80"].map(|text| text.parse().unwrap());
    addresses.map(|address| policy.decide(address, None) != Verdict::Allowed)
}

/// Whether a watch reports a change, after the two polls that it takes.
fn changed(policies: &Policies) -> bool {
    let mut watch = FileWatch::default();
    policies.changed(&mut watch);
    policies.changed(&mut watch)
}

#[test]
fn an_invalid_list_leaves_the_previous_one_active() {
    let (_folder, file, policies) = policies("192.0.2.1\n", false);
    let first = Arc::clone(&policies.current());
    let one = "192.0.2.1:80".parse().unwrap();
    let first_read = policies.reloads().read_at;
    assert_eq!(blocked(&policies), [true, false]);
    assert!(!changed(&policies));

    fs::write(&file, "192.0.2.2\n192.0.2\n").unwrap();
    assert!(changed(&policies));
    let error = policies.reload().unwrap_err();
    assert!(!error.is_refusal());
    let error = error.to_string();
    assert!(
        error.starts_with(&format!("{}:2: ", file.display())),
        "{error}"
    );
    assert_eq!(blocked(&policies), [true, false]);
    assert!(
        !changed(&policies),
        "a broken list is not read over and over"
    );

    fs::write(&file, "192.0.2.2\n").unwrap();
    assert_eq!(policies.reload().unwrap()[0].file.entries, 1);
    assert_eq!(blocked(&policies), [false, true]);

    for broken in [
        "<html>\n<body>404 Not Found</body>\n",
        "\u{1f}gz\0",
        "\0\0\0\0",
    ] {
        fs::write(&file, broken).unwrap();
        assert!(changed(&policies));
        assert!(policies.reload().is_err());
        assert_eq!(blocked(&policies), [false, true]);
    }
    fs::remove_file(&file).unwrap();
    assert!(changed(&policies));
    assert!(policies.reload().is_err());
    assert_eq!(blocked(&policies), [false, true]);
    let reloads = policies.reloads();
    assert_eq!((reloads.ok, reloads.failed, reloads.refused), (1, 5, 0));
    assert!(reloads.read_at > first_read);
    // The first policy still decides for its holder.
    assert_ne!(first.decide(one, None), Verdict::Allowed);
}

#[test]
fn a_list_without_most_of_its_entries_is_rejected() {
    let ten: Vec<_> = (1..=10).map(|low| format!("192.0.2.{low}\n")).collect();
    let (_folder, file, policies) = policies(&ten.concat(), false);
    let refused = |content: &str, words: &str| {
        fs::write(&file, content).unwrap();
        let error = policies.reload().unwrap_err();
        assert!(error.is_refusal());
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(blocked(&policies), [true, true]);
    };
    refused("", "an empty list");
    refused("# all comments\n", "an empty list");
    refused(&ten[..4].concat(), "4 of 10 entries are left");
    fs::write(&file, ten[..5].concat()).unwrap();
    let file = &policies.reload().unwrap()[0];
    assert_eq!((file.file.entries, file.fewer), (5, 5));
    assert!(
        file.to_string().ends_with(", 5 fewer than before"),
        "{file}"
    );
    let reloads = policies.reloads();
    assert_eq!((reloads.ok, reloads.failed, reloads.refused), (1, 0, 3));
}

#[test]
fn with_allow_empty_a_list_may_become_empty() {
    let (_folder, file, policies) = policies("192.0.2.1\n192.0.2.2\n192.0.2.3\n", true);
    fs::write(&file, "192.0.2.2\n").unwrap();
    assert_eq!(policies.reload().unwrap()[0].file.entries, 1);
    fs::write(&file, "").unwrap();
    assert_eq!(policies.reload().unwrap()[0].file.entries, 0);
    assert_eq!(blocked(&policies), [false, false]);
}

#[test]
fn an_empty_list_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    fs::write(&file, "# nothing\n").unwrap();
    for files in [0, 1, 2, 3] {
        let at = |kind| {
            if files == kind {
                vec![file.clone()]
            } else {
                Vec::new()
            }
        };
        let sources = Sources {
            block: at(0),
            block_subdomains: at(1),
            allow: at(2),
            except: at(3),
            ..Sources::default()
        };
        let error = Policies::load(sources.clone()).unwrap_err().to_string();
        assert!(error.contains("--allow-empty"), "{error}");
        let allow_empty = true;
        assert!(
            Policies::load(Sources {
                allow_empty,
                ..sources
            })
            .is_ok()
        );
    }
}

#[test]
fn a_replaced_policy_is_freed_by_the_reloading_thread() {
    let (_folder, file, policies) = policies("192.0.2.1\n", false);
    let old = Arc::downgrade(&policies.current());
    let under_way = policies.current();
    let is_over = AtomicBool::new(false);
    fs::write(&file, "192.0.2.2\n").unwrap();
    thread::scope(|scope| {
        // A decision that lasts until the new policy is active: the reload waits for it.
        scope.spawn(|| {
            let decision = under_way;
            while blocked(&policies) == [true, false] {
                thread::yield_now();
            }
            is_over.store(true, Ordering::Relaxed);
            drop(decision);
        });
        policies.reload().unwrap();
        assert!(is_over.load(Ordering::Relaxed) && old.strong_count() == 0);
    });
}
