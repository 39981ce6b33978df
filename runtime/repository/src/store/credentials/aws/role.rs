//! Roles: AWS's Security Token Service gives temporary credentials for keys or for a token.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

use std::path::PathBuf;

use corymb_core::files;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::HttpRequest;

use crate::store::client::Client;
use crate::store::credentials::MAX_FILE;
use crate::store::credentials::aws::credential;
use crate::store::credentials::exchange::{ask, fault_of, form, time, within};
use crate::store::credentials::renewed::{Fetch, Temporary};
use crate::store::fault::Fault;

/// Where roles are asked for.
#[derive(Clone)]
pub(super) struct Sts {
    pub(super) client: Client,
    pub(super) endpoint: String,
    pub(super) region: String,
}

/// A role, and how it is to be held.
pub(super) struct Role {
    pub(super) arn: String,
    /// What the role's owner sees in logs.
    pub(super) session: String,
    pub(super) external_id: Option<String>,
    /// Seconds.
    pub(super) duration: Option<u32>,
    /// Who names it, for messages.
    pub(super) of: String,
}

impl Role {
    async fn assume(&self, sts: &Sts, action: &str, further: &[(&str, &str)], by: Option<&AwsCredential>) -> Fetched {
        let duration = self.duration.map(|seconds| seconds.to_string());
        let mut fields = vec![
            ("Action", action),
            ("Version", "2011-06-15"),
            ("RoleArn", &self.arn),
            ("RoleSessionName", &self.session),
        ];
        fields.extend(duration.as_deref().map(|seconds| ("DurationSeconds", seconds)));
        fields.extend(further);
        let asked = async {
            let mut request = form(&sts.endpoint, &fields)?;
            if let Some(credential) = by {
                sign(&mut request, credential, &sts.region)?;
            }
            let body = ask(&sts.client, request).await?;
            read(&String::from_utf8_lossy(&body))
        };
        let what = format!("the role {} of {} could not be assumed at {}", self.arn, self.of, sts.endpoint);
        asked.await.map_err(within(what))
    }
}

type Fetched = Result<Temporary<AwsCredential>, Fault>;

fn sign(request: &mut HttpRequest, credential: &AwsCredential, region: &str) -> Result<(), Fault> {
    let signed = AwsAuthorizer::new(credential, "sts", region).try_authorize(request, None);
    signed.map_err(|error| fault_of(&error))
}

/// The credentials in an answer in XML. Their characters are never written as entities.
fn read(xml: &str) -> Fetched {
    let element = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
    };
    let need = |name: &str| element(name).ok_or_else(|| Fault::refused(format!("its answer has no {name}")));
    let (id, secret, token) = (need("AccessKeyId")?, need("SecretAccessKey")?, need("SessionToken")?);
    let credential = credential("its answer", id, secret, Some(token))?;
    Ok(Temporary { credential, expires: Some(time(need("Expiration")?)?) })
}

/// A role for who holds other credentials.
pub(super) struct AssumedRole {
    pub(super) sts: Sts,
    pub(super) role: Role,
    pub(super) source: AwsCredentialProvider,
}

#[async_trait::async_trait]
impl Fetch for AssumedRole {
    type Credential = AwsCredential;

    async fn fetch(&self) -> Fetched {
        let source = self.source.get_credential().await.map_err(|error| {
            let what = format!("the role {} of {} needs other credentials first", self.role.arn, self.role.of);
            within(what)(fault_of(&error))
        })?;
        let external = self.role.external_id.as_deref().map(|id| ("ExternalId", id));
        let further: Vec<_> = external.into_iter().collect();
        self.role.assume(&self.sts, "AssumeRole", &further, Some(&source)).await
    }
}

/// A role for who holds a token of another issuer, as the pods of a cluster do.
pub(super) struct WebIdentity {
    pub(super) sts: Sts,
    pub(super) role: Role,
    /// Read anew each time, since the cluster replaces it.
    pub(super) token_file: PathBuf,
}

#[async_trait::async_trait]
impl Fetch for WebIdentity {
    type Credential = AwsCredential;

    async fn fetch(&self) -> Fetched {
        let unreadable = |error: std::io::Error| {
            Fault::refused(format!("the token of {} in {}: {error}", self.role.of, self.token_file.display()))
        };
        let token = files::read_text(&self.token_file, MAX_FILE).map_err(unreadable)?;
        let further = [("WebIdentityToken", token.trim())];
        self.role.assume(&self.sts, "AssumeRoleWithWebIdentity", &further, None).await
    }
}
