//! Markup that cannot be broken from outside: tags are texts of ours, everything else is escaped.

use std::time::Duration;

use protocol::datetime;
use protocol::ids::Micros;

/// A piece of a page.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Markup of ours.
    pub(super) fn tags(&mut self, tags: &'static str) -> &mut Self {
        self.0.push_str(tags);
        self
    }

    /// Anybody's text, within an element or a quoted attribute. What would turn the direction of
    /// writing around, or is no character to see, is shown as such.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                character if is_hidden(character) => self.0.push('\u{fffd}'),
                character => self.0.push(character),
            }
        }
        self
    }

    /// Another piece.
    pub(super) fn add(&mut self, piece: &Self) -> &mut Self {
        self.0.push_str(&piece.0);
        self
    }

    /// A text that hosts or accounts say of themselves: its direction stays its own.
    pub(super) fn said(&mut self, text: &str) -> &mut Self {
        self.tags("<bdi>").text(text).tags("</bdi>")
    }

    /// A name or number that is to be read letter by letter.
    pub(super) fn code(&mut self, text: &str) -> &mut Self {
        self.tags("<code>").text(text).tags("</code>")
    }

    /// A sentence of ours in which names stand between backticks.
    pub(super) fn sentence(&mut self, sentence: &str) -> &mut Self {
        for (index, part) in sentence.split('`').enumerate() {
            if index % 2 == 1 {
                self.code(part);
            } else {
                self.text(part);
            }
        }
        self
    }

    /// A link within this relay.
    pub(super) fn link(&mut self, path: &str, text: &str) -> &mut Self {
        self.tags("<a href=\"").text(path).tags("\">").text(text).tags("</a>")
    }

    /// A moment, and how long ago it was.
    pub(super) fn moment(&mut self, at: Micros, now: Micros) -> &mut Self {
        let exact = datetime::format(at);
        let shown = exact.get(..19).unwrap_or(&exact).replace('T', " ");
        self.tags("<time datetime=\"").text(&exact).tags("\">").text(&shown).tags(" UTC</time>");
        let (age, direction) = match now.0.checked_sub(at.0) {
            Some(_) => (now.since(at), " ago)</span>"),
            None => (at.since(now), " from now)</span>"),
        };
        self.tags(" <span class=\"quiet\">(").text(&length(age)).tags(direction)
    }

    /// The whole of it.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// A path segment for a link.
pub(super) fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                segment.push(char::from(byte));
            }
            byte => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

/// A number with its thousands apart.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of bytes, to three digits or so.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    while whole >= 1_000 && unit < UNITS.len() - 1 {
        (whole, rest, unit) = (whole / 1_000, whole % 1_000, unit + 1);
    }
    if unit == 0 || whole >= 100 {
        format!("{} {}", number(whole), UNITS[unit])
    } else {
        format!("{whole}.{} {}", rest / 100, UNITS[unit])
    }
}

/// A length of time in its largest unit, as people say it.
pub(super) fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    let (count, unit) = match seconds {
        0 if length.is_zero() => (0, "s"),
        0 => return "less than a second".to_owned(),
        1..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

/// Characters that show nothing, or change how others are shown.
fn is_hidden(character: char) -> bool {
    let turns = matches!(character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || character.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let check = |text: &str, expected: &str| {
            let mut html = Html::new();
            html.text(text);
            assert_eq!(html.into_string(), expected, "{text}");
        };
        check("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;");
        check("\" onload='x' & y", "&quot; onload=&#39;x&#39; &amp; y");
        check("&lt;", "&amp;lt;");
        check("a\u{202e}b\0c\nd", "a\u{fffd}b\u{fffd}c\u{fffd}d");
        check("b\u{fc}cher \u{5d0}", "b\u{fc}cher \u{5d0}");
    }

    #[test]
    fn names_between_backticks_are_code() {
        let mut html = Html::new();
        html.sentence("Let `seq` rise <b>`x");
        assert_eq!(html.into_string(), "Let <code>seq</code> rise &lt;b&gt;<code>x</code>");
    }

    #[test]
    fn a_segment_is_one_segment() {
        let check = |text: &str, expected: &str| assert_eq!(segment(text), expected);
        check("did:plc:abc", "did:plc:abc");
        check("did:web:localhost%3A80", "did:web:localhost%253A80");
        check("a/b?c#d e\"", "a%2Fb%3Fc%23d%20e%22");
    }

    #[test]
    fn figures_are_told_as_people_read_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        let sizes = [0, 999, 1_000, 12_345, 123_456, 5_000_000_000, u64::MAX].map(bytes);
        let expected =
            ["0 bytes", "999 bytes", "1.0 kB", "12.3 kB", "123 kB", "5.0 GB", "18,446,744 TB"];
        assert_eq!(sizes, expected);
        let lengths = [0, 1, 119, 120, 7_199, 7_200, 172_799, 172_800]
            .map(|seconds| length(Duration::from_secs(seconds)));
        assert_eq!(lengths, ["0 s", "1 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
        assert_eq!(length(Duration::from_millis(5)), "less than a second");
    }

    #[test]
    fn a_moment_says_when_and_how_long_ago() {
        let mut html = Html::new();
        let at = Micros(1_795_219_200_000_000);
        html.moment(at, at.plus(Duration::from_secs(60)));
        let html = html.into_string();
        assert!(html.contains(" 00:00:00 UTC</time> <span class=\"quiet\">(60 s ago)"), "{html}");
        let mut html = Html::new();
        html.moment(at.plus(Duration::from_secs(60)), at);
        assert!(html.into_string().contains("(60 s from now)"));
    }
}
