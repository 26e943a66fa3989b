//! The page around the sections: head, style sheet, table of contents.

use std::io::{self, Write};

use super::chart::{Chart, palette};
use super::escape::Escaped;
use crate::report::model::Meta;
use crate::units::grouped;

const STYLE: &str = include_str!("style.css");

/// The style sheet's colours, light and dark, and the rules of the charts.
pub(super) fn scheme() -> String {
    format!(
        ":root{{color-scheme:light dark;--ground:#fff;--text:#1b1f24;--soft:#57606a;--edge:#d0d7de;--panel:#f6f8fa;--bad:#a40e26;\
         --note:#7d4e00;{}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root{{--ground:#14181d;--text:#e6e9ed;--soft:#a3acb6;--edge:#3a424c;\
         --panel:#1c2229;--bad:#ff8f9c;--note:#e0a93e;{}}}}}\n\
         svg text{{fill:var(--text);font-family:inherit;stroke:var(--panel);stroke-width:5px}}\n\
         svg [stroke=\"#000000\"]{{stroke:var(--text)}}\n{}",
        palette::variables(false),
        palette::variables(true),
        palette::rules()
    )
}

/// Writes the part of the page before the sections. `contents` has the anchor and the title of each section.
pub(super) fn begin(contents: &[(String, String)], out: &mut dyn Write) -> io::Result<()> {
    const HEADING: &str = "wirebench report";
    let title = match contents {
        [(_, only)] => only,
        _ => HEADING,
    };
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{HEADING}</h1>",
        Escaped(title),
        scheme(),
    )?;
    if contents.len() > 1 {
        writeln!(out, "<nav><ul>")?;
        for (anchor, title) in contents {
            let (anchor, title) = (Escaped(anchor), Escaped(title));
            writeln!(out, "<li><a href=\"#{anchor}\">{title}</a></li>")?;
        }
        writeln!(out, "</ul></nav>")?;
    }
    writeln!(out, "</header>\n<main>")
}

/// Writes the part of the page after the sections.
pub(super) fn end(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "</main>\n<footer><p>Written by wirebench {}. 1 KB is 1000 bytes of message. A blank value is unknown.</p></footer>\n</body>\n</html>",
        env!("CARGO_PKG_VERSION")
    )
}

/// Writes the sentences that a reader must know first; `bad` ones have the colour of errors.
pub(super) fn notices(bad: bool, sentences: &[String], out: &mut dyn Write) -> io::Result<()> {
    let (class, word) = match bad {
        true => ("notice bad", "incomplete"),
        false => ("notice", "note"),
    };
    for sentence in sentences {
        writeln!(
            out,
            "<p class=\"{class}\"><b>{word}</b> {}</p>",
            Escaped(sentence)
        )?;
    }
    Ok(())
}

/// Writes the charts side by side.
pub(super) fn charts(charts: &[Chart], out: &mut dyn Write) -> io::Result<()> {
    if charts.is_empty() {
        return Ok(());
    }
    writeln!(out, "<div class=\"charts\">")?;
    charts.iter().try_for_each(|chart| chart.write(out))?;
    writeln!(out, "</div>")
}

/// Writes the command and the machine.
pub(super) fn environment(meta: &Meta, out: &mut dyn Write) -> io::Result<()> {
    let host = &meta.host;
    writeln!(
        out,
        "<dl class=\"environment\">\n<dt>command</dt><dd><code>{}</code></dd>",
        Escaped(&meta.command_line())
    )?;
    let buffers = |max: Option<u64>| {
        max.map(|bytes| format!("{} B", grouped(bytes)))
            .unwrap_or_default()
    };
    for (name, value) in [
        ("started", meta.started()),
        ("wirebench", meta.wirebench.clone()),
        ("kernel", format!("Linux {}", host.kernel)),
        ("CPU", format!("{}, {} usable", host.cpu, host.cores)),
        ("CPU governor", host.governor.clone().unwrap_or_default()),
        ("rmem_max", buffers(host.rmem_max)),
        ("wmem_max", buffers(host.wmem_max)),
    ] {
        if !value.is_empty() {
            writeln!(out, "<dt>{name}</dt><dd>{}</dd>", Escaped(&value))?;
        }
    }
    writeln!(out, "</dl>")
}
