//! What is said when a store refuses, from the request to the words.

use crate::store::bucket::Bucket;
use crate::store::client::{Client, Environment};
use crate::store::credentials::server::{Reply, Server, environment};
use crate::store::hub::Hub;
use crate::uri::{BucketPlace, HubPlace, Provider};

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";

async fn bucket(provider: Provider, environment: &Environment) -> String {
    let client = Client::new(&Environment::new()).expect("a client");
    let (bucket, account) = ("b".to_owned(), Some("a".to_owned()).filter(|_| provider == Provider::Azure));
    let place = BucketPlace { provider, bucket, account, signature: None, path: "m".to_owned() };
    let bucket = Bucket::open(&place, &client, environment).await.expect("opened");
    bucket.list().await.expect_err("refused").reason
}

#[tokio::test]
async fn a_bucket_names_the_keys_that_it_refused() {
    let server = Server::start(|_| Reply { status: 403, body: DENIED.to_owned() }).await;
    let home = tempfile::tempdir().expect("a temporary folder");
    let file = home.path().join("credentials");
    std::fs::write(&file, "[work]\naws_access_key_id = A\naws_secret_access_key = hunter2\n").expect("written");
    let file = file.to_string_lossy().into_owned();
    let variables =
        [("AWS_SHARED_CREDENTIALS_FILE", file.as_str()), ("AWS_PROFILE", "work"), ("AWS_ENDPOINT_URL", &server.url)];
    let forbidden = "the server answered 403 Forbidden (AccessDenied: Access Denied); signed with";
    let said = bucket(Provider::S3, &environment(&variables)).await;
    assert_eq!(said, format!("{forbidden} the keys of the profile 'work' in {file}"));
    let variables = [("GOOGLE_BASE_URL", server.url.as_str()), ("GOOGLE_BEARER_TOKEN", "hunter2")];
    assert_eq!(bucket(Provider::Gcs, &environment(&variables)).await, format!("{forbidden} GOOGLE_BEARER_TOKEN"));
    let variables = [("AZURE_STORAGE_ENDPOINT", server.url.as_str()), ("AZURE_STORAGE_KEY", "aHVudGVyMg==")];
    let said = bucket(Provider::Azure, &environment(&variables)).await;
    assert_eq!(said, format!("{forbidden} the key in AZURE_STORAGE_KEY"));
}

#[tokio::test]
async fn the_hub_says_whose_token_it_refused_or_that_there_was_none() {
    let server = Server::start(|_| Reply { status: 401, body: "{\"error\": \"not you\"}".to_owned() }).await;
    let client = Client::new(&Environment::new()).expect("a client");
    let place = HubPlace { name: "o/n".to_owned(), revision: "main".to_owned(), path: String::new() };
    let said = async |variables: &[(&str, &str)]| {
        let hub = Hub::new(&place, &client, &environment(variables)).expect("a hub");
        let listed = hub.list().await.expect_err("refused").reason;
        assert_eq!(hub.get("net.onnx", None).await.expect_err("refused").reason, listed);
        listed
    };
    let endpoint = ("HF_ENDPOINT", server.url.as_str());
    let refused = "the server answered 401 Unauthorized (not you); ";
    let with = said(&[endpoint, ("HF_TOKEN", "hunter2")]).await;
    assert_eq!(with, format!("{refused}asked with the token in HF_TOKEN"));
    let without = said(&[endpoint, ("HOME", "/nowhere")]).await;
    let looked = "HF_TOKEN, HUGGING_FACE_HUB_TOKEN, /nowhere/.cache/huggingface/token";
    let expected = format!("{refused}no token was found (looked at {looked}): set HF_TOKEN or run `hf auth login`");
    assert_eq!(without, expected);
}
