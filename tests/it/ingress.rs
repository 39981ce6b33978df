//! `corymb bench` and `corymb tune` through an ingress that somebody else wrote: nginx, which speaks TLS, finds the service by its name,
//! and lets in who has the token.

use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::collector::{free_port, wait_listening};
use crate::harness::{Server, folder, root, run, skip};

const HOST: &str = "flowers.models.example.com";

/// nginx in front of a server; ends with its test.
struct Ingress {
    nginx: Child,
    port: u16,
    _folder: tempfile::TempDir,
    _server: Server,
}

impl Drop for Ingress {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

fn tls(name: &str) -> String {
    root().join("tests/fixtures/tls").join(name).to_string_lossy().into_owned()
}

fn ingress() -> Option<Ingress> {
    if Command::new("nginx").arg("-v").output().is_err() {
        skip("nginx is not there to stand in front of the server");
        return None;
    }
    let server = Server::start(&[]);
    let (port, place) = (free_port(), folder(&[]));
    let (at, upstream, certificate) = (place.path().display(), &server.address, tls("server.pem"));
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log; events {{ }}\n\
         http {{ access_log off; client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
         uwsgi_temp_path {at}/4; scgi_temp_path {at}/5; ssl_certificate {certificate}; ssl_certificate_key {certificate};\n\
         server {{ listen 127.0.0.1:{port} ssl http2 default_server; return 404; }}\n\
         server {{ listen 127.0.0.1:{port} ssl http2; server_name {HOST};\n\
         if ($http_authorization != 'Bearer s3cret') {{ return 401; }}\n\
         if ($http_x_team != 'models') {{ return 403; }}\n\
         location / {{ proxy_pass http://{upstream}; }}\n\
         location /inference. {{ grpc_pass grpc://{upstream}; }} }} }}\n"
    );
    let file = place.path().join("nginx.conf");
    std::fs::write(&file, config).expect("written");
    // Its workers run as nobody when it is started by root.
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let mut nginx = Command::new("nginx");
    nginx.arg("-c").arg(&file).arg("-p").arg(place.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut nginx = nginx.spawn().expect("it starts");
    wait_listening(port, &mut nginx);
    Some(Ingress { nginx, port, _folder: place, _server: server })
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn load_goes_through_an_ingress() {
    let Some(ingress) = ingress() else { return };
    let url = format!("https://127.0.0.1:{}", ingress.port);
    let secrets = folder(&[("token", b"s3cret\n"), ("other", b"wrong\n")]);
    let file = |name: &str| secrets.path().join(name).to_string_lossy().into_owned();
    let (ca, token, other) = (tls("ca.pem"), file("token"), file("other"));
    let bench = ["bench", &url, "--model-name", "flowers-sample", "-d", "300ms", "--warm-up", "0s", "--json"];
    let whole = ["--host", HOST, "--ca", &ca, "--token-file", &token, "-H", "X-Team: models"];
    for protocol in ["v1", "v2", "grpc"] {
        let output = run(&[&bench[..], &whole[..], &["--protocol", protocol]].concat());
        assert!(output.status.success(), "{protocol}: {}", told(&output));
        let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let report = &result["report"];
        assert!(report["answered"].as_u64() > Some(0), "{protocol}: {report}");
        assert_eq!(report["answered"], report["requests"], "{protocol}: {report}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("s3cret"));
    }
    // What is missing is said.
    for (without, words) in [
        (&["--host", HOST, "--token-file", &token, "-H", "X-Team: models"][..], "no TLS"),
        (&["--ca", &ca, "--token-file", &token, "-H", "X-Team: models"], "no TLS"),
        (&["--host", HOST, "--ca", &ca, "--token-file", &other, "-H", "X-Team: models"], "401"),
        (&["--host", HOST, "--ca", &ca, "--token-file", &token], "403"),
        (&["--host", HOST, "--ca", &token], "expected PEM"),
        (&["--host", HOST, "--ca", &ca, "-H", "Host: x"], "the Host header is what --host says"),
        (&["-H", "no header"], "expected NAME:VALUE"),
    ] {
        let output = run(&[&bench[..], without].concat());
        assert!(!output.status.success() && told(&output).contains(words), "{without:?}: {}", told(&output));
    }
    let tuned = ["tune", &url, "--model-name", "flowers-sample", "--step", "200ms", "--warm-up", "0s"];
    let output = run(&[&tuned[..], &whole[..], &["--max-concurrency", "1", "--json"]].concat());
    assert!(output.stdout.starts_with(b"{"), "{}", told(&output));
}
