//! Markdown that we write, and a page of it. Reports are Markdown first; the page is the Markdown, rendered.

use std::fmt::Write as _;

use pulldown_cmark::{CowStr, Event as Piece, Options, Parser, Tag, TagEnd, html};

/// Signs that mean something in Markdown or HTML.
const MARKS: &str = r"\`*_[]<>|&~#!+-^$";

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd}\
h1,h2,h3{line-height:1.2}svg{max-width:100%;height:auto}";

/// Adds a table.
pub(crate) fn table(page: &mut String, header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(page, "| {} |", header.join(" | "));
    let _ = writeln!(page, "|{}", "---|".repeat(header.len()));
    for row in rows {
        let _ = writeln!(page, "| {} |", row.join(" | "));
    }
    page.push('\n');
}

/// One of our own names.
pub(crate) fn code(name: &str) -> String {
    format!("`{name}`")
}

/// Text of others as text: none of its signs means anything.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            letter if letter.is_control() => escaped.push(' '),
            letter if MARKS.contains(letter) => escaped.extend(['\\', letter]),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// The Markdown as a page of its own, with the SVG of `picture` in the places of the links to `NAME.svg`.
pub(crate) fn page<'a>(
    title: &str,
    markdown: &str,
    picture: impl Fn(&str) -> Option<&'a str>,
) -> String {
    let mut inside = false;
    let pieces =
        Parser::new_ext(markdown, Options::ENABLE_TABLES).filter_map(|piece| match piece {
            Piece::Start(Tag::Image { dest_url, .. }) => {
                inside = true;
                let svg = dest_url.strip_suffix(".svg").and_then(&picture);
                Some(Piece::Html(CowStr::from(svg.unwrap_or_default().to_owned())))
            }
            Piece::End(TagEnd::Image) => {
                inside = false;
                None
            }
            _ if inside => None, // what the picture shows is in the picture
            piece => Some(piece),
        });
    let mut body = String::new();
    html::push_html(&mut body, pieces);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_text() {
        let hostile = "<script>alert(1)</script> | `x` **b** [l](u) &amp; \n# no\u{7}";
        let mut markdown = String::new();
        table(&mut markdown, &["caption"], std::iter::once(vec![escaped(hostile)]));
        let page = page("Scores", &markdown, |_| None);
        let expected = "&lt;script&gt;alert(1)&lt;/script&gt; | `x` **b** [l](u) &amp;amp;  # no ";
        assert!(page.contains(expected.trim_end()), "{page}");
        assert_eq!(page.matches("<td>").count(), 1, "{page}");
    }

    #[test]
    fn pictures_stand_in_the_page() {
        let picture = |name: &str| (name == "curve").then_some("<svg>1</svg>");
        let page = page("Scores", "![Curve](curve.svg)\n", picture);
        assert!(page.contains("<svg>1</svg>") && !page.contains("<img"), "{page}");
    }
}
