//! Registries that want to know who asks, and token servers that stand for them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::fake::{Content, Reply, Request, Server};
use super::{Environment, Opener, artefact, environment, failed};

/// A registry that takes the token `right` alone, and that gives it to who says the right thing.
async fn guarded(is_right: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Server {
    let mut content = Content::default();
    artefact(&mut content, "latest");
    Server::start(move |request| {
        if request.line.contains("/token") {
            let body = json!({"token": "right", "access_token": "right"}).to_string();
            return if is_right(request) { Reply::of(200, body) } else { Reply::of(401, "{\"details\": \"hunter2\"}") };
        }
        if request.headers.get("authorization").is_some_and(|value| value == "Bearer right") {
            return content.answer(request);
        }
        let host = request.headers.get("host").expect("sent");
        let mut reply = Reply::of(401, "");
        let scope = "repository:team/net:pull";
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"the registry\",scope=\"{scope}\"");
        reply.headers.push(("www-authenticate", challenge));
        reply
    })
    .await
}

/// A home with what `docker login` leaves there.
fn logged_in(server: &Server, entry: &serde_json::Value) -> (tempfile::TempDir, Environment) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let text = json!({"auths": {&server.host: entry}}).to_string();
    std::fs::create_dir(home.path().join(".docker")).expect("made");
    std::fs::write(home.path().join(".docker/config.json"), text).expect("written");
    let environment = environment(&[("HOME", &home.path().to_string_lossy())]);
    (home, environment)
}

#[tokio::test]
async fn a_token_is_asked_for_once_with_what_is_known() {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("me:hunter2"));
    let server = guarded(move |request| {
        let line = "GET /token?service=the+registry&scope=repository%3Ateam%2Fnet%3Apull";
        request.line == line && request.headers.get("authorization") == Some(&basic)
    })
    .await;
    let (_home, environment) = logged_in(&server, &json!({"username": "me", "password": "hunter2"}));
    let uri = format!("oci://{}/team/net", server.host);
    Opener::new(&environment).open(&uri).await.expect("logged in");
    let asked = server.requests();
    assert_eq!(asked.iter().filter(|request| request.line.contains("/token")).count(), 1);

    let (home, wrong) = logged_in(&server, &json!({"username": "me", "password": "hunter3"}));
    let said = failed(&wrong, &uri).await;
    let file = home.path().join(".docker/config.json");
    let expected = format!(
        "{uri}: a token of 127.0.0.1 was asked for: the server answered 401 Unauthorized; asked with the credentials for \
         '{}' in {}",
        server.host,
        file.display()
    );
    assert_eq!(said, expected);
}

#[tokio::test]
async fn nobody_asks_for_a_token_too() {
    let server = guarded(|request| !request.headers.contains_key("authorization")).await;
    let uri = format!("oci://{}/team/net", server.host);
    Opener::new(&Environment::new()).open(&uri).await.expect("for everybody");
    let closed = guarded(|_| false).await;
    let said = failed(&super::environment(&[("HOME", "/nowhere")]), &format!("oci://{}/team/net", closed.host)).await;
    let looked = "/nowhere/.docker/config.json, /nowhere/.config/containers/auth.json";
    let help = "run `docker login` or `podman login`, or set DOCKER_CONFIG or REGISTRY_AUTH_FILE";
    let expected = format!("401 Unauthorized; no credentials were found (looked at {looked}): {help}");
    assert!(said.ends_with(&expected), "{said}");
}

#[tokio::test]
async fn an_identity_is_given_for_a_token() {
    let server = guarded(|request| {
        request.line == "POST /token"
            && request.body
                == "grant_type=refresh_token&refresh_token=hunter2&scope=repository%3Ateam%2Fnet%3Apull\
                    &service=the+registry&client_id=corymb"
    })
    .await;
    let (_home, environment) = logged_in(&server, &json!({"identitytoken": "hunter2", "auth": "bWU6"}));
    Opener::new(&environment).open(&format!("oci://{}/team/net", server.host)).await.expect("logged in");
}

#[tokio::test]
async fn a_token_that_is_over_is_replaced() {
    let tokens = std::sync::atomic::AtomicUsize::new(0);
    let mut content = Content::default();
    artefact(&mut content, "latest");
    let server = Server::start(move |request| {
        let count = || tokens.load(std::sync::atomic::Ordering::Relaxed);
        if request.line.contains("/token") {
            tokens.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Reply::of(200, json!({"token": format!("number {}", count())}).to_string());
        }
        // The first is for the manifests alone.
        let wanted = if request.line.contains("/blobs/") { count().max(2) } else { count().max(1) };
        if request.headers.get("authorization").is_some_and(|value| *value == format!("Bearer number {wanted}")) {
            return content.answer(request);
        }
        let mut reply = Reply::of(401, "");
        let host = request.headers.get("host").expect("sent");
        reply.headers.push(("www-authenticate", format!("Bearer realm=\"http://{host}/token\"")));
        reply
    })
    .await;
    Opener::new(&Environment::new()).open(&format!("oci://{}/net", server.host)).await.expect("renewed");
    let asked = server.requests();
    assert_eq!(asked.iter().filter(|request| request.line.contains("/token")).count(), 2);
}

#[tokio::test]
async fn what_a_token_server_says_is_bounded_and_not_repeated() {
    for (body, expected) in [
        ("{}".to_owned(), "a token of 127.0.0.1 was asked for: there is none in its answer"),
        ("hunter2".to_owned(), "a token of 127.0.0.1 was asked for: there is none in its answer"),
        (" ".repeat((1 << 20) + 1), "a token of 127.0.0.1 was asked for: an answer of more than 1048576 bytes"),
        ("{\"token\": \"a\\nb\"}".to_owned(), "the registry's token cannot stand in a header"),
    ] {
        let server = Server::start(move |request| {
            if request.line.contains("/token") {
                return Reply::of(200, body.clone());
            }
            let mut reply = Reply::of(401, "");
            let host = request.headers.get("host").expect("sent");
            reply.headers.push(("www-authenticate", format!("Bearer realm=\"http://{host}/token\"")));
            reply
        })
        .await;
        let uri = format!("oci://{}/net", server.host);
        assert_eq!(failed(&Environment::new(), &uri).await, format!("{uri}: {expected}"));
    }
}
