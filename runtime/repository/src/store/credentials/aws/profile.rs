//! What a profile names: keys, a role, a program, a single sign-on.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::AwsCredentialProvider;

use crate::store::client::{Client, Environment, set};
use crate::store::credentials::aws::files::{Keys, Profile, SharedFiles};
use crate::store::credentials::aws::machine::{container, instance};
use crate::store::credentials::aws::process::Process;
use crate::store::credentials::aws::role::{AssumedRole, Role, Sts, WebIdentity};
use crate::store::credentials::aws::sign_on::{SignOn, token_file};
use crate::store::credentials::aws::{credential, own_keys, service};
use crate::store::credentials::expanded;
use crate::store::credentials::renewed::Renewed;
use crate::store::fault::Fault;

/// Credentials, and whose they are: words that end a sentence.
pub(super) type Found = (AwsCredentialProvider, String);

/// What profiles are resolved with.
pub(super) struct Resolver<'a> {
    pub(super) files: &'a SharedFiles,
    pub(super) client: &'a Client,
    pub(super) environment: &'a Environment,
    pub(super) sts: Sts,
}

impl Resolver<'_> {
    /// The role that a profile asks for with other credentials; none where it asks for none, or with a token, before which one of
    /// the environment counts.
    pub(super) fn assumed(&self, profile: &Profile<'_>) -> Result<Option<Found>, Fault> {
        if profile.get("role_arn").is_none() || profile.get("web_identity_token_file").is_some() {
            return Ok(None);
        }
        self.role(profile, &mut Vec::new()).map(Some)
    }

    /// The credentials that a profile names; none where it names none.
    pub(super) fn profile(&self, profile: &Profile<'_>) -> Result<Option<Found>, Fault> {
        self.follow(profile, &mut Vec::new())
    }

    /// `above` are the profiles that led here.
    fn follow(&self, profile: &Profile<'_>, above: &mut Vec<String>) -> Result<Option<Found>, Fault> {
        if profile.get("role_arn").is_some() {
            return self.role(profile, above).map(Some);
        }
        if profile.get("sso_session").or_else(|| profile.get("sso_start_url")).is_some() {
            return self.sign_on(profile).map(Some);
        }
        self.keys(profile)
    }

    /// Keys, or a program that prints them; in the order of AWS's command line.
    fn keys(&self, profile: &Profile<'_>) -> Result<Option<Found>, Fault> {
        let stands = |(id, secret, token): Keys<'_>| -> Result<Found, Fault> {
            let of = profile.shown("aws_access_key_id");
            let keys = credential(&of, id, secret, token)?;
            Ok((Arc::new(StaticCredentialProvider::new(keys)), format!("signed with the keys of {of}")))
        };
        if let Some(keys) = profile.keys(true)? {
            return stands(keys).map(Some);
        }
        if let Some(command) = profile.get("credential_process") {
            let of = profile.shown("credential_process");
            let process = Process::new(command, self.environment, &of)?;
            return Ok(Some((
                Renewed::new(process),
                format!("signed with what the credential_process of {of} printed"),
            )));
        }
        profile.keys(false)?.map(stands).transpose()
    }

    fn role(&self, profile: &Profile<'_>, above: &mut Vec<String>) -> Result<Found, Fault> {
        let of = profile.shown("role_arn");
        let role = self.role_of(profile)?;
        let words = format!("signed as the role {} of {of}", role.arn);
        let ways = ["source_profile", "credential_source", "web_identity_token_file"];
        let ways: Vec<_> = ways.into_iter().filter(|way| profile.get(way).is_some()).collect();
        let [way] = ways[..] else {
            let which = if ways.is_empty() { "none".to_owned() } else { ways.join(" and ") };
            let expected = "expected one of source_profile, credential_source and web_identity_token_file";
            return Err(Fault::refused(format!("{of} has role_arn and {which}; {expected}")));
        };
        let named = profile.need(way, "role_arn")?;
        let sts = self.sts.clone();
        if way == "web_identity_token_file" {
            let token_file = expanded(named, self.environment);
            return Ok((Renewed::new(WebIdentity { sts, role, token_file }), words));
        }
        if let Some(serial) = profile.get("mfa_serial") {
            let reason =
                format!("{of} needs a code of the device {serial} (mfa_serial), which nobody is asked for here");
            return Err(Fault::refused(reason));
        }
        let source = match way {
            "source_profile" => self.source(profile, named, above)?,
            _ => self.machine(&of, named)?,
        };
        Ok((Renewed::new(AssumedRole { sts, role, source }), words))
    }

    fn role_of(&self, profile: &Profile<'_>) -> Result<Role, Fault> {
        let of = profile.shown("role_arn");
        let duration = profile.get("duration_seconds").map(|seconds| {
            let expected = || Fault::refused(format!("duration_seconds of {of} is '{seconds}'; expected a number"));
            seconds.parse().map_err(|_| expected())
        });
        Ok(Role {
            arn: profile.need("role_arn", "role_arn")?.to_owned(),
            session: profile.get("role_session_name").unwrap_or("corymb").to_owned(),
            external_id: profile.get("external_id").map(str::to_owned),
            duration: duration.transpose()?,
            of,
        })
    }

    /// The credentials that a role is asked for with, of the profile `name`.
    fn source(&self, of: &Profile<'_>, name: &str, above: &mut Vec<String>) -> Result<AwsCredentialProvider, Fault> {
        above.push(of.name.clone());
        let incomplete = |what: &str| {
            let shown = of.shown("source_profile");
            Fault::refused(format!("{shown} names '{name}' as source_profile, {what}"))
        };
        if above.iter().any(|known| known == name) && name != of.name {
            let chain = above.join(" -> ");
            return Err(Fault::refused(format!("the profiles {chain} -> {name} name each other as source_profile")));
        }
        let Some(source) = self.files.profile(name) else {
            return Err(incomplete(&format!("which no file has (looked in {})", self.files.shown().join(", "))));
        };
        // A profile may name itself: its role is asked for with its keys.
        let found = if name == of.name { self.keys(&source)? } else { self.follow(&source, above)? };
        found.map(|(provider, _)| provider).ok_or_else(|| incomplete("which has no credentials"))
    }

    /// As [`Resolver::source`], of the surroundings.
    fn machine(&self, of: &str, named: &str) -> Result<AwsCredentialProvider, Fault> {
        let nothing = |what: &str| Fault::refused(format!("{of} has credential_source = {named}, and {what}"));
        match named {
            "Environment" => own_keys(self.environment, "AWS_ACCESS_KEY_ID")?
                .ok_or_else(|| nothing("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")),
            "Ec2InstanceMetadata" => instance(self.client, self.environment)?
                .ok_or_else(|| nothing("AWS_EC2_METADATA_DISABLED switches that off")),
            "EcsContainer" => container(self.client, self.environment)?
                .map(|(provider, _)| provider)
                .ok_or_else(|| nothing("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set")),
            _ => Err(nothing("that is none; expected Environment, Ec2InstanceMetadata or EcsContainer")),
        }
    }

    fn sign_on(&self, profile: &Profile<'_>) -> Result<Found, Fault> {
        let by = if profile.get("sso_session").is_some() { "sso_session" } else { "sso_start_url" };
        let of = profile.shown(by);
        let key = profile.need(by, by)?;
        let region = if by == "sso_session" {
            let Some(session) = self.files.session(key) else {
                let files = self.files.shown().join(", ");
                return Err(Fault::refused(format!(
                    "{of} names the sso-session '{key}', which no file has (looked in {files})"
                )));
            };
            let lacks = |what: &str| Fault::refused(format!("the sso-session '{key}' of {of} has no {what}"));
            let _ = session.get("sso_start_url").ok_or_else(|| lacks("sso_start_url"))?;
            session.get("sso_region").ok_or_else(|| lacks("sso_region"))?
        } else {
            profile.need("sso_region", by)?
        };
        let (account, role) = (profile.need("sso_account_id", by)?, profile.need("sso_role_name", by)?);
        let own = set(self.environment, "AWS_ENDPOINT_URL_SSO").map(|url| url.trim_end_matches('/').to_owned());
        let sign_on = SignOn {
            client: self.client.clone(),
            endpoint: own.unwrap_or_else(|| service("portal.sso", region)),
            account: account.to_owned(),
            role: role.to_owned(),
            token_file: token_file(self.environment, key)?,
            profile: profile.name.clone(),
            of: of.clone(),
        };
        let words = format!("signed as the role '{role}' of the account {account} by IAM Identity Center, for {of}");
        Ok((Renewed::new(sign_on), words))
    }
}
