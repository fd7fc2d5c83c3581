//! One self-contained HTML file: style, program and data in one template.
//!
//! The parts lie under `page/`: CSS files, and JavaScript modules that are joined into one. A file that is opened from
//! disk cannot import others, so joining drops the modules' `import` lines and the word `export`; names are unique across
//! modules, which a test holds.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{Document, GraphDocument};

const TEMPLATE: &str = include_str!("../page/index.html");

const STYLES: &[&str] = &[
    include_str!("../page/style/base.css"),
    include_str!("../page/style/frame.css"),
    include_str!("../page/style/details.css"),
    include_str!("../page/style/drawing.css"),
];

/// The modules in the order in which they need each other.
const MODULES: &[(&str, &str)] = &[
    ("data", include_str!("../page/script/data.js")),
    ("format", include_str!("../page/script/format.js")),
    ("elements", include_str!("../page/script/elements.js")),
    ("state", include_str!("../page/script/state.js")),
    ("charts", include_str!("../page/script/charts.js")),
    ("images", include_str!("../page/script/images.js")),
    ("layout", include_str!("../page/script/layout.js")),
    ("block", include_str!("../page/script/block.js")),
    ("drawing", include_str!("../page/script/drawing.js")),
    ("camera", include_str!("../page/script/camera.js")),
    ("details", include_str!("../page/script/details.js")),
    ("costs", include_str!("../page/script/costs.js")),
    ("heat", include_str!("../page/script/heat.js")),
    ("maps", include_str!("../page/script/maps.js")),
    ("search", include_str!("../page/script/search.js")),
    ("copy", include_str!("../page/script/copy.js")),
    ("keys", include_str!("../page/script/keys.js")),
    ("frame", include_str!("../page/script/frame.js")),
    ("network", include_str!("../page/script/network.js")),
    ("graph", include_str!("../page/script/graph.js")),
    ("main", include_str!("../page/script/main.js")),
];

/// The page of a DenseNet.
pub fn html(document: &Document) -> String {
    let seen = document.seen.as_ref().map(json).unwrap_or_default();
    fill(document.name(), &json(document), &seen)
}

/// The page of a plain graph.
pub fn graph(document: &GraphDocument) -> String {
    fill(document.name(), &json(document), "")
}

/// The template with its places filled, in one pass: what is filled in is never looked at for places.
fn fill(title: &str, data: &str, seen: &str) -> String {
    let style = STYLES.concat();
    let script = script();
    let policy = policy(&style, &script);
    let title = escape(title);
    let mut page = String::with_capacity(
        TEMPLATE.len() + style.len() + script.len() + data.len() + seen.len(),
    );
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((place, after)) = after.split_once("}}") else {
            break;
        };
        page.push_str(match place {
            "title" => &title,
            "policy" => &policy,
            "style" => &style,
            "data" => data,
            "seen" => seen,
            "script" => &script,
            _ => "",
        });
        rest = after;
    }
    page.push_str(rest);
    page
}

/// The modules joined into one.
fn script() -> String {
    let mut script = String::new();
    for (name, text) in MODULES {
        script.push_str(&format!("\n// {name}.js\n"));
        for line in text.lines().filter(|line| !line.starts_with("import ")) {
            script.push_str(line.strip_prefix("export ").unwrap_or(line));
            script.push('\n');
        }
    }
    script
}

/// Nothing is loaded from anywhere, and only this style and this script count.
fn policy(style: &str, script: &str) -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data: blob:; \
         base-uri 'none'; form-action 'none'",
        hash(script),
        hash(style)
    )
}

/// JSON that can stand inside a `<script>` element: no `<`, `>` or `&`, and no line separators of JavaScript's.
fn json(value: &impl Serialize) -> String {
    // The documents are structs of numbers, texts and lists of them: turning them into JSON has no way to fail.
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // These stand in JSON only inside texts, where an escape means the same.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => safe.push(other),
        }
    }
    safe
}

/// Text as the content of an element or the value of an attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            // Control characters have no place in XML.
            c if c.is_control() => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn no_text_ends_the_script_it_stands_in() {
        let safe = json(&[
            "</script><!--",
            "a & b",
            "line\u{2028}separator",
            "\"quoted\" \\ ü",
        ]);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']), "{safe}");
        let back: Vec<String> = serde_json::from_str(&safe).unwrap();
        assert_eq!(back[0], "</script><!--");
        assert_eq!(back[3], "\"quoted\" \\ ü");
    }

    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        let page = fill("{{script}} & <b>", "\"{{data}} {{style}}\"", "");
        assert!(page.contains("<title>{{script}} &amp; &lt;b&gt;"));
        assert_eq!(page.matches("\"{{data}} {{style}}\"").count(), 1);
    }

    /// Joined modules share one scope: a name defined twice would stop the page.
    #[test]
    fn names_are_unique_across_modules() {
        let mut owners: HashMap<&str, &str> = HashMap::new();
        for (module, text) in MODULES {
            for line in text.lines() {
                let line = line.strip_prefix("export ").unwrap_or(line);
                let line = line.strip_prefix("async ").unwrap_or(line);
                let Some(rest) = ["function ", "const ", "let ", "class "]
                    .iter()
                    .find_map(|word| line.strip_prefix(word))
                else {
                    continue;
                };
                let name = rest
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next();
                let name = name.unwrap_or_default();
                assert!(!name.is_empty(), "{module}: {line}: one name a line");
                let before = owners.insert(name, module);
                assert_eq!(before, None, "{name} stands in {module}, too");
            }
        }
    }

    /// Every import names a module that stands before, and a name that it exports.
    #[test]
    fn imports_are_met() {
        for (index, (module, text)) in MODULES.iter().enumerate() {
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let parts: Vec<&str> = line.split('"').collect();
                let from = parts[1].trim_start_matches("./").trim_end_matches(".js");
                let (_, source) = MODULES[..index]
                    .iter()
                    .find(|(name, _)| *name == from)
                    .unwrap_or_else(|| panic!("{module}: {line}"));
                let names = line.split(['{', '}']).nth(1).unwrap();
                for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
                    let exported = ["function", "async function", "const", "let", "class"]
                        .iter()
                        .any(|word| {
                            let head = format!("\nexport {word} {name}");
                            source.match_indices(&head).any(|(at, _)| {
                                !source[at + head.len()..]
                                    .starts_with(|c: char| c.is_alphanumeric() || c == '_')
                            })
                        });
                    assert!(exported, "{module}: {from} does not export {name}");
                }
            }
        }
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = fill("x", "{}", "");
        for (at, _) in page.match_indices("http") {
            let around = &page[at..(at + 40).min(page.len())];
            assert!(
                around.starts_with("http://www.w3.org/") || around.starts_with("http-equiv"),
                "{around}"
            );
        }
        for word in [
            "src=",
            "@import",
            "url(",
            "fetch(",
            "XMLHttpRequest",
            "WebSocket",
            "innerHTML",
            "eval(",
        ] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }
}
