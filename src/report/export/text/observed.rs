//! The losses by cause, the marks and the stages of compared or repeated runs.

use std::io::{self, Write};

use super::layout::{INDENT, list, sentence};
use crate::report::export::observed::{self, Observed};
use crate::udp::result::Run;

/// Writes them, a block for each kind with a list for each setting.
pub(super) fn observed(runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    let all = observed::observed(runs);
    type Kind = (&'static str, fn(&Observed) -> &[String]);
    let kinds: [Kind; 3] = [
        ("explained", |of| &of.causes),
        ("marks", |of| &of.marks),
        ("stages", |of| &of.stages),
    ];
    for (kind, of) in kinds {
        let mut label = kind;
        for setting in all.iter().filter(|setting| !of(setting).is_empty()) {
            let mut texts = of(setting).to_vec();
            if let (Some(first), false) = (texts.first_mut(), setting.setting.is_empty()) {
                first.insert_str(0, &format!("{}: ", setting.setting));
            }
            list(out, &format!("{label:<INDENT$}"), texts)?;
            label = "";
        }
    }
    for (number, note) in observed::notes(runs).iter().enumerate() {
        let label = if number == 0 { "note" } else { "" };
        sentence(out, &format!("{label:<INDENT$}"), note)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::export::text::layout::WIDTH;
    use crate::report::sample::udp as sample;

    #[test]
    fn each_kind_has_a_list_for_each_setting() {
        let named = |setting: &str| Run {
            setting: Some(setting.to_owned()),
            ..sample::measured().run
        };
        let mut out = Vec::new();
        observed(&[named("forward"), named("reverse")], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "\
explained  forward: sender's firewall 2, receiver's socket full 5,
           on the way between 3
           reverse: sender's firewall 2, receiver's socket full 5,
           on the way between 3
marks      forward: CE ";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.contains("\nstages     forward: sender 500 us"),
            "{text}"
        );
        assert!(text.contains("\nnote       "), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        let plain = Run::default();
        let mut out = Vec::new();
        observed(&[plain.clone(), plain], &mut out).unwrap();
        assert!(out.is_empty());
    }
}
