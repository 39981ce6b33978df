//! Protobuf's text form, read into names and values: as much of it as configuration files use.
//!
//! The language: <https://protobuf.dev/reference/protobuf/textformat-spec/>. Names of extensions are read as names that nobody
//! knows.

/// Messages in messages: deeper is no configuration.
const MAX_DEPTH: usize = 32;

/// The fields of a message, in their order; a repeated one several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message(pub(crate) Vec<(String, Value)>);

/// What a field holds. Numbers and names of enumerations are kept as they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Word(String),
    Message(Message),
}

impl Message {
    /// Parses a whole file.
    ///
    /// # Errors
    /// A line that says what is wrong, and in which line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // Some editors write a mark of the order of bytes.
        let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
        let message = reader.fields(None, 0)?;
        Ok(message)
    }

    /// All values of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value)
    }

    /// The last value of a name, which is the one that counts.
    pub(crate) fn get<'a>(&'a self, name: &'a str) -> Option<&'a Value> {
        self.all(name).last()
    }

    pub(crate) fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.get(name)? {
            Value::Text(text) | Value::Word(text) => Some(text),
            Value::Message(_) => None,
        }
    }

    /// A whole number that is not negative. `path` is how the field is called in messages; its last part is its name.
    ///
    /// # Errors
    /// A line that says what is there instead.
    pub(crate) fn number(&self, path: &str) -> Result<Option<u64>, String> {
        self.numbers(path).map(|numbers| numbers.last().copied())
    }

    /// All whole numbers of a field.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub(crate) fn numbers(&self, path: &str) -> Result<Vec<u64>, String> {
        let name = path.rsplit('.').next().unwrap_or(path);
        let number = |value: &Value| match value {
            Value::Word(word) => {
                let digits = |start: &str, radix| u64::from_str_radix(word.strip_prefix(start)?, radix).ok();
                let read =
                    digits("0x", 16).or_else(|| digits("0X", 16)).or_else(|| digits("0", 8)).or(word.parse().ok());
                read.ok_or_else(|| format!("`{path}` is {word}; expected a number, 0 or more"))
            }
            Value::Text(text) => Err(format!("`{path}` is the text \"{text}\"; expected a number without quotes")),
            Value::Message(_) => Err(format!("`{path}` is a message; expected a number")),
        };
        self.all(name).map(number).collect()
    }

    pub(crate) fn messages<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Message> {
        self.all(name).filter_map(|value| match value {
            Value::Message(message) => Some(message),
            Value::Text(_) | Value::Word(_) => None,
        })
    }

    pub(crate) fn message<'a>(&'a self, name: &'a str) -> Option<&'a Message> {
        self.messages(name).last()
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    /// Fields up to `end`, which is consumed.
    fn fields(&mut self, end: Option<char>, depth: usize) -> Result<Message, String> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("messages are nested too deep"));
        }
        let mut fields = Vec::new();
        loop {
            self.space();
            while self.take(',') || self.take(';') {
                self.space();
            }
            match (end, self.rest.chars().next()) {
                (None, None) => return Ok(Message(fields)),
                (Some(end), Some(next)) if next == end => {
                    self.take(end);
                    return Ok(Message(fields));
                }
                (Some(end), None) => return Err(self.wrong(&format!("'{end}' is missing"))),
                _ => {}
            }
            let is_plain = |name: &String| !name.starts_with(|first: char| first.is_ascii_digit());
            let name = if self.rest.starts_with('[') { self.extension() } else { self.word().filter(is_plain) };
            let name = name.ok_or_else(|| self.wrong("expected the name of a field"))?;
            self.space();
            let colon = self.take(':');
            self.space();
            if self.take('[') {
                loop {
                    self.space();
                    if self.take(']') {
                        break;
                    }
                    let value = self.value(true, depth)?;
                    fields.push((name.clone(), value));
                    self.space();
                    if !self.take(',') && !self.rest.starts_with(']') {
                        return Err(self.wrong("expected ',' or ']'"));
                    }
                }
            } else {
                let value = self.value(colon, depth)?;
                fields.push((name, value));
            }
        }
    }

    fn value(&mut self, scalars: bool, depth: usize) -> Result<Value, String> {
        if self.take('{') {
            return self.fields(Some('}'), depth + 1).map(Value::Message);
        }
        if self.take('<') {
            return self.fields(Some('>'), depth + 1).map(Value::Message);
        }
        if !scalars {
            return Err(self.wrong("expected ':' or '{'"));
        }
        if self.rest.starts_with(['"', '\'']) {
            let mut text = String::new();
            // Strings side by side are one.
            while let Some(quote) = self.rest.chars().next().filter(|next| matches!(next, '"' | '\'')) {
                self.take(quote);
                self.string(quote, &mut text)?;
                self.space();
            }
            return Ok(Value::Text(text));
        }
        self.word().map(Value::Word).ok_or_else(|| self.wrong("expected a value"))
    }

    /// The name of an extension or of a type, in brackets.
    fn extension(&mut self) -> Option<String> {
        let end = self.rest.find(']')?;
        let (name, rest) = self.rest.split_at(end + 1);
        let part =
            |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '[' | ']' | '_' | '-' | '.' | '/' | ' ');
        self.rest = rest;
        name.chars().all(part).then(|| name.to_owned())
    }

    /// Up to the quote. Escapes may name bytes, so that the text is one once all are read.
    fn string(&mut self, quote: char, text: &mut String) -> Result<(), String> {
        let mut bytes = Vec::new();
        loop {
            let Some(letter) = self.rest.chars().next().filter(|letter| *letter != '\n') else {
                return Err(self.wrong("a text does not end in its line"));
            };
            self.rest = &self.rest[letter.len_utf8()..];
            match letter {
                '\\' => self.escape(&mut bytes)?,
                _ if letter == quote => break,
                _ => bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        text.push_str(std::str::from_utf8(&bytes).map_err(|_| self.wrong("a text that is not UTF-8"))?);
        Ok(())
    }

    /// What stands behind a backslash.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let wrong = |reader: &Self| reader.wrong("an escape that is not read");
        let Some(kind) = self.rest.chars().next() else { return Err(wrong(self)) };
        if let '0'..='7' = kind {
            // Of four digits the last would be a letter of its own.
            let number = self.digits(8, 1, 3).and_then(|number| u8::try_from(number).ok());
            bytes.push(number.ok_or_else(|| wrong(self))?);
            return Ok(());
        }
        self.rest = &self.rest[kind.len_utf8()..];
        let plain = match kind {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0x0b,
            '?' | '"' | '\'' | '\\' => kind as u8,
            'x' | 'X' => {
                let number = self.digits(16, 1, 2).and_then(|number| u8::try_from(number).ok());
                number.ok_or_else(|| wrong(self))?
            }
            'u' | 'U' => {
                let count = if kind == 'u' { 4 } else { 8 };
                let letter = self.digits(16, count, count).and_then(char::from_u32).ok_or_else(|| wrong(self))?;
                bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes());
                return Ok(());
            }
            _ => return Err(wrong(self)),
        };
        bytes.push(plain);
        Ok(())
    }

    /// The number in the next `least` to `most` digits.
    fn digits(&mut self, radix: u32, least: usize, most: usize) -> Option<u32> {
        let count = self.rest.chars().take(most).take_while(|letter| letter.is_digit(radix)).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        if count < least { None } else { u32::from_str_radix(digits, radix).ok() }
    }

    fn word(&mut self) -> Option<String> {
        let part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '+' | '.');
        let end = self.rest.find(|letter| !part(letter)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then(|| word.to_owned())
    }

    fn take(&mut self, letter: char) -> bool {
        match self.rest.strip_prefix(letter) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn space(&mut self) {
        loop {
            let trimmed = self.rest.trim_start();
            self.line += self.rest[..self.rest.len() - trimmed.len()].matches('\n').count();
            self.rest = trimmed;
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
    }

    fn wrong(&self, what: &str) -> String {
        format!("line {}: {what}", self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_field_is_read() {
        let text = "name: \"a\" 'b' # a comment\nnested { x: 1; y: TRUE }\nlist: [ 1, 2 ] list: 3\n\
                    groups [ { k: -1.5e3 }, { k: 2 } ]\nempty: []\nold < z: 1 >";
        let message = Message::parse(text).expect("valid");
        assert_eq!(message.text("name"), Some("ab"));
        assert_eq!(message.message("nested").expect("one").text("y"), Some("TRUE"));
        assert_eq!(message.all("list").count(), 3);
        let groups: Vec<_> = message.messages("groups").map(|group| group.text("k")).collect();
        assert_eq!(groups, [Some("-1.5e3"), Some("2")]);
        assert_eq!(message.message("old").expect("one").number("z"), Ok(Some(1)));
    }

    #[test]
    fn escapes_are_bytes() {
        let text = r#"a: "\x6d\155\u00e4\U0001F33C\303\244\?\'\a" [my.ext/field]: 1"#;
        let message = Message::parse(text).expect("valid");
        assert_eq!(message.text("a"), Some("mmä\u{1f33c}ä?'\u{7}"));
        assert_eq!(Message::parse("\u{feff}a: 1").expect("valid").number("a"), Ok(Some(1)));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, expected) in [
            ("a: 1\nb {", "line 2: '}' is missing"),
            ("a 1", "line 1: expected ':' or '{'"),
            ("a: \"x\n\"", "line 1: a text does not end"),
            ("a: [1 2]", "line 1: expected ',' or ']'"),
            ("\n\n{", "line 3: expected the name"),
            ("a: \"\\q\"", "line 1: an escape"),
            ("a: \"\\x\"", "line 1: an escape"),
            ("a: \"\\u12\"", "line 1: an escape"),
            ("a: \"\\ud800\"", "line 1: an escape"),
            ("a: \"\\400\"", "line 1: an escape"),
            ("a: \"\\xff\"", "line 1: a text that is not UTF-8"),
            ("[a: 1", "line 1: expected the name"),
        ] {
            let message = Message::parse(text).expect_err(text);
            assert!(message.starts_with(expected), "{text}: {message}");
        }
        let deep = "a {".repeat(100);
        assert!(Message::parse(&deep).expect_err("deep").contains("too deep"));
    }
}
