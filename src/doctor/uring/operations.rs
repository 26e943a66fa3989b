//! Operations of a ring, tried on loopback: every request that the engine and the proxy submit, and registrations.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::cqueue;

use super::AREA;
use crate::doctor::{Check, State};
use crate::sys::loopback::no_effect;
use crate::sys::rlimit::UNLIMITED_MEMLOCK;
use crate::uring::setup::{NO_ENGINE, retry_while_out_of_memory};
use crate::uring::trial::{BUFFERS, CANCEL, PAYLOAD, Request, Trial, result};

const REGISTERED_RING: &str = "registered ring";
const ZERO_COPY: &str = "SENDMSG_ZC";
const ACCEPT: &str = "multishot ACCEPT";
const CONNECT: &str = "CONNECT";

/// A trial of one operation.
type Attempt = fn(&mut Trial) -> io::Result<String>;

const ATTEMPTS: [(&str, Attempt); 13] = [
    ("waits with a timeout (EXT_ARG)", times_out),
    ("registered files", registers_files),
    (REGISTERED_RING, registers_ring),
    ("SENDMSG", sends),
    ("RECVMSG", receives),
    ("provided buffer ring", provides_buffers),
    ("multishot RECVMSG", |trial| {
        receives_multishot(trial, Request::ReceiveMessageMulti)
    }),
    ("multishot RECV", |trial| {
        receives_multishot(trial, Request::ReceiveMulti)
    }),
    (ZERO_COPY, sends_zero_copy),
    ("multishot POLL_ADD", polls_multishot),
    (ACCEPT, accepts_multishot),
    (CONNECT, connects),
    ("ASYNC_CANCEL", cancels),
];

/// Runs each trial on its own ring, so that a failure does not affect the next.
pub(super) fn checks() -> Vec<Check> {
    let attempts = ATTEMPTS.iter();
    attempts
        .map(|&(name, attempt)| {
            check(
                name,
                retry_while_out_of_memory(|| attempt(&mut Trial::new()?)),
            )
        })
        .collect()
}

/// Names of the trials, in order.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ATTEMPTS.iter().map(|&(name, _)| name)
}

fn check(name: &'static str, outcome: io::Result<String>) -> Check {
    let (state, costs) = match (name, &outcome) {
        (_, Err(error)) if error.raw_os_error() == Some(libc::ENOMEM) => {
            let costs = "too little lockable memory for --engine uring";
            return Check::from_trial(AREA, name, outcome, costs).remedy(UNLIMITED_MEMLOCK);
        }
        (REGISTERED_RING, _) => (
            State::Limited,
            "each io_uring_enter(2) looks up the ring's descriptor; requires Linux 5.18",
        ),
        (ZERO_COPY, _) => (
            State::Missing,
            "--zerocopy msg is refused with --engine uring; requires Linux 6.2",
        ),
        (ACCEPT | CONNECT, _) => (
            State::Missing,
            "bench proxy serve --engine uring is refused; requires Linux 5.19",
        ),
        _ => (State::Missing, NO_ENGINE),
    };
    match outcome {
        Ok(found) => Check::ok(AREA, name, found),
        Err(error) => Check::ok(AREA, name, error.to_string()).shortfall(state, costs),
    }
}

fn works() -> io::Result<String> {
    Ok("works".to_owned())
}

fn times_out(trial: &mut Trial) -> io::Result<String> {
    match trial.next() {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => works(),
        Err(error) => Err(error),
        Ok(_) => Err(no_effect("an unexpected completion")),
    }
}

fn registers_files(trial: &mut Trial) -> io::Result<String> {
    let files = [trial.sender.as_raw_fd()];
    trial.ring.submitter().register_files(&files)?;
    sent_by(trial, Request::SendFixed)
}

fn registers_ring(trial: &mut Trial) -> io::Result<String> {
    let mut submitter = trial.ring.submitter();
    submitter.register_ring_fd()?;
    submitter.unregister_ring_fd()?;
    works()
}

fn sends(trial: &mut Trial) -> io::Result<String> {
    sent_by(trial, Request::Send)
}

fn sent_by(trial: &mut Trial, request: Request) -> io::Result<String> {
    trial.submit(request)?;
    let sent = result(&trial.next()?)? as usize;
    let mut bytes = [0; 2 * PAYLOAD.len()];
    let length = trial.receiver.recv(&mut bytes)?;
    match bytes.get(..length) == Some(&PAYLOAD) && sent == length {
        true => works(),
        false => Err(no_effect("the received data differ from the sent data")),
    }
}

fn receives(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::Receive)?;
    trial.sender.send(&PAYLOAD)?;
    let length = result(&trial.next()?)? as usize;
    match trial.received(length) == PAYLOAD {
        true => works(),
        false => Err(no_effect("the received data differ from the sent data")),
    }
}

fn provides_buffers(trial: &mut Trial) -> io::Result<String> {
    trial.provide_buffers()?;
    Ok(format!("{BUFFERS} buffers provided"))
}

fn receives_multishot(trial: &mut Trial, request: Request) -> io::Result<String> {
    trial.provide_buffers()?;
    trial.submit(request)?;
    for _ in 0..2 {
        trial.sender.send(&PAYLOAD)?;
        let completion = next_of_multishot(trial)?;
        if cqueue::buffer_select(completion.flags()).is_none() {
            return Err(no_effect("the completion names no buffer"));
        }
    }
    Ok("2 datagrams from one request".to_owned())
}

fn sends_zero_copy(trial: &mut Trial) -> io::Result<String> {
    Ok(match trial.send_zero_copy()? {
        true => "works; copied here, as loopback always does".to_owned(),
        false => "works, without a copy".to_owned(),
    })
}

fn polls_multishot(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::PollMulti)?;
    for _ in 0..2 {
        trial.sender.send(&PAYLOAD)?;
        next_of_multishot(trial)?;
    }
    Ok("2 wake-ups from one request".to_owned())
}

fn accepts_multishot(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::AcceptMulti)?;
    let address = trial.listener.local_addr()?;
    for _ in 0..2 {
        let client = TcpStream::connect(address)?;
        let accepted = Trial::accepted(next_of_multishot(trial)?)?;
        if accepted.peer_addr()? != client.local_addr()? {
            return Err(no_effect("the accepted connection has an unexpected peer"));
        }
    }
    Ok("2 connections from one request".to_owned())
}

fn connects(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::Connect)?;
    result(&trial.next()?)?;
    let (_, from) = trial.listener.accept()?;
    match trial.stream.local_addr()?.as_socket() == Some(from) {
        true => works(),
        false => Err(no_effect("the accepted connection has an unexpected peer")),
    }
}

fn cancels(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::Poll)?;
    trial.submit(Request::Cancel)?;
    for _ in 0..2 {
        let completion = trial.next()?;
        match (completion.user_data(), completion.result()) {
            (CANCEL, _) => drop(result(&completion)?),
            (_, error) if error == -libc::ECANCELED => {}
            _ => {
                return Err(no_effect(
                    "the cancelled request did not end with ECANCELED",
                ));
            }
        }
    }
    works()
}

/// The next completion, of a request that stays armed.
fn next_of_multishot(trial: &mut Trial) -> io::Result<cqueue::Entry> {
    let completion = trial.next()?;
    result(&completion)?;
    match cqueue::more(completion.flags()) {
        true => Ok(completion),
        false => Err(no_effect("the request ended after one completion")),
    }
}
