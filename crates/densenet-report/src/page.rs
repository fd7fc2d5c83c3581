//! The frame of every page: head, style, policy, foot.

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::{
    chart::{Chart, Series},
    document::{Facts, Table},
};

const STYLE: &str = include_str!("style.css");

/// A whole page.
pub(crate) fn page(title: &str, maker: &str, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                footer { p { "Made by " (maker) ". This file is complete: it loads nothing and runs no script." } }
            }
        }
    };
    markup.into_string()
}

/// Nothing is loaded, nothing runs, only this style and pictures inside the page count.
fn policy() -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
}

/// A chart with its title, legend and caption.
pub(crate) fn figure(chart: &Chart) -> Markup {
    html! {
        figure {
            figcaption {
                h3 { (chart.title) }
                @if chart.series.len() > 1 { (legend(&chart.series)) }
            }
            (crate::chart::line(chart, crate::chart::Frame::Page))
            @if !chart.caption.is_empty() { p.quiet { (chart.caption) } }
        }
    }
}

/// The names of lines beside their looks.
fn legend(series: &[Series]) -> Markup {
    html! {
        ul.legend {
            @for s in series {
                li {
                    svg viewBox="0 0 26 10" width="26" height="10" aria-hidden="true" {
                        path class=(format!("line {}", s.tone.class())) d="M1 5h24" {}
                    }
                    (s.name)
                }
            }
        }
    }
}

/// A table in a frame of its own that can be moved sideways.
pub(crate) fn table(table: &Table) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="Table" {
            table.numbers {
                thead { tr { @for column in &table.columns { th scope="col" { (column) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (i, cell) in row.iter().enumerate() {
                                @if i == 0 { th scope="row" { (cell) } } @else { td { (broken(cell)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A text that may go on in another line behind each comma, where its cell lets it.
fn broken(text: &str) -> Markup {
    html! {
        @for (i, part) in text.split_inclusive(',').enumerate() {
            @if i > 0 { wbr; }
            (part)
        }
    }
}

/// A list of facts under its title.
pub(crate) fn facts(facts: &Facts) -> Markup {
    html! {
        div.facts {
            h3 { (facts.title) }
            dl {
                @for (name, value) in &facts.rows {
                    dt { (name) }
                    dd { (value) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_loads_nothing_and_escapes_its_texts() {
        let page = page("<script>x</script>", "m", &html! { p { "a & b" } });
        assert!(page.contains("<title>&lt;script&gt;x&lt;/script&gt;</title>"));
        assert!(page.contains("a &amp; b") && !page.contains("<script"));
        for word in ["src=\"http", "@import", "url(", "<script", "javascript:"] {
            assert!(!page.contains(word), "{word}");
        }
        // The policy's hash is that of the style as it stands in the page.
        let (_, rest) = page.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        let hash = BASE64_STANDARD.encode(Sha256::digest(style.as_bytes()));
        assert!(page.contains(&hash));
        assert!(!page.contains(" style=\""), "the policy would refuse it");
    }
}
