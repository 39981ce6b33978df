//! What a registry asks for before it answers: RFC 9110, 11.6.1, and the token server of
//! <https://distribution.github.io/distribution/spec/auth/token/>.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password.
    Basic,
    /// A token, of another server.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The one that is taken up; none where no known one is there.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
        let all: Vec<Self> = values.filter_map(|value| Self::parse(value.to_str().ok()?)).collect();
        all.iter().find(|challenge| **challenge != Self::Basic).or(all.first()).cloned()
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let value = |name: &str| {
            let found = parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        Some(Self::Bearer { realm: value("realm")?, service: value("service"), scope: value("scope") })
    }
}

/// `NAME=VALUE` parted by commas, where a value may stand in quotes.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_owned();
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let mut end = rest.len();
        let is_quoted = rest.starts_with('"');
        if is_quoted {
            letters.next();
        }
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' if is_quoted => value.extend(letters.next().map(|(_, letter)| letter)),
                '"' if is_quoted => {
                    end = at + 1;
                    break;
                }
                ',' if !is_quoted => {
                    end = at;
                    break;
                }
                _ => value.push(letter),
            }
        }
        found.push((name, value.trim().to_owned()));
        text = &rest[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Challenge, HeaderMap, WWW_AUTHENTICATE};

    fn of(values: &[&str]) -> Option<Challenge> {
        let headers: HeaderMap = values.iter().map(|value| (WWW_AUTHENTICATE, value.parse().expect("valid"))).collect();
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Challenge::Bearer { realm: realm.to_owned(), service: given(service), scope: given(scope) }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                   scope=\"repository:library/x:pull,push\"";
        let expected = bearer("https://auth.docker.io/token", "registry.docker.io", "repository:library/x:pull,push");
        assert_eq!(of(&[hub]), Some(expected));
        assert_eq!(of(&["bearer realm=https://h/t, service=a b"]), Some(bearer("https://h/t", "a b", "")));
        assert_eq!(of(&["Bearer realm=\"https://h/\\\"t\", error=\"x"]), Some(bearer("https://h/\"t", "", "")));
        assert_eq!(of(&["Basic realm=\"x\"", "Bearer realm=\"y\""]), Some(bearer("y", "", "")));
        assert_eq!(of(&["Basic realm=\"Registry Realm\""]), Some(Challenge::Basic));
        for none in ["Bearer", "Bearer service=\"x\"", "Negotiate", ""] {
            assert_eq!(of(&[none]), None, "{none}");
        }
        assert_eq!(of(&[]), None);
    }
}
