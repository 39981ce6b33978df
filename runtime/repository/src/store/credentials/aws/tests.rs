//! AWS's chain against a server on this machine: who is found, what is asked for, and what is said when it fails.

use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use serde_json::json;
use tempfile::TempDir;

use crate::store::client::{Client, Environment};
use crate::store::credentials::aws::files::SharedFiles;
use crate::store::credentials::aws::{Asked, service, store, with_bucket};
use crate::store::credentials::server::{Reply, Request, Server, environment};
use crate::store::credentials::{Identity, kserve};
use crate::store::fault::Fault;
use crate::uri::{BucketPlace, Provider};

const ROLE: &str = "arn:aws:iam::1:role/reader";

/// A home with AWS's files, and a server that is S3, STS, the portal of single sign-ons and the metadata server.
struct World {
    server: Server,
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl World {
    async fn new(credentials: &str, config: &str) -> Self {
        Self::with(credentials, config, reply).await
    }

    async fn with(credentials: &str, config: &str, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let server = Server::start(reply).await;
        let home = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(home.path().join(".aws/sso/cache")).expect("made");
        std::fs::write(home.path().join(".aws/credentials"), credentials).expect("written");
        std::fs::write(home.path().join(".aws/config"), config).expect("written");
        let world = Self { server, home, variables: Vec::new() };
        let url = world.server.url.clone();
        let home = world.home.path().to_string_lossy().into_owned();
        world
            .and("HOME", &home)
            .and("AWS_ENDPOINT_URL_S3", &url)
            .and("AWS_ENDPOINT_URL_STS", &url)
            .and("AWS_ENDPOINT_URL_SSO", &url)
            .and("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)
            .and("AWS_REGION", "eu-west-1")
    }

    fn and(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn environment(&self) -> Environment {
        self.variables.iter().cloned().collect()
    }

    fn path(&self, file: &str) -> String {
        self.home.path().join(".aws").join(file).to_string_lossy().into_owned()
    }

    async fn open(&self) -> Result<(Arc<dyn ObjectStore>, Identity), Fault> {
        let client = Client::new(&Environment::new()).expect("a client");
        let (bucket, path) = ("models".to_owned(), "m".to_owned());
        let place = BucketPlace { provider: Provider::S3, bucket, account: None, signature: None, path };
        store(&place, &client, &self.environment()).await.map(|opened| (opened.store, opened.identity))
    }

    /// Who asks, and the key and token that S3 was asked with.
    async fn asks(&self) -> (Identity, Option<String>, Option<String>) {
        let (store, identity) = self.open().await.expect("understood");
        let listed = store.list_with_delimiter(None).await;
        let _ = listed.expect("the list");
        let requests = self.server.requests();
        let last = requests.last().expect("one");
        let key = last.header("authorization").split_once("Credential=").and_then(|(_, rest)| rest.split_once('/'));
        let token = last.headers.get("x-amz-security-token").cloned();
        (identity, key.map(|(key, _)| key.to_owned()), token)
    }

    async fn found(&self) -> (String, Option<String>, Option<String>) {
        match self.asks().await {
            (Identity::Found(words), key, token) => (words, key, token),
            (other, ..) => panic!("{other:?}"),
        }
    }

    /// What is said when the store cannot be opened or listed.
    async fn refused(&self) -> String {
        let store = match self.open().await {
            Ok((store, _)) => store,
            Err(fault) => return fault.reason,
        };
        let error = store.list_with_delimiter(None).await.expect_err("refused");
        crate::store::credentials::exchange::fault_of(&error).reason
    }
}

/// As [`World`] says; the keys of a role are named after whose they are asked with.
fn reply(request: &Request) -> Reply {
    let form = request.form();
    let of = |name: &str| form.get(name).map_or("", String::as_str);
    if !of("Action").is_empty() {
        let with = match request.header("authorization").split_once("Credential=") {
            Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
            None => of("WebIdentityToken"),
        };
        let key = format!("role-by-{with}");
        return Reply::ok(format!(
            "<X><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>hunter2</SecretAccessKey>\
             <SessionToken>session</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></X>"
        ));
    }
    let keys = |key: &str| {
        json!({"AccessKeyId": key, "SecretAccessKey": "hunter2", "Token": "session",
                                  "Expiration": "2999-01-01T00:00:00Z"})
    };
    match request.line.as_str() {
        line if line.starts_with("GET /federation/credentials") => Reply::ok(json!({"roleCredentials": {
            "accessKeyId": "signed-on", "secretAccessKey": "hunter2", "sessionToken": "session",
            "expiration": 32_472_144_000_000_u64}})),
        "PUT /latest/api/token" => Reply::ok("t"),
        "GET /latest/meta-data/iam/security-credentials/" => Reply::ok("machine"),
        "GET /latest/meta-data/iam/security-credentials/machine" => Reply::ok(keys("of-machine")),
        "GET /task" => Reply::ok(keys(&format!("task-{}", request.header("authorization")))),
        _ => Reply::ok("<ListBucketResult></ListBucketResult>"),
    }
}

fn keys(profile: &str, id: &str) -> String {
    format!("[{profile}]\naws_access_key_id = {id}\naws_secret_access_key = hunter2\n")
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn keys_are_of_variables_or_of_profiles() {
    let both = format!("{}{}aws_session_token = t\n", keys("default", "D"), keys("work", "W"));
    let world = World::new(&both, "").await;
    let path = world.path("credentials");
    let expected = format!("signed with the keys of the profile 'default' in {path}");
    assert_eq!(world.found().await, (expected, some("D"), None));
    for variable in ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"] {
        let world = World::new(&both, "").await.and(variable, "work");
        let expected = format!("signed with the keys of the profile 'work' in {}", world.path("credentials"));
        assert_eq!(world.found().await, (expected, some("W"), some("t")));
    }
    let world = world.and("AWS_ACCESS_KEY_ID", " E\n").and("AWS_SECRET_ACCESS_KEY", "hunter2");
    assert_eq!(world.found().await, ("signed with the keys in AWS_ACCESS_KEY_ID".to_owned(), some("E"), None));
    let config = "[profile work]\naws_access_key_id = C\naws_secret_access_key = hunter2\n";
    let world = World::new("", config).await.and("AWS_PROFILE", "work");
    assert_eq!(world.found().await.1, some("C"));
}

#[tokio::test]
async fn what_is_missing_is_never_taken_for_nobody() {
    let world = World::new("", "").await.and("AWS_PROFILE", "absent");
    let (credentials, config) = (world.path("credentials"), world.path("config"));
    let looked = format!("(looked in {credentials}, {config})");
    assert_eq!(world.refused().await, format!("AWS_PROFILE is 'absent', and no file has that profile {looked}"));
    for (config, expected) in [
        ("region = x", "has no credentials; expected aws_access_key_id, role_arn, sso_session or credential_process"),
        ("aws_access_key_id = A", "has aws_access_key_id and no aws_secret_access_key"),
        (
            "role_arn = r",
            "has role_arn and none; expected one of source_profile, credential_source and web_identity_token_file",
        ),
        (
            "role_arn = r\nsource_profile = a\ncredential_source = b",
            "has role_arn and source_profile and credential_source; expected one",
        ),
        ("role_arn = r\nsource_profile = gone", "names 'gone' as source_profile, which no file has (looked in "),
        ("role_arn = r\nsource_profile = p", "names 'p' as source_profile, which has no credentials"),
        (
            "role_arn = r\ncredential_source = Moon",
            "has credential_source = Moon, and that is none; expected Environment, ",
        ),
        (
            "role_arn = r\ncredential_source = Environment",
            "and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
        ),
        ("role_arn = r\ncredential_source = EcsContainer", "and AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set"),
        ("role_arn = r\nsource_profile = p\nmfa_serial = m", "needs a code of the device m (mfa_serial)"),
        ("role_arn = r\nsource_profile = p\nduration_seconds = x", "is 'x'; expected a number"),
        ("sso_start_url = u", "has sso_start_url and no sso_region"),
        ("sso_start_url = u\nsso_region = r", "has sso_start_url and no sso_account_id"),
        ("sso_session = gone", "names the sso-session 'gone', which no file has (looked in "),
        ("credential_process = '", "is no command: a quote is not closed"),
    ] {
        let world = World::with("", &format!("[profile p]\n{config}\n"), nothing).await.and("AWS_PROFILE", "p");
        let reason = world.refused().await;
        let shown = format!("the profile 'p' in {}", world.path("config"));
        assert!(reason.contains(&shown) && reason.contains(expected), "{config}: {reason}");
    }
    let half = World::new("", "").await.and("AWS_SECRET_ACCESS_KEY", "hunter2");
    assert_eq!(half.refused().await, "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not");
    let odd = World::new("", "").await.and("AWS_ACCESS_KEY_ID", "A").and("AWS_SECRET_ACCESS_KEY", "hunter\u{e9}");
    assert_eq!(odd.refused().await, "the secret key of AWS_ACCESS_KEY_ID has characters that none has");
    let token = World::new("", "").await.and("AWS_WEB_IDENTITY_TOKEN_FILE", "/t");
    assert_eq!(token.refused().await, "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not");
}

/// Of a metadata server that has no role.
fn nothing(_: &Request) -> Reply {
    Reply { status: 404, body: String::new() }
}

#[tokio::test]
async fn roles_are_assumed_with_other_credentials() {
    let credentials = keys("base", "B");
    let config = format!(
        "[profile one]\nrole_arn = {ROLE}\nsource_profile = base\nrole_session_name = me\nexternal_id = x\n\
         duration_seconds = 900\n[profile two]\nrole_arn = {ROLE}2\nsource_profile = one\n\
         [profile env]\nrole_arn = {ROLE}\ncredential_source = Environment\n\
         [profile ec2]\nrole_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata\n\
         [profile ecs]\nrole_arn = {ROLE}\ncredential_source = EcsContainer\n"
    );
    let world = World::new(&credentials, &config).await.and("AWS_PROFILE", "one");
    let words = format!("signed as the role {ROLE} of the profile 'one' in {}", world.path("config"));
    assert_eq!(world.found().await, (words, some("role-by-B"), some("session")));
    let asked = world.server.requests()[0].clone();
    let form = asked.form();
    for (name, value) in [
        ("Action", "AssumeRole"),
        ("RoleArn", ROLE),
        ("RoleSessionName", "me"),
        ("ExternalId", "x"),
        ("DurationSeconds", "900"),
    ] {
        assert_eq!(form[name], value);
    }
    assert!(asked.header("authorization").contains("/eu-west-1/sts/aws4_request"), "{asked:?}");
    // It is kept: only S3 is asked again.
    let (store, _) = world.open().await.expect("understood");
    for _ in 0..2 {
        let _ = store.list_with_delimiter(None).await.expect("the list");
    }
    assert_eq!(world.server.requests().iter().filter(|request| request.body.contains("AssumeRole")).count(), 2);

    for (profile, key) in [("two", "role-by-role-by-B"), ("ec2", "role-by-of-machine"), ("ecs", "role-by-task-")] {
        let world = World::new(&credentials, &config).await.and("AWS_PROFILE", profile);
        let task = format!("{}/task", world.server.url);
        let world = world.and("AWS_CONTAINER_CREDENTIALS_FULL_URI", &task);
        assert_eq!(world.found().await.1, some(key), "{profile}");
    }
    // The keys of the environment count before a profile, but for one whose role is asked for with them.
    for (profile, key) in [("one", "E"), ("env", "role-by-E")] {
        let world = World::new(&credentials, &config).await.and("AWS_PROFILE", profile);
        let world = world.and("AWS_ACCESS_KEY_ID", "E").and("AWS_SECRET_ACCESS_KEY", "hunter2");
        assert_eq!(world.found().await.1, some(key), "{profile}");
    }
}

#[tokio::test]
async fn a_profile_may_name_itself_but_not_in_a_circle() {
    let own = format!("{}role_arn = {ROLE}\nsource_profile = own\n", keys("own", "O"));
    let world = World::new(&own, "").await.and("AWS_PROFILE", "own");
    assert_eq!(world.found().await.1, some("role-by-O"));
    let circle = "[profile a]\nrole_arn = r\nsource_profile = b\n[profile b]\nrole_arn = r\nsource_profile = a\n";
    let world = World::new("", circle).await.and("AWS_PROFILE", "a");
    assert_eq!(world.refused().await, "the profiles a -> b -> a name each other as source_profile");
}

#[tokio::test]
async fn roles_are_assumed_with_tokens() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let file = home.path().join("token");
    std::fs::write(&file, "jwt\n").expect("written");
    let file = file.to_string_lossy();
    let world = World::new("", "").await.and("AWS_WEB_IDENTITY_TOKEN_FILE", &file).and("AWS_ROLE_ARN", ROLE);
    let words = format!("signed as the role {ROLE} with the token in {file} (AWS_WEB_IDENTITY_TOKEN_FILE)");
    assert_eq!(world.found().await, (words, some("role-by-jwt"), some("session")));
    assert_eq!(world.server.requests()[0].header("authorization"), "");
    let config = format!("[profile p]\nrole_arn = {ROLE}\nweb_identity_token_file = {file}\n");
    let world = World::new("", &config).await.and("AWS_PROFILE", "p");
    assert_eq!(world.found().await.1, some("role-by-jwt"));
    std::fs::remove_file(&*file).expect("removed");
    let reason = world.refused().await;
    let expected = format!("the token of the profile 'p' in {} in {file}: No such file", world.path("config"));
    assert!(reason.starts_with(&expected), "{reason}");
}

#[tokio::test]
async fn a_token_counts_before_keys_of_a_profile_and_behind_its_role() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let (file, other) = (home.path().join("token"), home.path().join("other"));
    std::fs::write(&file, "jwt").expect("written");
    std::fs::write(&other, "profile-jwt").expect("written");
    let role = |way: &str| format!("role_arn = {ROLE}\n{way}\n");
    let of_token = role(&format!("web_identity_token_file = {}", other.display()));
    let sign_on = "sso_start_url = u\nsso_region = r\nsso_account_id = 1\nsso_role_name = R\n";
    let keys = format!("{}{}", keys("default", "D"), keys("base", "B"));
    for (config, with_token, without) in [
        ("", "role-by-jwt", Some("D")),
        (sign_on, "role-by-jwt", None),
        ("credential_process = /bin/false", "role-by-jwt", Some("D")),
        (&of_token, "role-by-jwt", Some("role-by-profile-jwt")),
        (&role("source_profile = base"), "role-by-B", Some("role-by-B")),
    ] {
        let world = World::new(&keys, &format!("[default]\n{config}")).await;
        if let Some(expected) = without {
            assert_eq!(world.found().await.1, some(expected), "{config}");
        }
        let token = file.to_string_lossy();
        let world = world.and("AWS_WEB_IDENTITY_TOKEN_FILE", &token).and("AWS_ROLE_ARN", ROLE);
        assert_eq!(world.found().await.1, some(with_token), "{config}");
        let world = world.and("AWS_ACCESS_KEY_ID", "E").and("AWS_SECRET_ACCESS_KEY", "hunter2");
        assert_eq!(world.found().await.1, some("E"), "{config}");
    }
}

#[tokio::test]
async fn a_role_that_is_refused_is_named() {
    let config = format!("[profile p]\nrole_arn = {ROLE}\nsource_profile = base\n");
    let refuse = |request: &Request| {
        let denied = "<E><Code>AccessDenied</Code><Message>not you</Message></E>".to_owned();
        if request.body.is_empty() { Reply::ok("") } else { Reply { status: 403, body: denied } }
    };
    let world = World::with(&keys("base", "B"), &config, refuse).await.and("AWS_PROFILE", "p");
    let expected = format!(
        "the role {ROLE} of the profile 'p' in {} could not be assumed at {}: the server answered 403 Forbidden \
         (AccessDenied: not you)",
        world.path("config"),
        world.server.url
    );
    let reason = world.refused().await;
    assert_eq!(reason, expected);
    // It says who asks by itself.
    let identity = Identity::Found("x".to_owned());
    assert_eq!(identity.explain(Fault::refused(&reason)).reason, reason);
}

/// Writes the token as `aws sso login` does, and answers where.
fn sign_on(world: &World, key: &str, expires: &str) -> String {
    let path = crate::store::credentials::aws::sign_on::token_file(&world.environment(), key).expect("a home");
    let token = json!({"accessToken": "hunter2", "expiresAt": expires}).to_string();
    std::fs::write(&path, token).expect("written");
    path.to_string_lossy().into_owned()
}

#[tokio::test]
async fn a_single_sign_on_gives_credentials_until_it_ends() {
    let settings = "sso_account_id = 42\nsso_role_name = Reader\n";
    let config = format!(
        "[profile new]\nsso_session = corp\n{settings}[sso-session corp]\nsso_start_url = https://c\nsso_region = r\n\
         [profile old]\nsso_start_url = https://c\nsso_region = r\n{settings}"
    );
    for (profile, key) in [("new", "corp"), ("old", "https://c")] {
        let world = World::new("", &config).await.and("AWS_PROFILE", profile);
        let login = format!("needs `aws sso login --profile {profile}`: the token in ");
        let reason = world.refused().await;
        assert!(reason.contains(&login) && reason.contains("cannot be read (No such file"), "{reason}");
        let path = sign_on(&world, key, "2020-01-01T00:00:00UTC");
        let reason = world.refused().await;
        assert!(reason.ends_with(&format!("{login}{path} has expired")), "{reason}");
        let _ = sign_on(&world, key, "2999-01-01T00:00:00Z");
        let (words, id, token) = world.found().await;
        let shown = format!("for the profile '{profile}' in {}", world.path("config"));
        assert_eq!(words, format!("signed as the role 'Reader' of the account 42 by IAM Identity Center, {shown}"));
        assert_eq!((id, token), (some("signed-on"), some("session")));
        let asked = world.server.requests()[0].clone();
        assert_eq!(asked.line, "GET /federation/credentials?role_name=Reader&account_id=42");
        assert_eq!(asked.header("x-amz-sso_bearer_token"), "hunter2");
    }
    let revoked =
        World::with("", &config, |_| Reply { status: 401, body: String::new() }).await.and("AWS_PROFILE", "new");
    let _ = sign_on(&revoked, "corp", "2999-01-01T00:00:00Z");
    let reason = revoked.refused().await;
    assert!(reason.ends_with("the server answered 401 Unauthorized: run `aws sso login --profile new`"), "{reason}");
    assert!(!reason.contains("hunter2"), "{reason}");
}

#[tokio::test]
async fn a_program_gives_credentials() {
    let printed = r#"{\"Version\": 1, \"AccessKeyId\": \"P\", \"SecretAccessKey\": \"hunter2\"}"#;
    let config = format!("[profile p]\ncredential_process = /bin/echo \"{printed}\"\n");
    let world = World::new("", &config).await.and("AWS_PROFILE", "p");
    let shown = format!("the profile 'p' in {}", world.path("config"));
    let words = format!("signed with what the credential_process of {shown} printed");
    assert_eq!(world.found().await, (words, some("P"), None));
    let world = World::new("", "[default]\ncredential_process = /bin/false hunter2\n").await;
    let shown = format!("the profile 'default' in {}", world.path("config"));
    let expected = format!("the credential_process '/bin/false' of {shown}: it failed with exit status: 1");
    assert_eq!(world.refused().await, expected);
}

#[tokio::test]
async fn tasks_and_machines_have_roles() {
    let world = World::new("", "").await;
    let task = format!("{}/task", world.server.url);
    let world = world.and("AWS_CONTAINER_CREDENTIALS_FULL_URI", &task).and("AWS_CONTAINER_AUTHORIZATION_TOKEN", "t");
    let words = "signed with the credentials that AWS_CONTAINER_CREDENTIALS_FULL_URI names";
    assert_eq!(world.found().await, (words.to_owned(), some("task-t"), some("session")));
    let open = World::new("", "").await.and("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/x");
    assert!(open.refused().await.starts_with("AWS_CONTAINER_CREDENTIALS_FULL_URI must be https://"));
    let world = World::new("", "").await;
    let words = "signed with the role of this machine (the metadata server)";
    assert_eq!(world.found().await, (words.to_owned(), some("of-machine"), some("session")));
}

#[tokio::test]
async fn nobody_asks_unsigned_and_says_where_it_looked() {
    let nowhere = |request: &Request| if request.line.contains("/latest/") { nothing(request) } else { reply(request) };
    let world = World::with("", "", nowhere).await;
    let (identity, key, _) = world.asks().await;
    assert_eq!(key, None);
    let refusal = identity.explain(Fault::refused("the server answered 403 Forbidden")).reason;
    let expected = format!(
        "the server answered 403 Forbidden; no credentials were found (looked at AWS_ACCESS_KEY_ID, {}, {}, \
         AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, the metadata server), so the request was \
         not signed: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        world.path("credentials"),
        world.path("config")
    );
    assert_eq!(refusal, expected);
    let world = World::new(&keys("default", "D"), "").await.and("awsAnonymousCredential", "true");
    let declined = Identity::Declined("awsAnonymousCredential".to_owned());
    assert_eq!(world.asks().await, (declined, None, None));
    let world = World::new("", "").await.and("AWS_EC2_METADATA_DISABLED", "true");
    assert!(
        matches!(world.asks().await.0, Identity::Absent(absent) if !absent.looked.contains(&"the metadata server".to_owned()))
    );
}

/// The server that is asked for the bucket `b`.
fn endpoint(config: &str, variables: &[(&str, &str)]) -> Result<Option<String>, Fault> {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = home.path().join("config");
    std::fs::write(&path, config).expect("written");
    let mut environment = environment(variables);
    environment.insert("AWS_CONFIG_FILE".to_owned(), path.to_string_lossy().into_owned());
    let files = SharedFiles::read(&environment);
    let profile = files.profile("default");
    let kserve = kserve::s3(&environment)?;
    let client = Client::new(&Environment::new())?;
    let asked = Asked { environment: &kserve.environment, client: &client, files: &files, profile: profile.as_ref() };
    let built = asked.builder(&kserve, "b")?;
    Ok(built.get_config_value(&object_store::aws::AmazonS3ConfigKey::Endpoint))
}

#[test]
fn servers_are_named_by_variables_profiles_and_their_services() {
    let config = "[default]\nendpoint_url = http://all\nservices = s\n[services s]\ns3 =\n  endpoint_url = http://s3\n";
    let of = |config: &str, variables: &[(&str, &str)]| endpoint(config, variables).expect("understood");
    assert_eq!(of(config, &[]), some("http://s3"));
    assert_eq!(of("[default]\nendpoint_url = http://all\n", &[]), some("http://all"));
    assert_eq!(of(config, &[("AWS_ENDPOINT_URL", "http://own")]), some("http://own"));
    let both = [("AWS_ENDPOINT_URL", "http://own"), ("AWS_ENDPOINT_URL_S3", "http://s3-own")];
    assert_eq!(of(config, &both), some("http://s3-own"));
    let ignored = [("AWS_ENDPOINT_URL", "http://own"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")];
    assert_eq!(of(config, &ignored), None);
    assert_eq!(of("[default]\nendpoint_url = http://a\nignore_configured_endpoint_urls = true\n", &[]), None);
    assert_eq!(of("", &[("S3_ENDPOINT", "minio:9000"), ("S3_USE_HTTPS", "0")]), some("http://minio:9000"));
    assert_eq!(of("", &[("S3_ENDPOINT", "s3.amazonaws.com")]), None);
    let virtual_hosts = ("S3_USER_VIRTUAL_BUCKET", "true");
    assert_eq!(of("", &[("S3_ENDPOINT", "h:9"), virtual_hosts]), some("https://b.h:9"));
    assert_eq!(of("", &[("S3_USE_ACCELERATE", "true")]), some("https://b.s3-accelerate.amazonaws.com"));
    let plain = endpoint("", &[("AWS_ENDPOINT_URL", "http://x"), ("AWS_ALLOW_HTTP", "0")]).expect_err("forbidden");
    assert_eq!(plain.reason, "AWS_ENDPOINT_URL is http:// and AWS_ALLOW_HTTP forbids it");
    let wrong = endpoint("[default]\nendpoint_url = minio\n", &[]).expect_err("no URL").reason;
    assert!(
        wrong.starts_with("endpoint_url of the profile 'default' in ") && wrong.contains("is 'minio'; expected a URL")
    );
    assert!(with_bucket("http://127.0.0.1:9", "b").is_err());
    assert_eq!(service("sts", "cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn");
}

#[test]
fn the_token_of_a_session_lies_under_its_hash() {
    let environment = environment(&[("HOME", "/h")]);
    let path = crate::store::credentials::aws::sign_on::token_file(&environment, "corp").expect("a home");
    assert_eq!(path, Path::new("/h/.aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json"));
}
