//! Who asks a store, in words for its refusals; never a secret.

use crate::store::fault::Fault;

/// Who asks a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Somebody, in words that end a sentence: `signed with the keys in AWS_ACCESS_KEY_ID`.
    Found(String),
    /// Nobody, because this variable or setting asks for it.
    Declined(String),
    /// Nobody, though it was looked for.
    Absent(Absent),
}

/// What was looked for in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Absent {
    /// Where: variables, files, servers, in the order in which they were asked.
    pub(crate) looked: Vec<String>,
    /// What was missing and what followed from it, around the places.
    pub(crate) missing: (&'static str, &'static str),
    /// What would help.
    pub(crate) help: &'static str,
}

impl Absent {
    /// Credentials of a bucket, which are not needed where it is public.
    pub(crate) fn credentials(looked: Vec<String>, help: &'static str) -> Self {
        Self { looked, missing: ("no credentials were found", ", so the request was not signed"), help }
    }

    /// A token.
    pub(crate) fn token(looked: Vec<String>, help: &'static str) -> Self {
        Self { looked, missing: ("no token was found", ""), help }
    }
}

impl Identity {
    /// A refusal, and who was refused: without credentials it may only mean that there were none.
    pub(crate) fn explain(&self, mut fault: Fault) -> Fault {
        if is_refusal(&fault.reason) {
            fault.reason.push_str("; ");
            fault.reason.push_str(&self.words());
        }
        fault
    }

    /// Who asks by a URL that names no user.
    pub(crate) fn of_nobody_in_a_url() -> Self {
        let missing = ("no user was found", "");
        let help = "write https://USER:PASSWORD@HOST/PATH";
        Self::Absent(Absent { looked: vec!["the URL".to_owned()], missing, help })
    }

    /// What a refusal ends with.
    fn words(&self) -> String {
        match self {
            Self::Found(words) => words.clone(),
            Self::Declined(by) => format!("no credentials were sent, as {by} asks"),
            Self::Absent(Absent { looked, missing: (missing, result), help }) => {
                format!("{missing} (looked at {}){result}: {help}", looked.join(", "))
            }
        }
    }
}

/// Whether a store refused who asked. What says so begins with the answer; a failure to obtain credentials begins with
/// what they were asked for. Some stores refuse by other codes: S3 old credentials, Azure all that are missing.
fn is_refusal(reason: &str) -> bool {
    let Some(status) = reason.strip_prefix("the server answered ") else { return false };
    let codes = ["ExpiredToken", "InvalidToken", "PublicAccessNotPermitted"];
    status.starts_with("401") || status.starts_with("403") || codes.iter().any(|code| status.contains(code))
}

#[cfg(test)]
mod tests {
    use super::{Absent, Fault, Identity};

    fn said(identity: &Identity, reason: &str) -> String {
        identity.explain(Fault::refused(reason)).reason
    }

    #[test]
    fn refusals_say_who_was_refused() {
        let keys = Identity::Found("signed with the keys in AWS_ACCESS_KEY_ID".to_owned());
        let forbidden = "the server answered 403 Forbidden (AccessDenied: Access Denied)";
        assert_eq!(said(&keys, forbidden), format!("{forbidden}; signed with the keys in AWS_ACCESS_KEY_ID"));
        let expired = "the server answered 400 Bad Request (ExpiredToken: The token is old)";
        assert!(said(&keys, expired).ends_with("; signed with the keys in AWS_ACCESS_KEY_ID"));
        let looked = vec!["AWS_ACCESS_KEY_ID".to_owned(), "/x/.aws/config".to_owned()];
        let absent = Identity::Absent(Absent::credentials(looked, "set AWS_ACCESS_KEY_ID"));
        let expected = "the server answered 401 Unauthorized; no credentials were found (looked at AWS_ACCESS_KEY_ID, \
                        /x/.aws/config), so the request was not signed: set AWS_ACCESS_KEY_ID";
        assert_eq!(said(&absent, "the server answered 401 Unauthorized"), expected);
        let declined = Identity::Declined("AWS_SKIP_SIGNATURE".to_owned());
        assert!(said(&declined, forbidden).ends_with("; no credentials were sent, as AWS_SKIP_SIGNATURE asks"));
    }

    #[test]
    fn other_faults_stay_as_they_are() {
        let identity = Identity::Found("x".to_owned());
        for reason in ["the server answered 404 Not Found", "no answer for 10 s", "the role a: the server answered 403"]
        {
            assert_eq!(said(&identity, reason), reason);
        }
    }
}
