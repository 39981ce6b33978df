//! Small models that are easily answered wrongly, on each engine: right the first time and later, alone and beside
//! strangers, or refused by name when they are loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use serde_json::{Value, json};

use crate::harness::{LIMIT, Server, folder, onnxruntime_environment, root, try_send};

/// Sizes without a claim about rows: runs may be shared only where the graph allows it.
const SIZES: &str = "[batching]\nmax_size = 32\npreferred = [32]\nmax_delay = \"3ms\"\n";

/// What `tests/fixtures/cases/README.md` describes.
struct Case {
    name: String,
    path: PathBuf,
    operators: Vec<String>,
    requests: Vec<Exchange>,
    beside: Vec<Exchange>,
}

/// A request and what is right for it.
struct Exchange {
    body: String,
    outputs: Vec<Value>,
}

fn cases() -> Vec<Case> {
    let folder = root().join("tests/fixtures/cases/answers");
    let mut paths: Vec<PathBuf> =
        folder.read_dir().expect("the cases").map(|entry| entry.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    assert!(paths.len() >= 13, "{paths:?}");
    paths.into_iter().map(|path| read(&path)).collect()
}

fn read(path: &Path) -> Case {
    let text = std::fs::read_to_string(path.with_extension("json")).expect("a case has a JSON file");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let exchanges = |key: &str| file[key].as_array().expect(key).iter().map(exchange).collect();
    Case {
        name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
        path: path.to_owned(),
        operators: file["operators"]
            .as_array()
            .expect("operators")
            .iter()
            .map(|name| text_of(name).to_owned())
            .collect(),
        requests: exchanges("requests"),
        beside: exchanges("beside"),
    }
}

fn exchange(entry: &Value) -> Exchange {
    let tensors = |key: &str| -> Vec<Value> { entry[key].as_array().expect(key).iter().map(filled).collect() };
    let body = json!({ "inputs": tensors("inputs") }).to_string();
    Exchange { body: quoted(&body, "\"", ""), outputs: tensors("outputs") }
}

/// V2's JSON has bare words for what is no number of JSON; the files and serde have texts.
fn quoted(json: &str, before: &str, after: &str) -> String {
    let word =
        |json: String, word: &str| json.replace(&format!("{before}{word}{before}"), &format!("{after}{word}{after}"));
    // Infinity is part of -Infinity, so that one is read first and hidden from the other by its quotes.
    let json = word(json.to_owned(), "NaN");
    if before.is_empty() {
        return word(json, "Infinity").replace("-\"Infinity\"", "\"-Infinity\"");
    }
    word(word(json, "-Infinity"), "Infinity")
}

/// The tensor whose data are repeated until they fill the shape.
fn filled(tensor: &Value) -> Value {
    let mut tensor = tensor.clone();
    let shape = tensor["shape"].as_array().expect("a shape");
    let count = shape.iter().map(|size| size.as_u64().expect("a size")).product::<u64>();
    let data = tensor["data"].as_array().expect("data").iter().cycle();
    tensor["data"] = data.take(usize::try_from(count).expect("small")).cloned().collect();
    tensor
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::String(word) => word.parse().expect("NaN or an infinity"),
        _ => value.as_f64().expect("a number"),
    }
}

/// What callers on several threads share.
struct Caller {
    agent: ureq::Agent,
    address: String,
}

impl Caller {
    fn ask(&self, model: &str, exchange: &Exchange) -> Result<(), String> {
        let url = format!("http://{}/v2/models/{model}/infer", self.address);
        let headers = [("content-type", "application/json")];
        let answer = try_send(&self.agent, &url, "POST", &headers, exchange.body.as_bytes())
            .map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.text()));
        }
        let answer: Value = serde_json::from_str(&quoted(&answer.text(), "", "\"")).expect("JSON");
        let outputs = answer["outputs"].as_array().expect("outputs");
        for expected in &exchange.outputs {
            let given = outputs.iter().find(|given| given["name"] == expected["name"]).expect("the output");
            ensure_same(given, expected)?;
        }
        Ok(())
    }
}

/// Why models were not loaded, by name. The line that says it may come after the one that says that the server listens.
fn refusals(server: &Server) -> BTreeMap<String, String> {
    let index = server.post("/v2/repository/index", "application/json", b"").json();
    let entries = index.as_array().expect("a list").iter().filter(|entry| entry["state"] != "READY");
    let why = |model: &Value| {
        let event = server.event(|event| event["message"] == "model failed to load" && event["model"] == *model);
        (text_of(model).to_owned(), text_of(&event["error"]).to_owned())
    };
    entries.map(|entry| why(&entry["name"])).collect()
}

/// A server of all cases, those with an open batch a second time with sizes.
struct Cases<'a> {
    /// Ends with this.
    _server: Server,
    caller: Caller,
    cases: &'a [Case],
    refused: BTreeMap<String, String>,
    wrong: Vec<String>,
}

impl<'a> Cases<'a> {
    fn start(engine: &str, prefix: &str, cache: &str, sized: &Path, cases: &'a [Case]) -> Self {
        let mut arguments: Vec<String> =
            ["--backend", engine, "--cache", cache, "--keep-going"].map(str::to_owned).into();
        for case in cases {
            arguments.extend(["--model".to_owned(), format!("{}={}", case.name, case.path.display())]);
            if !case.beside.is_empty() {
                let folder = sized.join(&case.name);
                arguments.extend(["--model".to_owned(), format!("{}_sized={}", case.name, folder.display())]);
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let server = Server::start_with(&arguments, &[("VIRTUAL_ENV", prefix)]);
        let refused = refusals(&server);
        // As many connections as there are callers at once.
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(LIMIT));
        let agent = config.max_idle_connections_per_host(64).build().into();
        Self {
            caller: Caller { agent, address: server.address.clone() },
            _server: server,
            cases,
            refused,
            wrong: Vec::new(),
        }
    }

    /// The models that are to be asked, with the case of each.
    fn served(&self) -> Vec<(String, &'a Case)> {
        let sized = self.cases.iter().filter(|case| !case.beside.is_empty());
        let all = self.cases.iter().map(|case| (case.name.clone(), case));
        let all = all.chain(sized.map(|case| (format!("{}_sized", case.name), case)));
        all.filter(|(name, _)| !self.refused.contains_key(name)).collect()
    }

    /// A refusal names an operator of the model; ONNX Runtime runs all of them.
    fn ensure_refusals_name_the_operator(&mut self, engine: &str) {
        for (name, error) in &self.refused {
            let case = self.cases.iter().find(|case| name.trim_end_matches("_sized") == case.name).expect("a case");
            if engine == "onnxruntime" || !case.operators.iter().any(|operator| error.contains(operator)) {
                self.wrong.push(format!("{name} is refused: {error}"));
            }
        }
    }

    /// Each request, one after the other.
    fn ask_alone(&mut self, when: &str) {
        for (name, case) in self.served() {
            for (index, exchange) in case.requests.iter().enumerate() {
                if let Err(error) = self.caller.ask(&name, exchange) {
                    self.wrong.push(format!("{name}, request {index}, {when}: {error}"));
                }
            }
        }
    }

    /// 32 requests at once; where the batch is not open, the same few several times.
    fn ask_beside_strangers(&mut self, when: &str) {
        for (name, case) in self.served() {
            let exchanges = if case.beside.is_empty() { &case.requests } else { &case.beside };
            let exchanges: Vec<&Exchange> = exchanges.iter().cycle().take(32).collect();
            let begin = Barrier::new(exchanges.len());
            let caller = &self.caller;
            let ask = |exchange| {
                begin.wait();
                caller.ask(&name, exchange)
            };
            let answers: Vec<Result<(), String>> = std::thread::scope(|scope| {
                let callers: Vec<_> = exchanges.iter().map(|exchange| scope.spawn(move || ask(exchange))).collect();
                callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
            });
            let wrong = answers.into_iter().enumerate().filter_map(|(index, answer)| Some((index, answer.err()?)));
            self.wrong.extend(wrong.map(|(index, error)| format!("{name}, caller {index}, {when}: {error}")));
        }
    }
}

fn ensure_same(given: &Value, expected: &Value) -> Result<(), String> {
    for key in ["datatype", "shape"] {
        if given[key] != expected[key] {
            return Err(format!("the {key} of {} is {} instead of {}", given["name"], given[key], expected[key]));
        }
    }
    // Sums of large values that cancel each other leave the rounding of those values.
    let numbers =
        |tensor: &Value| -> Vec<f64> { tensor["data"].as_array().expect("data").iter().map(number).collect() };
    let (given_numbers, numbers) = (numbers(given), numbers(expected));
    let largest = numbers.iter().copied().filter(|number| number.is_finite()).map(f64::abs).fold(0.0, f64::max);
    let (relative, rest) = if expected["datatype"] == "FP16" { (2e-3, 2e-3) } else { (1e-4, 1e-6 * largest.max(1.0)) };
    let near = |given: f64, wanted: f64| {
        given == wanted
            || (given.is_nan() && wanted.is_nan())
            || (given - wanted).abs() <= rest + relative * wanted.abs()
    };
    let off = given_numbers.iter().zip(&numbers).position(|(given, wanted)| !near(*given, *wanted));
    off.map_or(Ok(()), |at| {
        Err(format!("element {at} of {} is {} instead of {}", given["name"], given_numbers[at], numbers[at]))
    })
}

fn ensure_answers(engine: &str, prefix: &str) {
    let cases = cases();
    let cache = tempfile::tempdir().expect("a temporary folder");
    let cache = cache.path().to_string_lossy();
    let sized = folder(&[]);
    for case in cases.iter().filter(|case| !case.beside.is_empty()) {
        let folder = sized.path().join(&case.name);
        std::fs::create_dir(&folder).expect("created");
        std::fs::copy(&case.path, folder.join("model.onnx")).expect("copied");
        std::fs::write(folder.join("model.toml"), SIZES).expect("written");
    }
    let mut wrong = Vec::new();
    for start in ["first start", "second start with the cache of the first"] {
        let mut cases = Cases::start(engine, prefix, &cache, sized.path(), &cases);
        cases.ensure_refusals_name_the_operator(engine);
        for time in 1..=3 {
            cases.ask_alone(&format!("time {time}, {start}"));
        }
        for time in 1..=3 {
            cases.ask_beside_strangers(&format!("beside strangers {time}, {start}"));
        }
        cases.ask_alone(&format!("after the strangers, {start}"));
        wrong.append(&mut cases.wrong);
    }
    assert!(wrong.is_empty(), "{engine}:\n{}", summary(&wrong));
}

/// How many answers of each model are wrong, with the first few: one mistake shows in hundreds of them.
fn summary(wrong: &[String]) -> String {
    let mut models: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in wrong {
        models.entry(line.split([',', ' ']).next().unwrap_or_default()).or_default().push(line);
    }
    let lines = models.iter().map(|(model, lines)| {
        format!("{model}: {} wrong, first\n  {}", lines.len(), lines[..lines.len().min(3)].join("\n  "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn answers_are_right_or_refused_by_name_on_tract() {
    ensure_answers("tract", "");
}

#[test]
fn answers_are_right_on_onnxruntime() {
    let Some(prefix) = onnxruntime_environment() else { return };
    ensure_answers("onnxruntime", &prefix);
}
