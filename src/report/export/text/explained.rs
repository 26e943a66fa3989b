//! The losses of a UDP run by cause.

use std::io::{self, Write};

use super::layout::{INDENT, fill, sentence};
use crate::report::export::losses;
use crate::udp::result::{LossCause, Run};
use crate::units::grouped;

/// Writes each cause with the counters and the kernel's reasons behind it, the losses between the hosts, and the missing reports.
pub(super) fn explained(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(explained) = &run.explained else {
        return Ok(());
    };
    let beside = " ".repeat(INDENT);
    let mut label = "explained";
    if run.lost.packets == 0 {
        fill(out, label, ["nothing was lost".to_owned()])?;
        label = &beside;
    }
    for cause in &explained.causes {
        fill(out, label, pieces(cause))?;
        label = &beside;
    }
    let between = match run.requested.via {
        None => "on the way between",
        Some(_) => "through the relay or on the path",
    };
    let rest = [
        (between, explained.between),
        ("unexplained", explained.unexplained),
    ];
    for (name, datagrams) in rest {
        if let Some(datagrams) = datagrams.filter(|_| run.lost.packets > 0) {
            fill(out, label, [format!("{name} {}", grouped(datagrams))])?;
            label = &beside;
        }
    }
    explained
        .notes
        .iter()
        .try_for_each(|note| sentence(out, &beside, note))
}

fn pieces(cause: &LossCause) -> Vec<String> {
    let about = if cause.estimated { "about " } else { "" };
    let mut pieces = vec![format!(
        "{} {about}{}",
        losses::name(cause),
        grouped(cause.datagrams)
    )];
    let counters = cause.counters.iter();
    let reasons = cause.reasons.iter();
    let all = counters
        .map(|of| format!("{} {}", of.name, grouped(of.increase)))
        .chain(reasons.map(|of| format!("{} {} in {}", of.reason, grouped(of.drops), of.place)));
    let mut all: Vec<String> = all.collect();
    if let [most @ .., last] = &mut all[..] {
        most.iter_mut().for_each(|part| part.push(','));
        last.push(')');
    }
    if let Some(first) = all.first_mut() {
        first.insert(0, '(');
    }
    pieces.extend(all);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::udp as sample;

    fn text(run: &Run) -> String {
        let mut out = Vec::new();
        explained(run, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_cause_has_a_line_with_its_counter_and_reason() {
        let mut run = sample::measured().run;
        let expected = "\
explained  sender's firewall 2 (EPERM 2,
           NETFILTER_DROP 2 in udp_queue_rcv_one_skb)
           receiver's socket full 5 (RcvbufErrors 5,
           SOCKET_RCVBUFF 5 in udp_queue_rcv_one_skb)
           on the way between 3
           At the sender: The trace of drops lost 1 event.
";
        assert_eq!(text(&run), expected);
        if let Some(explained) = &mut run.explained {
            (explained.between, explained.unexplained) = (None, Some(3));
            explained.causes[1].estimated = true;
        }
        assert!(text(&run).contains("unexplained 3\n"));
        assert!(text(&run).contains("full about 5 ("));
        run.explained = None;
        assert_eq!(text(&run), "");
    }
}
