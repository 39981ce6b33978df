//! IAM Identity Center: who signed in by `aws sso login` holds a token, for which its portal gives credentials.
//!
//! <https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html>

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use corymb_core::files;
use object_store::aws::AwsCredential;
use sha1::{Digest as _, Sha1};
use url::form_urlencoded::Serializer;

use crate::store::client::{Client, Environment, set};
use crate::store::credentials::MAX_FILE;
use crate::store::credentials::aws::credential;
use crate::store::credentials::exchange::{ask_json, get, given, text, time, within};
use crate::store::credentials::renewed::{Fetch, Temporary};
use crate::store::fault::Fault;

/// A role in an account that somebody signed in for.
pub(super) struct SignOn {
    pub(super) client: Client,
    /// Of the portal.
    pub(super) endpoint: String,
    pub(super) account: String,
    pub(super) role: String,
    /// Where `aws sso login` keeps the token.
    pub(super) token_file: PathBuf,
    /// The profile, for messages.
    pub(super) profile: String,
    pub(super) of: String,
}

/// Where the token is kept that belongs to the name of a session, or to the address of a portal.
pub(super) fn token_file(environment: &Environment, key: &str) -> Result<PathBuf, Fault> {
    let home = set(environment, "HOME");
    let home = home.ok_or_else(|| Fault::refused("HOME is not set, below which the token of `aws sso login` lies"))?;
    let name: String = Sha1::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(PathBuf::from(home).join(".aws/sso/cache").join(format!("{name}.json")))
}

impl SignOn {
    /// The token, while it is valid.
    fn token(&self) -> Result<String, Fault> {
        let again = |what: &str| {
            let (of, profile, file) = (&self.of, &self.profile, self.token_file.display());
            Fault::refused(format!("{of} needs `aws sso login --profile {profile}`: the token in {file} {what}"))
        };
        let json = match files::read_text(&self.token_file, MAX_FILE) {
            Ok(json) => json,
            Err(error) => return Err(again(&format!("cannot be read ({error})"))),
        };
        let json = serde_json::from_str(&json).map_err(|_| again("is not JSON"))?;
        let expires = text(&json, "expiresAt").and_then(time);
        match (given(&json, "accessToken"), expires) {
            (Some(token), Ok(expires)) if SystemTime::now() < expires => Ok(token.to_owned()),
            (Some(_), Ok(_)) => Err(again("has expired")),
            _ => Err(again("has no accessToken or no expiresAt")),
        }
    }
}

#[async_trait::async_trait]
impl Fetch for SignOn {
    type Credential = AwsCredential;

    async fn fetch(&self) -> Result<Temporary<AwsCredential>, Fault> {
        let token = self.token()?;
        let query = Serializer::new(String::new())
            .append_pair("role_name", &self.role)
            .append_pair("account_id", &self.account)
            .finish();
        let url = format!("{}/federation/credentials?{query}", self.endpoint);
        let (role, account, of) = (&self.role, &self.account, &self.of);
        let what = format!("the role '{role}' of the account {account}, which {of} asks for at {}", self.endpoint);
        let asked = async {
            let answer = ask_json(&self.client, get(&url, &[("x-amz-sso_bearer_token", &token)])?).await?;
            let keys = &answer["roleCredentials"];
            let (id, secret) = (text(keys, "accessKeyId")?, text(keys, "secretAccessKey")?);
            let credential = credential("its answer", id, secret, Some(text(keys, "sessionToken")?))?;
            // Milliseconds.
            let expires = keys["expiration"].as_u64().map(Duration::from_millis);
            Ok(Temporary { credential, expires: expires.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)) })
        };
        asked.await.map_err(|fault: Fault| {
            // A token may be revoked before it expires.
            let login = fault.reason.starts_with("the server answered 401");
            let mut fault = within(what)(fault);
            if login {
                fault.reason.push_str(&format!(": run `aws sso login --profile {}`", self.profile));
            }
            fault
        })
    }
}
