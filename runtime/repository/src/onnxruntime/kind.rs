//! What a value of ONNX Runtime's options may be, and the text that ONNX Runtime is handed for it.

use toml::Value;

/// ONNX Runtime takes no longer value.
const MAX_TEXT: usize = 1024;

/// What may stand for a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Handed on as `1` or `0`.
    Flag,
    /// Handed on as `true` or `false`.
    Truth,
    /// From the first to the second.
    Number(i128, i128),
    /// One of these.
    Word(&'static [&'static str]),
    /// Anything in one line.
    Text,
    /// Known, and not for a model to say: why, and where there is one the way to say it.
    Refused(&'static str),
}

impl Kind {
    /// Nothing here is negative or larger than a size in memory can be.
    pub(super) const SIZE: Self = Self::Number(0, u64::MAX as i128);

    /// The text of `value`, or what was expected in its place.
    pub(super) fn text(self, value: &Value) -> Result<String, String> {
        let shown = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
            other => other.type_str().to_owned(),
        };
        let is_scalar = matches!(value, Value::String(_) | Value::Integer(_) | Value::Boolean(_));
        let taken = if is_scalar { self.take(&shown) } else { None };
        taken.ok_or_else(|| format!("'{shown}'; expected {}", self.expected()))
    }

    fn take(self, text: &str) -> Option<String> {
        let flag = match text {
            "1" | "true" | "True" => Some(true),
            "0" | "false" | "False" => Some(false),
            _ => None,
        };
        match self {
            Self::Flag => Some(if flag? { "1" } else { "0" }.to_owned()),
            Self::Truth => Some(flag?.to_string()),
            Self::Number(least, most) => {
                let number = text.parse::<i128>().ok().filter(|number| (least..=most).contains(number))?;
                Some(number.to_string())
            }
            Self::Word(words) => words.contains(&text).then(|| text.to_owned()),
            Self::Text => {
                let fits = !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
                fits.then(|| text.to_owned())
            }
            Self::Refused(_) => None,
        }
    }

    fn expected(self) -> String {
        match self {
            Self::Flag | Self::Truth => "true or false".to_owned(),
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Word(words) => words.join(", "),
            Self::Text => format!("one line of at most {MAX_TEXT} bytes"),
            Self::Refused(reason) => reason.to_owned(),
        }
    }
}
