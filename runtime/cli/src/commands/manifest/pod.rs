//! The flags of a pod: its image, what it may use, and as whom it runs.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::quantity::{amount, cores, memory};
use super::template::{Values, text};

/// What the project's image is called where nothing is said.
const IMAGE: &str = "corymb:latest";

/// The same with CUDA's libraries.
const IMAGE_WITH_CUDA: &str = "corymb:cuda";

/// The group that pods write to a claim as: that of the image's user.
const GROUP: u32 = 65532;

/// Variables that every manifest, or what runs it, sets: a second value would stand beside the first, and Kubernetes takes the last.
const SET_HERE: [&str; 10] = [
    "CORYMB_CACHE",
    "CORYMB_DRAIN_TIMEOUT",
    "CORYMB_HOST",
    "CORYMB_MODEL",
    "CORYMB_MODEL_DIR",
    "CORYMB_PORT",
    "K_CONFIGURATION",
    "K_REVISION",
    "K_SERVICE",
    "PORT",
];

/// Naming one of these has metrics pushed.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"];

/// How often they are pushed, in milliseconds. OpenTelemetry's minute is longer than what autoscalers' queries look back.
const EXPORT_INTERVAL: (&str, &str) = ("OTEL_METRIC_EXPORT_INTERVAL", "5000");

/// Where and in what a service runs.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PodFlags {
    /// The namespace in the manifest; by default kubectl's
    #[arg(long)]
    pub(crate) namespace: Option<String>,
    /// The image that has Corymb inside [default: corymb:latest, or corymb:cuda with --gpu]
    #[arg(long, value_parser = image)]
    pub(crate) image: Option<String>,
    /// Cores that are reserved for a pod, e.g. 2 or 500m [default: 1]
    #[arg(long, value_parser = cores)]
    pub(crate) cpu: Option<String>,
    /// The most cores of a pod, or none for no limit [default: those that are reserved]
    #[arg(long, value_name = "CPU", value_parser = cores_or_none)]
    pub(crate) cpu_limit: Option<String>,
    /// Memory that is reserved for a pod, e.g. 2Gi [default: 512Mi]
    #[arg(long, value_parser = memory)]
    pub(crate) memory: Option<String>,
    /// The most memory of a pod, beyond which the kernel ends it [default: what is reserved]
    #[arg(long, value_name = "MEMORY", value_parser = memory)]
    pub(crate) memory_limit: Option<String>,
    /// NVIDIA GPUs of a pod
    #[arg(long, value_name = "GPUS", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) gpu: Option<u32>,
    /// The service account that pods run as, and fetch models as
    #[arg(long, value_name = "NAME", value_parser = account)]
    pub(crate) service_account: Option<String>,
    /// A variable of the server's environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// A PersistentVolumeClaim in the place of each pod's own cache: models are downloaded and plugins compiled once
    #[arg(long, value_name = "CLAIM", value_parser = account)]
    pub(crate) cache_claim: Option<String>,
}

/// A reference of an image, as far as a mistake can be seen in it.
fn image(text: &str) -> Result<String, String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_part) {
        true => Ok(text.to_owned()),
        false => Err("expected the name of an image, e.g. registry.example/corymb:1.2".to_owned()),
    }
}

/// `none` where there is to be no limit.
fn cores_or_none(text: &str) -> Result<String, String> {
    if text == "none" { Ok(text.to_owned()) } else { cores(text) }
}

/// The name of an object whose kind takes dots, too: a DNS subdomain.
fn account(text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let letters = part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        !part.is_empty() && letters && !part.starts_with('-') && !part.ends_with('-')
    };
    match text.len() <= 253 && text.split('.').all(is_part) {
        true => Ok(text.to_owned()),
        false => Err("expected a name in Kubernetes: small letters, digits, - and .".to_owned()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let expected = || "expected NAME=VALUE, e.g. OTEL_EXPORTER_OTLP_ENDPOINT=http://otel-collector:4318".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(expected)?;
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if name.is_empty() || !is_name(name) || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(expected());
    }
    if value.chars().any(|letter| letter.is_control() && letter != '\n' && letter != '\t') {
        return Err("its value has a control character, which YAML does not keep".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl PodFlags {
    /// Each flag, whether it was given, and the placeholders that it may stand in.
    pub(crate) fn given(&self) -> [(bool, &'static str, &'static [&'static str]); 10] {
        [
            (self.namespace.is_some(), "--namespace", &["namespace"]),
            (self.image.is_some(), "--image", &["image", "own_image"]),
            (self.cpu.is_some(), "--cpu", &["cpu", "own_resources"]),
            (self.cpu_limit.is_some(), "--cpu-limit", &["cpu", "own_resources"]),
            (self.memory.is_some(), "--memory", &["memory", "own_resources"]),
            (self.memory_limit.is_some(), "--memory-limit", &["memory_limit", "own_resources"]),
            (self.gpu.is_some(), "--gpu", &["gpu", "own_resources"]),
            (self.service_account.is_some(), "--service-account", &["service_account"]),
            (!self.env.is_empty(), "--env", &["env", "env_list"]),
            (self.cache_claim.is_some(), "--cache-claim", &["cache_claim"]),
        ]
    }

    fn cores(&self) -> &str {
        self.cpu.as_deref().unwrap_or("1")
    }

    fn bytes(&self) -> &str {
        self.memory.as_deref().unwrap_or("512Mi")
    }

    fn check(&self) -> anyhow::Result<()> {
        let less =
            |limit: &str, request: &str| amount(limit).zip(amount(request)).is_some_and(|(most, least)| most < least);
        for (flag, limit, of, request) in [
            ("--cpu-limit", self.cpu_limit.as_deref(), "--cpu", self.cores()),
            ("--memory-limit", self.memory_limit.as_deref(), "--memory", self.bytes()),
        ] {
            if let Some(limit) = limit.filter(|limit| less(limit, request)) {
                bail!("{flag} is {limit}; expected at least {of}, {request}");
            }
        }
        self.leaves(&SET_HERE)?;
        for (index, (name, _)) in self.env.iter().enumerate() {
            if self.env[..index].iter().any(|(before, _)| before == name) {
                bail!("--env {name} is given twice");
            }
        }
        Ok(())
    }

    /// Refuses variables that are somebody else's.
    pub(super) fn leaves(&self, set: &[&str]) -> anyhow::Result<()> {
        match self.env.iter().find(|(name, _)| set.contains(&name.as_str())) {
            Some((name, _)) => bail!("--env {name}: the manifest sets it, or who runs it does"),
            None => Ok(()),
        }
    }

    /// The variables, with what follows from them.
    fn variables(&self) -> Vec<(&str, &str)> {
        let mut variables: Vec<(&str, &str)> =
            self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let has = |names: &[&str]| variables.iter().any(|(name, _)| names.contains(name));
        if has(&ENDPOINTS) && !has(&[EXPORT_INTERVAL.0]) {
            variables.push(EXPORT_INTERVAL);
        }
        variables
    }

    /// Where any is asked for, all of requests and limits: what is left out would be the cluster's own, and may not fit.
    fn own_resources(&self) -> Option<String> {
        let asked = [&self.cpu, &self.cpu_limit, &self.memory, &self.memory_limit];
        if asked.iter().all(|asked| asked.is_none()) && self.gpu.is_none() {
            return None;
        }
        let requests = json!({ "cpu": self.cores(), "memory": self.bytes() });
        let mut limits = json!({ "memory": self.memory_limit() });
        if let Some(cores) = self.cpu_limit() {
            limits["cpu"] = cores.into();
        }
        if let Some(gpus) = self.gpu {
            limits["nvidia.com/gpu"] = gpus.to_string().into();
        }
        Some(json!({ "requests": requests, "limits": limits }).to_string())
    }

    /// None where there is to be none.
    pub(super) fn cpu_limit(&self) -> Option<&str> {
        Some(self.cpu_limit.as_deref().unwrap_or_else(|| self.cores())).filter(|limit| *limit != "none")
    }

    fn memory_limit(&self) -> &str {
        self.memory_limit.as_deref().unwrap_or_else(|| self.bytes())
    }

    /// What they give a template.
    pub(super) fn values(&self, values: &mut Values) -> anyhow::Result<()> {
        self.check()?;
        let image = if self.gpu.is_some() { IMAGE_WITH_CUDA } else { IMAGE };
        values.insert("image", text(self.image.as_deref().unwrap_or(image)));
        values.insert("cpu", text(self.cores()));
        values.insert("memory", text(self.bytes()));
        if let Some(limit) = self.cpu_limit() {
            values.insert("cpu_limit", text(limit));
        }
        values.insert("memory_limit", text(self.memory_limit()));
        if let Some(gpus) = self.gpu {
            values.insert("gpu", text(&gpus.to_string()));
        }
        for (name, value) in [("namespace", &self.namespace), ("service_account", &self.service_account)] {
            if let Some(value) = value {
                values.insert(name, text(value));
            }
        }
        // Where a runtime has them already, only what was asked for is said anew.
        if let Some(image) = self.image.as_deref().or(self.gpu.map(|_| image)) {
            values.insert("own_image", text(image));
        }
        if let Some(resources) = self.own_resources() {
            values.insert("own_resources", resources);
        }
        match &self.cache_claim {
            Some(claim) => {
                values.insert("cache_claim", json!({ "claimName": claim }).to_string());
                values.insert("pod_security", format!("{{fsGroup: {GROUP}, fsGroupChangePolicy: OnRootMismatch}}"));
            }
            None => values.insert("own_cache", "{}".to_owned()),
        }
        let variables: Vec<Value> =
            self.variables().into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        if !variables.is_empty() {
            let lines: Vec<String> = variables.iter().map(|variable| format!("- {variable}")).collect();
            values.insert("env", lines.join("\n"));
            values.insert("env_list", Value::from(variables).to_string());
        }
        for (is_given, flag, names) in self.given() {
            if is_given {
                values.given(flag, names);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kubernetes_would_refuse_are_refused() {
        assert!(image("corymb latest").is_err() && image("").is_err());
        assert!(image("registry.example:5000/a/corymb@sha256:0123").is_ok());
        assert!(account("models.team-a").is_ok());
        for name in ["", "A", "a_b", "-a", "a-", "a..b", "a."] {
            assert!(account(name).is_err(), "{name}");
        }
        assert_eq!(variable("A_b.c=x=y"), Ok(("A_b.c".to_owned(), "x=y".to_owned())));
        for text in ["A", "=x", "1A=x", "A B=x", "Ä=x"] {
            assert!(variable(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_is_at_least_what_is_reserved() {
        let pod = |cpu: &str, limit: &str| PodFlags {
            cpu: Some(cpu.to_owned()),
            cpu_limit: Some(limit.to_owned()),
            ..PodFlags::default()
        };
        assert!(pod("500m", "0.5").check().is_ok() && pod("2", "none").check().is_ok());
        assert!(pod("2", "1500m").check().is_err());
        let env = |names: &[&str]| PodFlags {
            env: names.iter().map(|name| ((*name).to_owned(), String::new())).collect(),
            ..PodFlags::default()
        };
        assert!(env(&["A", "B"]).check().is_ok());
        assert!(env(&["A", "A"]).check().is_err() && env(&["CORYMB_CACHE"]).check().is_err());
    }

    #[test]
    fn what_is_asked_of_a_runtime_is_asked_whole() {
        let asked = PodFlags { cpu: Some("2".to_owned()), gpu: Some(1), ..PodFlags::default() };
        let wanted =
            r#"{"limits":{"cpu":"2","memory":"512Mi","nvidia.com/gpu":"1"},"requests":{"cpu":"2","memory":"512Mi"}}"#;
        assert_eq!(asked.own_resources().as_deref(), Some(wanted));
        let free = PodFlags { cpu_limit: Some("none".to_owned()), gpu: None, ..asked };
        let wanted = r#"{"limits":{"memory":"512Mi"},"requests":{"cpu":"2","memory":"512Mi"}}"#;
        assert_eq!(free.own_resources().as_deref(), Some(wanted));
        assert_eq!(PodFlags::default().own_resources(), None);
    }

    #[test]
    fn what_is_pushed_is_pushed_as_often_as_it_is_asked_for() {
        let named = |names: &[&str]| {
            let env = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
            let pod = PodFlags { env, ..PodFlags::default() };
            pod.variables().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(named(&["A"]), ["A=x"]);
        let both = ["OTEL_EXPORTER_OTLP_ENDPOINT=x", "OTEL_METRIC_EXPORT_INTERVAL=5000"];
        assert_eq!(named(&["OTEL_EXPORTER_OTLP_ENDPOINT"]), both);
        let said = named(&["OTEL_METRIC_EXPORT_INTERVAL", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"]);
        assert_eq!(said, ["OTEL_METRIC_EXPORT_INTERVAL=x", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=x"]);
    }
}
