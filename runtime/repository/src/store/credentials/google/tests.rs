//! Google's accounts against a server on this machine.

use std::sync::Arc;

use object_store::ObjectStore;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::store::client::{Client, Environment};
use crate::store::credentials::Identity;
use crate::store::credentials::exchange::fault_of;
use crate::store::credentials::google::store;
use crate::store::credentials::server::{Reply, Request, Server};
use crate::store::fault::Fault;
use crate::uri::{BucketPlace, Provider};

/// A server that is Google's storage and all that give tokens, and a home.
struct World {
    server: Server,
    home: TempDir,
    environment: Environment,
}

impl World {
    async fn new() -> Self {
        Self::with(reply).await
    }

    async fn with(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let server = Server::start(reply).await;
        let home = tempfile::tempdir().expect("a temporary folder");
        let host = server.url.trim_start_matches("http://").to_owned();
        let folder = home.path().to_string_lossy().into_owned();
        let variables = [("HOME", folder), ("GOOGLE_BASE_URL", server.url.clone()), ("GCE_METADATA_HOST", host)];
        let environment = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { server, home, environment }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    }

    fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    fn credentials(&mut self, json: &Value) -> String {
        let path = self.file("credentials.json", &json.to_string());
        self.set("GOOGLE_APPLICATION_CREDENTIALS", &path);
        path
    }

    async fn open(&self) -> Result<(Arc<dyn ObjectStore>, Identity), Fault> {
        let client = Client::new(&Environment::new()).expect("a client");
        let (bucket, path) = ("models".to_owned(), "m".to_owned());
        let place = BucketPlace { provider: Provider::Gcs, bucket, account: None, signature: None, path };
        store(&place, &client, &self.environment).await.map(|opened| (opened.store, opened.identity))
    }

    /// Who asks, and what the storage was asked with.
    async fn asks(&self) -> (Identity, String) {
        let (store, identity) = self.open().await.expect("understood");
        let _ = store.list_with_delimiter(None).await.expect("the list");
        let last = self.server.requests().pop().expect("one");
        (identity, last.header("authorization").to_owned())
    }

    async fn refused(&self) -> String {
        match self.open().await {
            Ok((store, _)) => fault_of(&store.list_with_delimiter(None).await.expect_err("refused")).reason,
            Err(fault) => fault.reason,
        }
    }
}

/// Tokens are named after whom they are for.
fn reply(request: &Request) -> Reply {
    let form = request.form();
    let bearer = |of: &str| Reply::ok(json!({"access_token": of, "expires_in": 3600}));
    match request.line.as_str() {
        "POST /token" => bearer(&format!("user-{}", form["refresh_token"])),
        "POST /sts" => bearer(&format!("federated-{}", form["subject_token"])),
        "GET /subject" => Reply::ok(json!({"id": format!("of-{}", request.header("x-who"))})),
        line if line.starts_with("POST /v1/") => {
            let by = request.header("authorization").trim_start_matches("Bearer").trim();
            Reply::ok(json!({"accessToken": format!("account-by-{by}"), "expireTime": "2999-01-01T00:00:00Z"}))
        }
        "GET /computeMetadata/v1/instance/service-accounts/default/token"
            if request.header("metadata-flavor") == "Google" =>
        {
            bearer("machine")
        }
        line if line.contains("prefix") || line.contains("list-type") => {
            Reply::ok("<ListBucketResult></ListBucketResult>")
        }
        _ => Reply { status: 404, body: String::new() },
    }
}

fn user(server: &Server) -> Value {
    let url = format!("{}/token", server.url);
    json!({"type": "authorized_user", "client_id": "c", "client_secret": "hunter2", "refresh_token": "r", "token_uri": url})
}

fn federated(server: &Server, source: &Value) -> Value {
    json!({
        "type": "external_account", "audience": "//iam/pool", "token_url": format!("{}/sts", server.url),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "credential_source": source,
    })
}

fn impersonation(server: &Server) -> String {
    format!("{}/v1/projects/-/serviceAccounts/a@b:generateAccessToken", server.url)
}

#[tokio::test]
async fn a_user_is_found_by_the_variable_and_in_the_home() {
    let mut world = World::new().await;
    let user = user(&world.server);
    let path = world.file(".config/gcloud/application_default_credentials.json", &user.to_string());
    let expected = Identity::Found(format!("signed as the user of {path}"));
    assert_eq!(world.asks().await, (expected, "Bearer user-r".to_owned()));
    let path = world.credentials(&user);
    let expected = Identity::Found(format!("signed as the user of GOOGLE_APPLICATION_CREDENTIALS {path}"));
    assert_eq!(world.asks().await, (expected, "Bearer user-r".to_owned()));
    let asked = world.server.requests()[0].form();
    assert_eq!((asked["grant_type"].as_str(), asked["client_secret"].as_str()), ("refresh_token", "hunter2"));
}

#[tokio::test]
async fn tokens_of_other_issuers_are_exchanged() {
    let mut world = World::new().await;
    let file = world.file("subject", "jwt\n");
    let json_file = world.file("subject.json", r#"{"id": "inside"}"#);
    let url = format!("{}/subject", world.server.url);
    let format = json!({"type": "json", "subject_token_field_name": "id"});
    for (source, bearer) in [
        (json!({"file": file}), "Bearer federated-jwt"),
        (json!({"file": file, "format": {"type": "text"}}), "Bearer federated-jwt"),
        (json!({"file": json_file, "format": format}), "Bearer federated-inside"),
        (json!({"url": url, "headers": {"x-who": "me"}, "format": format}), "Bearer federated-of-me"),
    ] {
        let account = federated(&world.server, &source);
        let path = world.credentials(&account);
        let words = format!("signed as the federated identity of GOOGLE_APPLICATION_CREDENTIALS {path}");
        assert_eq!(world.asks().await, (Identity::Found(words), bearer.to_owned()));
    }
    let mut account = federated(&world.server, &json!({"file": file}));
    account["service_account_impersonation_url"] = json!(impersonation(&world.server));
    account["service_account_impersonation"] = json!({"token_lifetime_seconds": 600});
    account["client_id"] = json!("app");
    account["client_secret"] = json!("hunter2");
    let path = world.credentials(&account);
    let words = format!("signed as the service account a@b of GOOGLE_APPLICATION_CREDENTIALS {path}");
    assert_eq!(world.asks().await, (Identity::Found(words), "Bearer account-by-federated-jwt".to_owned()));
    let requests = world.server.requests();
    let [exchange, impersonation] = &requests[requests.len() - 3..requests.len() - 1] else { panic!("{requests:?}") };
    assert_eq!(exchange.form()["audience"], "//iam/pool");
    assert!(exchange.header("authorization").starts_with("Basic "));
    assert!(impersonation.body.contains(r#""lifetime":"600s""#), "{impersonation:?}");
}

#[tokio::test]
async fn accounts_are_impersonated() {
    let mut world = World::new().await;
    let service_account = json!({
        "type": "service_account", "private_key": "", "private_key_id": "", "client_email": "a@b", "disable_oauth": true,
    });
    for (source, bearer) in [(user(&world.server), "Bearer account-by-user-r"), (service_account, "Bearer account-by-")]
    {
        let url = impersonation(&world.server);
        let account = json!({
            "type": "impersonated_service_account", "service_account_impersonation_url": url,
            "source_credentials": source, "delegates": ["d@e"],
        });
        let path = world.credentials(&account);
        let words = format!("signed as the service account a@b of GOOGLE_APPLICATION_CREDENTIALS {path}");
        let (identity, authorization) = world.asks().await;
        assert_eq!((identity, authorization.trim()), (Identity::Found(words), bearer));
    }
    let requests = world.server.requests();
    assert!(requests.iter().any(|request| request.body.contains(r#""delegates":["d@e"]"#)));
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let mut world = World::new().await;
    let key = json!({"type": "service_account", "private_key": "hunter2", "private_key_id": "", "client_email": "a@b"});
    let aws = federated(&world.server, &json!({"environment_id": "aws1"}));
    let loose = federated(&world.server, &json!({"executable": {}}));
    let absent = federated(&world.server, &json!({"file": "/nowhere/token"}));
    for (account, expected) in [
        (
            json!({"type": "gdch_service_account"}),
            "it is of the type 'gdch_service_account'; read are service_account, ",
        ),
        (json!({}), "it has no 'type'"),
        (json!({"type": "authorized_user"}), "it has no 'client_id'"),
        (key, "its key cannot be used: "),
        (aws, "its credential_source is AWS (environment_id), which is not read; read are file and url"),
        (loose, "its credential_source has no file and no url; read are these"),
        (absent, "the token in /nowhere/token: No such file"),
        (json!({"type": "impersonated_service_account"}), "it has no 'service_account_impersonation_url'"),
        (
            json!({"type": "impersonated_service_account", "service_account_impersonation_url": "http://x"}),
            "its source_credentials: it has no 'type'",
        ),
    ] {
        let path = world.credentials(&account);
        let reason = world.refused().await;
        assert!(reason.contains(&path) && reason.contains(expected), "{reason}");
        assert!(!reason.contains("hunter2"), "{reason}");
    }
    world.set("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/x.json");
    let reason = world.refused().await;
    assert!(reason.starts_with("GOOGLE_APPLICATION_CREDENTIALS /nowhere/x.json: No such file"), "{reason}");
    let path = world.file("text", "hunter2");
    world.set("GOOGLE_APPLICATION_CREDENTIALS", &path);
    assert_eq!(world.refused().await, format!("GOOGLE_APPLICATION_CREDENTIALS {path}: it is not JSON"));
}

#[tokio::test]
async fn a_refused_exchange_says_whose_it_was() {
    let refuse = |request: &Request| match request.line.as_str() {
        "POST /sts" => {
            Reply { status: 400, body: json!({"error": "invalid_grant", "error_description": "x"}).to_string() }
        }
        _ => reply(request),
    };
    let mut world = World::with(refuse).await;
    let file = world.file("subject", "hunter2");
    let account = federated(&world.server, &json!({"file": file}));
    let path = world.credentials(&account);
    let expected = format!(
        "a token for the federated identity of GOOGLE_APPLICATION_CREDENTIALS {path} at {}/sts: the server answered 400 \
         Bad Request (invalid_grant)",
        world.server.url
    );
    assert_eq!(world.refused().await, expected);
}

#[tokio::test]
async fn machines_have_accounts_and_others_ask_unsigned() {
    let world = World::new().await;
    let words = "signed as the service account of this machine (the metadata server)".to_owned();
    assert_eq!(world.asks().await, (Identity::Found(words), "Bearer machine".to_owned()));

    let nowhere = |request: &Request| match request.line.starts_with("GET /computeMetadata") {
        true => Reply { status: 404, body: String::new() },
        false => reply(request),
    };
    let mut world = World::with(nowhere).await;
    let (identity, authorization) = world.asks().await;
    assert_eq!(authorization, "");
    let refusal = identity.explain(Fault::refused("the server answered 401 Unauthorized")).reason;
    let home = world.home.path().display();
    let expected = format!(
        "the server answered 401 Unauthorized; no credentials were found (looked at GOOGLE_APPLICATION_CREDENTIALS, \
         {home}/.config/gcloud/application_default_credentials.json, the metadata server), so the request was not \
         signed: set GOOGLE_APPLICATION_CREDENTIALS or run `gcloud auth application-default login`"
    );
    assert_eq!(refusal, expected);
    let emulator = world.server.url.clone();
    world.set("STORAGE_EMULATOR_HOST", &emulator);
    let (identity, authorization) = world.asks().await;
    assert_eq!((identity, authorization.as_str()), (Identity::Declined("STORAGE_EMULATOR_HOST".to_owned()), ""));
}
