//! The token for Hugging Face's hub, where its own tools keep it.
//!
//! Names and order are those of `huggingface_hub` (`utils/_auth.py`, `constants.py`).

use std::io::ErrorKind;
use std::path::PathBuf;

use corymb_core::files;

use crate::store::client::{Environment, is_true, set};
use crate::store::credentials::expanded;
use crate::store::credentials::identity::{Absent, Identity};

/// The largest file of a token that is read.
const MAX: u64 = 64 << 10;
/// Switches off the token of whom nothing asks for it.
const DISABLED: &str = "HF_HUB_DISABLE_IMPLICIT_TOKEN";

/// The token to send to the hub, if any, and whose it is.
pub(crate) fn hub_token(environment: &Environment) -> (Option<String>, Identity) {
    if is_true(set(environment, DISABLED)) {
        return (None, Identity::Declined(DISABLED.to_owned()));
    }
    let mut looked = Vec::new();
    for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = set(environment, variable).and_then(trimmed) {
            return (Some(token), Identity::Found(format!("asked with the token in {variable}")));
        }
        looked.push(variable.to_owned());
    }
    for path in places(environment) {
        match files::read_text(&path, MAX) {
            Ok(text) => match trimmed(&text) {
                Some(token) => {
                    let words = format!("asked with the token in {}", path.display());
                    return (Some(token), Identity::Found(words));
                }
                None => looked.push(format!("{} (empty)", path.display())),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => looked.push(path.display().to_string()),
            Err(error) => looked.push(format!("{} ({error})", path.display())),
        }
    }
    (None, Identity::Absent(Absent::token(looked, "set HF_TOKEN or run `hf auth login`")))
}

fn trimmed(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

fn places(environment: &Environment) -> Vec<PathBuf> {
    let of = |variable: &str| set(environment, variable).map(|path| expanded(path, environment));
    let home = set(environment, "HOME").map(PathBuf::from);
    let places = [
        of("HF_TOKEN_PATH"),
        of("HF_HOME").map(|home| home.join("token")),
        of("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/token")),
        home.map(|home| home.join(".cache/huggingface/token")),
    ];
    places.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Environment, Identity, hub_token};
    use crate::store::fault::Fault;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    #[test]
    fn the_first_token_counts() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let at = |path: &str| root.path().join(path).to_string_lossy().into_owned();
        // From the last place to the first.
        let steps = [
            ("HOME", at("home"), Some("home/.cache/huggingface/token")),
            ("XDG_CACHE_HOME", at("xdg"), Some("xdg/huggingface/token")),
            ("HF_HOME", at("hf"), Some("hf/token")),
            ("HF_TOKEN_PATH", at("own"), Some("own")),
            ("HUGGING_FACE_HUB_TOKEN", "old-name".to_owned(), None),
            ("HF_TOKEN", " new-name\n".to_owned(), None),
        ];
        let mut environment = Environment::new();
        for (variable, value, file) in steps {
            let place = file.map_or(variable.to_owned(), at);
            let expected = file.map_or(value.trim().to_owned(), |_| format!("token-of-{variable}"));
            environment.insert(variable.to_owned(), value);
            if let Some(file) = file {
                write(&root.path().join(file), &format!("  token-of-{variable}\n"));
            }
            let (token, identity) = hub_token(&environment);
            assert_eq!(token, Some(expected));
            assert_eq!(identity, Identity::Found(format!("asked with the token in {place}")));
        }
        environment.insert("HF_HUB_DISABLE_IMPLICIT_TOKEN".to_owned(), "1".to_owned());
        let declined = Identity::Declined("HF_HUB_DISABLE_IMPLICIT_TOKEN".to_owned());
        assert_eq!(hub_token(&environment), (None, declined));
    }

    #[test]
    fn where_it_was_looked_for_is_said() {
        let environment = Environment::from([("HOME".to_owned(), "/nowhere".to_owned())]);
        let (token, identity) = hub_token(&environment);
        assert_eq!(token, None);
        let refusal = identity.explain(Fault::refused("the server answered 401 Unauthorized")).reason;
        let expected = "the server answered 401 Unauthorized; no token was found (looked at HF_TOKEN, \
                        HUGGING_FACE_HUB_TOKEN, /nowhere/.cache/huggingface/token): set HF_TOKEN or run `hf auth login`";
        assert_eq!(refusal, expected);
    }
}
