//! The likely reason why an echo server answered no request. Pure.

use std::io;
use std::net::SocketAddr;

use super::requester::{Outcome, TIMEOUT};
use crate::units::counted;

/// A sentence about a run whose requests to an echo server at `to` have no answer; `None` if one has, or if no request was sent.
pub fn unanswered(outcome: &Outcome, to: SocketAddr) -> Option<String> {
    let counts = outcome.counts;
    if counts.answered > 0 || counts.sent == 0 {
        return None;
    }
    let foreign = outcome.foreign;
    let foreign = foreign
        .token
        .saturating_add(foreign.short)
        .saturating_add(foreign.malformed);
    let error = outcome.socket_error.or(outcome.send.last_error);
    let reason = match error.map(io::Error::from_raw_os_error) {
        _ if foreign > 0 => format!(
            "no copy of a request came back, but {} of another content (counted as foreign), so that the server there is no echo server (RFC 862)",
            counted(foreign, "datagram")
        ),
        _ if counts.late > 0 => format!(
            "{} came, each more than {} s after its request",
            counted(counts.late, "response"),
            TIMEOUT.as_secs()
        ),
        _ if outcome.send.icmp.port_unreachable > 0 => {
            "the port is unreachable (ICMP), so that no server is bound to it".to_owned()
        }
        Some(error) => format!("the kernel reports: {error}"),
        None => "nothing came back, so that the host is down, no echo server is bound to the port, or a firewall drops the datagrams"
            .to_owned(),
    };
    Some(format!("no request to {to} was answered; {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::receive::accounting::Foreign;
    use crate::udp::round_trip::exchanges::Counts;

    fn lost() -> Outcome {
        Outcome {
            counts: Counts {
                sent: 3,
                lost: 3,
                ..Counts::default()
            },
            ..Outcome::default()
        }
    }

    fn sentence(outcome: &Outcome) -> Option<String> {
        unanswered(outcome, SocketAddr::from(([192, 0, 2, 7], 7)))
    }

    #[track_caller]
    fn assert_reason(outcome: &Outcome, words: &str) {
        let sentence = sentence(outcome).unwrap();
        assert!(
            sentence.starts_with("no request to 192.0.2.7:7 was answered; "),
            "{sentence}"
        );
        assert!(sentence.contains(words), "{sentence}");
    }

    #[test]
    fn the_most_certain_reason_is_named() {
        let mut outcome = lost();
        assert_reason(&outcome, "nothing came back");
        outcome.send.last_error = Some(libc::EPERM);
        assert_reason(&outcome, "Operation not permitted");
        outcome.socket_error = Some(libc::EHOSTUNREACH);
        assert_reason(&outcome, "No route to host");
        outcome.send.icmp.port_unreachable = 1;
        assert_reason(&outcome, "port is unreachable");
        outcome.counts.late = 2;
        assert_reason(&outcome, "2 responses came, each more than 1 s after");
        outcome.foreign = Foreign {
            token: 1_000,
            short: 1,
            malformed: 1,
        };
        assert_reason(&outcome, "but 1,002 datagrams");
    }

    #[test]
    fn an_answer_or_a_run_without_requests_needs_no_reason() {
        let mut outcome = lost();
        outcome.counts.answered = 1;
        assert_eq!(sentence(&outcome), None);
        assert_eq!(sentence(&Outcome::default()), None);
    }
}
