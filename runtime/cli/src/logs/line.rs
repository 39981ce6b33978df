//! One event as one line, appended to memory that is used again.

use std::fmt::{self, Debug, Display, Write as _};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// An object: `timestamp`, `level`, the event's fields, `target`; trace id and request id where there is a request.
    Json,
    /// The same in words, without the target.
    Text {
        /// By ANSI's escape codes.
        colour: bool,
    },
}

/// Appends the line of `event`, its end included.
pub(super) fn write(line: &mut String, style: Style, event: &Event<'_>) {
    let metadata = event.metadata();
    let now = humantime::format_rfc3339_micros(SystemTime::now());
    // Writing to a string cannot fail.
    let _ = match style {
        Style::Json => write!(line, "{{\"timestamp\":\"{now}\",\"level\":\"{}\"", metadata.level()),
        Style::Text { colour: false } => write!(line, "{now} {:>5}", metadata.level()),
        Style::Text { colour: true } => {
            write!(line, "\x1b[2m{now}\x1b[0m \x1b[{}m{:>5}\x1b[0m", colour_of(metadata.level()), metadata.level())
        }
    };
    let mut fields = Fields { line, style, target: None };
    event.record(&mut fields);
    corymb_server::with_current_request(|trace, span, request| {
        fields.display("trace_id", trace);
        fields.display("span_id", span);
        fields.display("request_id", request);
    });
    if style == Style::Json {
        let target = fields.target.take();
        fields.text("target", target.as_deref().unwrap_or(metadata.target()));
        line.push('}');
    }
    line.push('\n');
}

const fn colour_of(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

struct Fields<'a> {
    line: &'a mut String,
    style: Style,
    /// Of a record of the `log` crate, which carries it among its fields.
    target: Option<String>,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        match self.style {
            Style::Json => {
                self.line.push_str(",\"");
                self.line.push_str(name);
                self.line.push_str("\":");
            }
            Style::Text { .. } if name == "message" => self.line.push(' '),
            Style::Text { .. } => {
                self.line.push(' ');
                self.line.push_str(name);
                self.line.push('=');
            }
        }
    }

    /// A value that needs no quotes in either style.
    fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        let _ = write!(self.line, "{value}");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        match self.style {
            Style::Json => {
                self.line.push('"');
                let _ = Escaped(self.line).write_str(value);
                self.line.push('"');
            }
            Style::Text { .. } => {
                let _ = OneLine(self.line).write_str(value);
            }
        }
    }

    fn display(&mut self, name: &str, value: &dyn Display) {
        self.name(name);
        let _ = match self.style {
            Style::Json => {
                self.line.push('"');
                let written = write!(Escaped(self.line), "{value}");
                self.line.push('"');
                written
            }
            Style::Text { .. } => write!(OneLine(self.line), "{value}"),
        };
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !field.name().starts_with("log.") {
            self.display(field.name(), &format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "log.target" => self.target = Some(value.to_owned()),
            name if name.starts_with("log.") => {}
            name => self.text(name, value),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no other numbers than finite ones.
        if value.is_finite() || self.style != Style::Json {
            self.plain(field.name(), format_args!("{value:?}"));
        } else {
            self.plain(field.name(), "null");
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !field.name().starts_with("log.") {
            self.plain(field.name(), value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), value);
    }
}

/// The inside of a JSON string.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut from = 0;
        for (at, byte) in text.bytes().enumerate() {
            let escape = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                b'\r' => "\\r",
                b'\t' => "\\t",
                0..=0x1f => "",
                _ => continue,
            };
            self.0.push_str(&text[from..at]);
            self.0.push_str(escape);
            if escape.is_empty() {
                write!(self.0, "\\u{byte:04x}")?;
            }
            from = at + 1;
        }
        self.0.push_str(&text[from..]);
        Ok(())
    }
}

/// Text without what would end the line or drive the terminal.
struct OneLine<'a>(&'a mut String);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut from = 0;
        for (at, letter) in text.char_indices().filter(|(_, letter)| letter.is_control()) {
            self.0.push_str(&text[from..at]);
            self.0.extend(letter.escape_default());
            from = at + letter.len_utf8();
        }
        self.0.push_str(&text[from..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::Subscriber;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;

    struct Collect(Style, Arc<Mutex<String>>);

    impl<S: Subscriber> Layer<S> for Collect {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            write(&mut self.1.lock().expect("not poisoned"), self.0, event);
        }
    }

    fn lines(style: Style, log: impl FnOnce()) -> String {
        let text = Arc::new(Mutex::new(String::new()));
        let subscriber = tracing_subscriber::registry().with(Collect(style, Arc::clone(&text)));
        tracing::subscriber::with_default(subscriber, log);
        text.lock().expect("not poisoned").clone()
    }

    fn event() {
        let nasty = "a \"b\" \\ \n\u{1}é";
        let none: Option<&str> = None;
        tracing::warn!(
            target: "here",
            text = nasty, shown = %nasty, debug = ?vec![1], count = 7_u64, below = -1, ratio = 0.5, whole = 2.0,
            odd = f64::NAN, yes = true, none, "message of {}", 3
        );
    }

    #[test]
    fn json_lines_are_objects() {
        let text = lines(Style::Json, event);
        assert_eq!(text.matches('\n').count(), 1);
        let object: Value = serde_json::from_str(&text).expect("JSON");
        let nasty = "a \"b\" \\ \n\u{1}é";
        assert_eq!(object["message"], "message of 3");
        assert_eq!((&object["text"], &object["shown"]), (&Value::from(nasty), &Value::from(nasty)));
        assert_eq!((&object["level"], &object["target"]), (&Value::from("WARN"), &Value::from("here")));
        assert_eq!((&object["count"], &object["below"], &object["ratio"]), (&7.into(), &(-1).into(), &0.5.into()));
        assert_eq!((&object["whole"], &object["odd"], &object["yes"]), (&2.0.into(), &Value::Null, &true.into()));
        assert_eq!((&object["debug"], object.get("none")), (&Value::from("[1]"), None));
        let timestamp = object["timestamp"].as_str().expect("a timestamp");
        assert!(humantime::parse_rfc3339(timestamp).is_ok(), "{timestamp}");
    }

    #[test]
    fn text_lines_hold_no_control_characters() {
        let text = lines(Style::Text { colour: false }, event);
        let (_, rest) = text.split_once(' ').expect("a timestamp");
        let nasty = "a \"b\" \\ \\n\\u{1}é";
        let expected = format!(
            " WARN message of 3 text={nasty} shown={nasty} debug=[1] count=7 below=-1 ratio=0.5 whole=2.0 odd=NaN \
             yes=true\n"
        );
        assert_eq!(rest, expected);
    }
}
