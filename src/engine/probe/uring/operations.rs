//! What a ring can do, tried for real: every request that the engine makes, and what it registers.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::cqueue;

use super::trial::{BUFFERS, CANCEL, PAYLOAD, Request, Trial};
use super::{AREA, NO_ENGINE, again};
use crate::engine::probe::{Check, MORE_MEMORY, State, no_effect};
use crate::engine::uring::tx::COPIED;

const REGISTERED_RING: &str = "registered ring";
const ZERO_COPY: &str = "SENDMSG_ZC";
const ACCEPT: &str = "multishot ACCEPT";
const CONNECT: &str = "CONNECT";

/// One thing to try.
type Attempt = fn(&mut Trial) -> io::Result<String>;

const ATTEMPTS: [(&str, Attempt); 13] = [
    ("waits with a timeout (EXT_ARG)", times_out),
    ("registered files", registers_files),
    (REGISTERED_RING, registers_ring),
    ("SENDMSG", sends),
    ("RECVMSG", receives),
    ("provided buffer ring", provides_buffers),
    ("multishot RECVMSG", |trial| {
        receives_on(trial, Request::ReceiveMessagesOn)
    }),
    ("multishot RECV", |trial| {
        receives_on(trial, Request::ReceiveOn)
    }),
    (ZERO_COPY, sends_zero_copy),
    ("multishot POLL_ADD", polls_on),
    (ACCEPT, accepts_on),
    (CONNECT, connects),
    ("ASYNC_CANCEL", cancels),
];

/// Tries each on a ring of its own, so that none suffers from another's failure.
pub(super) fn checks() -> Vec<Check> {
    let attempts = ATTEMPTS.iter();
    attempts
        .map(|&(name, attempt)| told(name, again(|| attempt(&mut Trial::new()?))))
        .collect()
}

/// What is tried, in this order.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ATTEMPTS.iter().map(|&(name, _)| name)
}

/// Whether a ring takes a send without a copy, and tells when it is done and whether it copied.
///
/// # Errors
/// What the kernel answers.
pub(in crate::engine::probe) fn sends_without_copy() -> io::Result<()> {
    again(|| sends_zero_copy(&mut Trial::new()?)).map(drop)
}

fn told(name: &'static str, outcome: io::Result<String>) -> Check {
    let (state, costs) = match (name, &outcome) {
        (_, Err(error)) if error.raw_os_error() == Some(libc::ENOMEM) => {
            let costs = "too little memory may be locked for --engine uring";
            return Check::tried(AREA, name, outcome, costs).lifted_by(MORE_MEMORY);
        }
        (REGISTERED_RING, _) => (
            State::Limited,
            "each call of io_uring_enter(2) looks up the ring; Linux 5.18 or newer has it",
        ),
        (ZERO_COPY, _) => (
            State::Missing,
            "--zerocopy msg is refused with --engine uring; Linux 6.2 or newer has it",
        ),
        (ACCEPT | CONNECT, _) => (
            State::Missing,
            "bench proxy serve --engine uring is refused; Linux 5.19 or newer has it",
        ),
        _ => (State::Missing, NO_ENGINE),
    };
    match outcome {
        Ok(found) => Check::ok(AREA, name, found),
        Err(error) => Check::ok(AREA, name, error.to_string()).short(state, costs),
    }
}

fn works() -> io::Result<String> {
    Ok("works".to_owned())
}

fn times_out(trial: &mut Trial) -> io::Result<String> {
    match trial.next() {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => works(),
        Err(error) => Err(error),
        Ok(_) => Err(no_effect("a completion of nothing")),
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
        false => Err(no_effect("what arrived is not what was sent")),
    }
}

fn receives(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::Receive)?;
    trial.sender.send(&PAYLOAD)?;
    let length = result(&trial.next()?)? as usize;
    match trial.received(length) == PAYLOAD {
        true => works(),
        false => Err(no_effect("what was received is not what was sent")),
    }
}

fn provides_buffers(trial: &mut Trial) -> io::Result<String> {
    trial.provide_buffers()?;
    Ok(format!("{BUFFERS} buffers given"))
}

fn receives_on(trial: &mut Trial, request: Request) -> io::Result<String> {
    trial.provide_buffers()?;
    trial.submit(request)?;
    for _ in 0..2 {
        trial.sender.send(&PAYLOAD)?;
        let completion = goes_on(trial)?;
        if cqueue::buffer_select(completion.flags()).is_none() {
            return Err(no_effect("it came in no buffer"));
        }
    }
    Ok("2 datagrams by one request".to_owned())
}

fn sends_zero_copy(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::SendZeroCopy)?;
    result(&trial.next()?)?;
    // Loopback is done with the data once it is read.
    trial.receiver.recv(&mut [0; PAYLOAD.len()])?;
    let notification = trial.next()?;
    if !cqueue::notif(notification.flags()) {
        return Err(no_effect("it does not tell when it is done"));
    }
    let copied = notification.result() as u32 & COPIED != 0;
    Ok(match copied {
        true => "works; copied here, as loopback always does".to_owned(),
        false => "works, without a copy".to_owned(),
    })
}

fn polls_on(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::PollOn)?;
    for _ in 0..2 {
        trial.sender.send(&PAYLOAD)?;
        goes_on(trial)?;
    }
    Ok("2 wake-ups by one request".to_owned())
}

fn accepts_on(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::AcceptOn)?;
    let address = trial.listener.local_addr()?;
    for _ in 0..2 {
        let client = TcpStream::connect(address)?;
        let accepted = Trial::accepted(goes_on(trial)?)?;
        if accepted.peer_addr()? != client.local_addr()? {
            return Err(no_effect("it gave another client than there was"));
        }
    }
    Ok("2 clients by one request".to_owned())
}

fn connects(trial: &mut Trial) -> io::Result<String> {
    trial.submit(Request::Connect)?;
    result(&trial.next()?)?;
    let (_, from) = trial.listener.accept()?;
    match trial.stream.local_addr()?.as_socket() == Some(from) {
        true => works(),
        false => Err(no_effect("somebody else was connected")),
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
            _ => return Err(no_effect("what was cancelled ended otherwise")),
        }
    }
    works()
}

/// A completion of a request that will have more.
fn goes_on(trial: &mut Trial) -> io::Result<cqueue::Entry> {
    let completion = trial.next()?;
    result(&completion)?;
    match cqueue::more(completion.flags()) {
        true => Ok(completion),
        false => Err(no_effect("it ends after one datagram")),
    }
}

/// What a request came to.
fn result(completion: &cqueue::Entry) -> io::Result<u32> {
    u32::try_from(completion.result())
        .map_err(|_| io::Error::from_raw_os_error(-completion.result()))
}
