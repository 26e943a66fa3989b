use super::*;

/// A hub with an artificial clock.
struct Lab {
    hub: Hub,
    start: Instant,
    ms: u64,
    /// Whether ranks keep their results.
    keeps: bool,
    /// The fleet of ranks that join.
    fleet: String,
}

impl Lab {
    fn new() -> Self {
        Self {
            hub: Hub::default(),
            start: Instant::now(),
            ms: 0,
            keeps: false,
            fleet: "job".into(),
        }
    }

    fn now(&self) -> Now {
        Now {
            instant: self.start + Duration::from_millis(self.ms),
            ns: self.ms * 1_000_000,
        }
    }

    /// Time passes. The ranks of these connections send messages meanwhile.
    fn pass(&mut self, ms: u64, alive: &[usize]) {
        for _ in 0..ms / 100 {
            self.ms += 100;
            for connection in alive {
                self.hub
                    .on_request(*connection, FleetRequest::Alive, self.now())
                    .unwrap();
            }
            self.hub.tick(self.now());
        }
    }

    fn join(&mut self, rank: u32, size: u32) -> Result<(), String> {
        self.join_as(rank as usize, rank, size, rank != 0)
    }

    fn join_as(
        &mut self,
        connection: usize,
        rank: u32,
        size: u32,
        sends: bool,
    ) -> Result<(), String> {
        let join = FleetJoin {
            version: 3,
            fleet: self.fleet.clone(),
            rank,
            size,
            sends,
            host: "host".into(),
            options: "same".into(),
            wait_ms: 1_000,
            keeps: self.keeps,
        };
        self.hub.join(connection, join, self.now())
    }

    fn ask(&mut self, connection: usize, request: FleetRequest) -> Result<(), String> {
        self.hub.on_request(connection, request, self.now())
    }

    fn ready(&mut self, connection: usize, run: u32) {
        self.ask(connection, FleetRequest::Ready { run }).unwrap();
    }

    fn result(&mut self, connection: usize, run: u32, text: &str) {
        let part = text.to_owned();
        let request = FleetRequest::Result {
            run,
            part,
            last: true,
        };
        self.ask(connection, request).unwrap();
    }

    /// All messages for a connection, in short.
    fn replies(&mut self, connection: usize) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(reply) = self.hub.next_reply(connection) {
            all.push(match reply {
                FleetReply::Roster {
                    collector, senders, ..
                } => format!("roster {collector} {senders}"),
                FleetReply::Clock { sent_ns, at_ns, .. } => format!("clock {sent_ns} at {at_ns}"),
                FleetReply::Start { run, at_ns } => format!("start {run} at {}", at_ns / 1_000_000),
                FleetReply::Result {
                    run, rank, part, ..
                } => format!("result {run} of {rank}: {part}"),
                FleetReply::Missing { run, rank, reason } => format!("{run}: rank {rank} {reason}"),
                FleetReply::End { run } => format!("end {run}"),
                FleetReply::Saved { run } => format!("saved {run}"),
                FleetReply::Unsaved { reason } => format!("unsaved: rank 0 {reason}"),
            });
        }
        all
    }
}

#[test]
fn complete_fleet_starts_at_once_and_its_results_reach_rank_0() {
    let mut lab = Lab::new();
    for rank in [2, 0, 1] {
        assert!(lab.replies(2).is_empty());
        lab.join(rank, 3).unwrap();
    }
    for connection in 0..3 {
        assert_eq!(lab.replies(connection), ["roster 0 2"]);
    }
    lab.ready(1, 0);
    assert!(lab.replies(1).is_empty());
    lab.pass(300, &[]);
    lab.ready(2, 0);
    for connection in 0..3 {
        assert_eq!(lab.replies(connection), ["start 0 at 550"]);
    }
    lab.result(2, 0, "two");
    lab.ready(2, 1);
    lab.result(1, 0, "one");
    assert_eq!(
        lab.replies(0),
        ["result 0 of 2: two", "result 0 of 1: one", "end 0"]
    );
    assert!(lab.replies(2).is_empty());
    lab.ready(1, 1);
    assert_eq!(lab.replies(2), ["start 1 at 550"]);
}

#[test]
fn ranks_that_keep_their_results_know_whether_these_are_saved() {
    let mut lab = Lab::new();
    lab.keeps = true;
    (0..3).for_each(|rank| lab.join(rank, 3).unwrap());
    for run in 0..2 {
        lab.ready(1, run);
        lab.ready(2, run);
        (0..3).for_each(|connection| drop(lab.replies(connection)));
        lab.result(1, run, "one");
        lab.result(2, run, "two");
        assert!(lab.replies(1).is_empty());
        if run == 0 {
            lab.ask(0, FleetRequest::Saved { run }).unwrap();
            (0..3).for_each(|connection| {
                assert_eq!(lab.replies(connection).last().unwrap(), "saved 0")
            });
        }
    }
    // The collector dies with the results of the second run.
    lab.hub.closed(0, lab.now());
    for connection in 1..3 {
        assert_eq!(lab.replies(connection), ["unsaved: rank 0 was lost"]);
    }
    lab.pass(500, &[1, 2]);
    assert!(lab.replies(1).is_empty());
}

#[test]
fn results_are_not_confirmed_unless_all_ranks_keep_them() {
    let mut lab = Lab::new();
    lab.join(0, 3).unwrap();
    lab.keeps = true;
    (1..3).for_each(|rank| lab.join(rank, 3).unwrap());
    assert!(!lab.hub.fleets["job"].confirms);
    lab.ready(1, 0);
    lab.ready(2, 0);
    lab.ask(0, FleetRequest::Saved { run: 0 }).unwrap_err();
    lab.hub.closed(0, lab.now());
    assert_eq!(lab.replies(1)[1..], ["start 0 at 250"]);
}

#[test]
fn collector_with_a_session_has_no_part_of_its_own_result() {
    let mut lab = Lab::new();
    lab.join_as(10, 0, 2, true).unwrap();
    lab.join_as(11, 1, 2, true).unwrap();
    lab.ready(10, 0);
    lab.ready(11, 0);
    lab.result(10, 0, "");
    lab.result(11, 0, "other");
    let replies = lab.replies(10);
    assert_eq!(replies[2..], ["result 0 of 1: other", "end 0"]);
}

#[test]
fn rank_that_never_comes_is_waited_for_once() {
    let mut lab = Lab::new();
    lab.join(0, 4).unwrap();
    lab.join(1, 4).unwrap();
    lab.pass(900, &[0, 1]);
    assert!(lab.replies(1).is_empty());
    lab.pass(100, &[0, 1]);
    assert_eq!(lab.replies(1), ["roster 0 1"]);
    for run in 0..2 {
        lab.ready(1, run);
        lab.result(1, run, "one");
        assert_eq!(lab.replies(1).len(), 1);
    }
    assert_eq!(
        lab.replies(0)[1..5],
        [
            "start 0 at 1250",
            "result 0 of 1: one",
            "0: rank 2 never came",
            "0: rank 3 never came"
        ]
    );
    let late = lab.join(3, 4).unwrap_err();
    assert!(
        late.contains("started without rank 3, after a wait of 1 s"),
        "{late}"
    );
}

#[test]
fn lost_and_unready_ranks_do_not_hold_the_others() {
    let mut lab = Lab::new();
    (0..5).for_each(|rank| lab.join(rank, 5).unwrap());
    // 1 is lost before the run, 2 is not ready, 3 is lost during the run.
    lab.hub.closed(1, lab.now());
    lab.ready(3, 0);
    lab.ready(4, 0);
    lab.pass(1_000, &[0, 2, 3, 4]);
    assert_eq!(lab.replies(4)[1..], ["start 0 at 1250"]);
    let late = lab.ask(2, FleetRequest::Ready { run: 0 }).unwrap_err();
    assert!(late.contains("run 0 started without this rank"), "{late}");
    lab.result(4, 0, "four");
    lab.hub.closed(3, lab.now());
    assert_eq!(
        lab.replies(0)[2..],
        [
            "result 0 of 4: four",
            "0: rank 1 was lost before the run",
            "0: rank 2 was not ready in time",
            "0: rank 3 was lost during the run",
            "end 0"
        ]
    );
}

#[test]
fn receiver_does_not_wait_for_a_run_whose_senders_are_all_lost() {
    for runs in 0..2 {
        let mut lab = Lab::new();
        (0..3).for_each(|rank| lab.join(rank, 3).unwrap());
        for run in 0..runs {
            for rank in 1..3 {
                lab.ready(rank, run);
            }
            for rank in 1..3 {
                lab.result(rank, run, "x");
            }
        }
        lab.replies(0);
        lab.hub.closed(1, lab.now());
        assert!(lab.replies(0).is_empty());
        lab.hub.closed(2, lab.now());
        let expected = [
            format!("{runs}: rank 1 was lost before the run"),
            format!("{runs}: rank 2 was lost before the run"),
            format!("end {runs}"),
        ];
        assert_eq!(lab.replies(0), expected);
        // Once, as the receiver gives up too.
        lab.pass(1_000, &[0]);
        assert!(lab.replies(0).is_empty());
    }
}

#[test]
fn silent_rank_counts_as_lost() {
    let mut lab = Lab::new();
    (0..3).for_each(|rank| lab.join(rank, 3).unwrap());
    lab.ready(1, 0);
    lab.ready(2, 0);
    lab.result(1, 0, "one");
    lab.pass(SILENT.as_millis() as u64 + 200, &[0, 1]);
    let replies = lab.replies(0);
    assert_eq!(
        replies[3..],
        ["0: rank 2 was silent for 8 s during the run", "end 0"],
        "{replies:?}"
    );
}

#[test]
fn refusal_of_a_rank_that_returns_late_depends_on_the_saved_runs() {
    for is_saved in [false, true] {
        let mut lab = Lab::new();
        lab.keeps = true;
        (0..3).for_each(|rank| lab.join(rank, 3).unwrap());
        lab.ready(1, 0);
        lab.ready(2, 0);
        lab.result(1, 0, "one");
        lab.pass(SILENT.as_millis() as u64 + 200, &[0, 1]);
        if is_saved {
            lab.ask(0, FleetRequest::Saved { run: 0 }).unwrap();
        }
        (0..2).for_each(|connection| lab.hub.closed(connection, lab.now()));
        assert!(lab.hub.fleets.is_empty());
        let late = lab.ask(2, FleetRequest::Alive).unwrap_err();
        assert_eq!(late.starts_with(LEFT_BEHIND), is_saved, "{late}");
        lab.hub.closed(2, lab.now());
        assert!(lab.hub.left_behind.is_empty());
    }
}

#[test]
fn suspended_server_loses_no_rank() {
    let mut lab = Lab::new();
    (0..3).for_each(|rank| lab.join(rank, 3).unwrap());
    lab.ready(1, 0);
    lab.ready(2, 0);
    lab.pass(1_000, &[0, 1, 2]);
    // The messages of the ranks wait meanwhile, and are read after the tick.
    lab.ms += SILENT.as_millis() as u64 + 1_000;
    lab.hub.tick(lab.now());
    lab.result(1, 0, "one");
    lab.result(2, 0, "two");
    assert_eq!(
        lab.replies(0)[2..],
        ["result 0 of 1: one", "result 0 of 2: two", "end 0"]
    );
    // A rank that is silent afterwards is lost as always.
    lab.pass(SILENT.as_millis() as u64 + 200, &[0, 1]);
    let late = lab.ask(2, FleetRequest::Alive).unwrap_err();
    assert!(late.starts_with(LEFT_BEHIND), "{late}");
}

#[test]
fn next_run_waits_for_the_results_of_the_last_one() {
    let mut lab = Lab::new();
    (0..3).for_each(|rank| lab.join(rank, 3).unwrap());
    lab.ready(1, 0);
    lab.ready(2, 0);
    lab.result(1, 0, "one");
    lab.ready(1, 1);
    // Far longer than ranks are waited for that are not ready.
    lab.pass(5_000, &[0, 1, 2]);
    lab.result(2, 0, "two");
    lab.pass(500, &[0, 1, 2]);
    assert_eq!(lab.replies(1), ["roster 0 2", "start 0 at 250"]);
    lab.ready(2, 1);
    assert_eq!(lab.replies(1), ["start 1 at 5750"]);
}

#[test]
fn clock_of_the_server_is_that_of_its_starts() {
    let mut lab = Lab::new();
    lab.join(1, 2).unwrap();
    lab.pass(300, &[1]);
    lab.ask(1, FleetRequest::Clock { sent_ns: 7 }).unwrap();
    assert_eq!(lab.replies(1), ["clock 7 at 300000000"]);
}

#[test]
fn contradictions_are_refused() {
    let mut lab = Lab::new();
    lab.join(1, 3).unwrap();
    let twice = lab.join_as(7, 1, 3, true).unwrap_err();
    assert!(
        twice.contains("rank 1 of this fleet is here already"),
        "{twice}"
    );
    let other = lab.join(2, 4).unwrap_err();
    assert!(other.contains("rank 2 has other options"), "{other}");
    assert!(lab.join(3, 3).is_err());
    assert!(lab.ask(1, FleetRequest::Ready { run: 0 }).is_err());
    let unknown = lab.ask(99, FleetRequest::Alive).unwrap_err();
    assert!(unknown.contains("not in a fleet"), "{unknown}");
    // A rank that is lost before the start may come again.
    lab.hub.closed(1, lab.now());
    lab.join_as(8, 1, 3, true).unwrap();
    lab.join(0, 3).unwrap();
    lab.join(2, 3).unwrap();
    lab.ready(2, 0);
    let early = FleetRequest::Result {
        run: 0,
        part: "x".into(),
        last: true,
    };
    assert!(lab.ask(2, early).is_err());
    assert!(lab.ask(2, FleetRequest::Ready { run: 7 }).is_err());
}

#[test]
fn ended_fleet_leaves_its_name() {
    let mut lab = Lab::new();
    (0..2).for_each(|rank| lab.join(rank, 2).unwrap());
    (0..2).for_each(|connection| lab.hub.closed(connection, lab.now()));
    assert!(lab.hub.fleets.is_empty() && lab.hub.members.is_empty() && lab.hub.replies.is_empty());
    lab.join(0, 2).unwrap();
}

mod load;

mod any {
    use super::*;
    use proptest::prelude::*;

    /// A step of a rank: what it does, and which one.
    fn step() -> impl Strategy<Value = (u8, usize, u32)> {
        (0u8..8, 0usize..6, 0u32..3)
    }

    proptest! {
        #[test]
        fn counters_agree_with_the_ranks_after_any_steps(steps in prop::collection::vec(step(), 0..120)) {
            let mut lab = Lab::new();
            lab.keeps = true;
            for (what, connection, run) in steps {
                match what {
                    // A connection joins once.
                    0 if !lab.hub.replies.contains_key(&connection) => {
                        drop(lab.join_as(connection, run, 3, run != 0));
                    }
                    1 => drop(lab.ask(connection, FleetRequest::Ready { run })),
                    2 | 3 => {
                        let (part, last) = ("x".to_owned(), what == 2);
                        drop(lab.ask(connection, FleetRequest::Result { run, part, last }));
                    }
                    4 => lab.hub.closed(connection, lab.now()),
                    5 => drop(lab.replies(connection)),
                    7 => drop(lab.ask(connection, FleetRequest::Saved { run })),
                    _ => lab.pass(700, &[]),
                }
                let mut queued = 0;
                for fleet in lab.hub.fleets.values() {
                    prop_assert_eq!(fleet.alive().count(), fleet.alive);
                    prop_assert_eq!(fleet.alive().filter(|(_, of)| of.sends).count(), fleet.alive_senders);
                    prop_assert!(fleet.rounds.len() <= 2);
                    queued += fleet.queued;
                }
                prop_assert_eq!(lab.hub.queued, queued);
            }
        }
    }
}
