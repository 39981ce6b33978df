//! One prediction from its headers to its answer, the same for every protocol.
//!
//! Here, and nowhere else, are admission, the reservation of memory, deadline, priority, the stages' times and the model's
//! account. `decode` and `encode` are the time of that work alone; a wait for a worker before either is `queue`, as it is
//! before the model. Reading and (de)compressing bodies belong to no stage.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corymb_core::{Code, Error, Parameters, Request, Response, Shortage, Value};
use corymb_engine::{Call, EngineError, Permit, Stage};
use corymb_wire::{Budget, Coding, Decoded};
use http::HeaderMap;

use super::protocol::{Answer, Asked, Place, Protocol};
use super::source::Source;
use crate::app::App;
use crate::status::ServerError;
use crate::target::Target;

/// Bytes up to which decoding and encoding run on the I/O thread, where a hand-over to the compute pool would take longer.
/// More go to the pool, so that other requests' bytes keep moving. 256 KiB of JSON are about a millisecond.
pub(super) const IN_PLACE: usize = 256 * 1024;

/// The same for compression, which takes about four times as long for each byte.
const COMPRESS_IN_PLACE: usize = IN_PLACE / 4;

/// Answers of fewer bytes are not counted: they lie in the buffers of connections before it would matter.
const SMALL: usize = 64 * 1024;

/// What the memory of a decoder is for.
const TENSORS: &str = "the request's content";
/// What the memory of an encoder is for.
const ANSWER: &str = "the answer";

/// What a request came with beside its bytes.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    headers: &'a HeaderMap,
    at: Instant,
    /// When the whole call ends, where it is more than this request.
    call_ends: Option<Instant>,
    /// How the answer is compressed.
    pub(crate) coding: Option<Coding>,
}

impl<'a> Arrival<'a> {
    /// A request whose headers have just been read, or whose message begins in a call that was open before.
    pub(crate) fn now(headers: &'a HeaderMap, coding: Option<Coding>) -> Self {
        Self { headers, at: Instant::now(), call_ends: None, coding }
    }

    /// The same in a call that ends at `call_ends`, whatever its headers say: they count from its beginning.
    pub(crate) fn within(self, call_ends: Option<Instant>) -> Self {
        Self { call_ends, ..self }
    }
}

/// The end of a time that began at `begin`. What lies beyond the clock's end is none.
pub(crate) fn deadline(begin: Instant, timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| begin.checked_add(timeout))
}

/// What became of a request.
pub(crate) struct Outcome<A> {
    /// The caller's own name for the request, as far as it is known.
    pub(crate) id: String,
    pub(crate) result: Result<A, ServerError>,
}

/// Answers one request.
pub(crate) async fn predict<P: Protocol>(
    app: &App,
    arrival: &Arrival<'_>,
    url: Option<Target>,
    source: Source<'_>,
) -> Outcome<P::Answer> {
    let mut id = String::new();
    let result = admitted::<P>(app, arrival, url, source, &mut id).await;
    Outcome { id, result }
}

async fn admitted<P: Protocol>(
    app: &App,
    arrival: &Arrival<'_>,
    url: Option<Target>,
    source: Source<'_>,
    id: &mut String,
) -> Result<P::Answer, ServerError> {
    // First the place, then the body.
    let mut permit = app.engine.admit()?;
    let deadline = match arrival.call_ends {
        Some(ends) => Some(ends),
        None => deadline(arrival.at, P::timeout(arrival.headers)?),
    };
    let limits = &app.options.limits;
    // Where the URL names the model, a request that no version takes is refused before its body is read.
    if let Some(mut asked) = P::target(Place::Url(url), limits)? {
        // Who has to wait for a model says in the body how long.
        if app.awaits(&asked.target.model) {
            let bytes = source.read(app, arrival.headers, &mut permit).await?;
            asked.timeout = P::patience(arrival.headers, &bytes, limits);
            let call = begin::<P>(app, arrival, deadline, asked, id).await?;
            return finish(answer::<P>(app, arrival, deadline, &call, permit, bytes).await, call);
        }
        let call = begin::<P>(app, arrival, deadline, asked, id).await?;
        let answered = async {
            let bytes = source.read(app, arrival.headers, &mut permit).await?;
            answer::<P>(app, arrival, deadline, &call, permit, bytes).await
        };
        return finish(answered.await, call);
    }
    let bytes = source.read(app, arrival.headers, &mut permit).await?;
    let asked = P::target(Place::Message(&bytes), limits)?;
    let asked = asked.ok_or_else(|| ServerError::invalid("the request names no model"))?;
    let call = begin::<P>(app, arrival, deadline, asked, id).await?;
    let answered = answer::<P>(app, arrival, deadline, &call, permit, bytes).await;
    finish(answered, call)
}

/// Ends the model's account of the request.
fn finish<T>(answered: Result<T, ServerError>, call: Call) -> Result<T, ServerError> {
    call.finish(answered.as_ref().map(|_| ()).map_err(|error| error.code));
    answered
}

/// Finds the version that answers. While the model is loading, a request that says how long it can wait, waits.
async fn begin<P: Protocol>(
    app: &App,
    arrival: &Arrival<'_>,
    deadline: Option<Instant>,
    asked: Asked,
    id: &mut String,
) -> Result<Call, ServerError> {
    let Asked { target, id: own, timeout } = asked;
    *id = own;
    let begin = || app.engine.begin(&target.model, target.version.as_deref(), P::NAME);
    let until = earlier(deadline, arrival.at, timeout);
    if let Some(demand) = &app.options.on_demand {
        demand.touch(&target.model);
    }
    Ok(match (begin(), until) {
        (Err(error), until) if app.options.on_demand.is_some() && may_come(error.code()) => {
            let mut begun = Err(error);
            for _ in 0..TRIES {
                // As long as it is awaited the model does not make room; it may have been chosen just before.
                let _waiting = app.loaded(&target.model, until).await?;
                begun = begin();
                if !begun.as_ref().is_err_and(|error| may_come(error.code())) {
                    break;
                }
            }
            begun?
        }
        (Err(error), Some(deadline)) if error.code() == Code::NotReady => {
            app.engine.wait_loaded(&target.model, deadline).await;
            begin()?
        }
        (begun, _) => begun?,
    })
}

/// How often a model is loaded for one request.
const TRIES: usize = 3;

/// Whether a model that answers so may be loaded when it is asked for.
fn may_come(code: Code) -> bool {
    matches!(code, Code::NotFound | Code::NotReady | Code::Draining)
}

async fn answer<P: Protocol>(
    app: &App,
    arrival: &Arrival<'_>,
    deadline: Option<Instant>,
    call: &Call,
    permit: Permit,
    bytes: Bytes,
) -> Result<P::Answer, ServerError> {
    let (decoded, permit) = decode::<P>(app, call, arrival.headers, permit, bytes).await?;
    let request = Request {
        id: decoded.id,
        model: call.name().to_owned(),
        version: Some(call.version().to_owned()),
        parameters: with_headers(decoded.parameters, call.headers(), arrival.headers),
        inputs: decoded.inputs,
        outputs: decoded.outputs,
        deadline: earlier(deadline, arrival.at, decoded.timeout),
        priority: decoded.priority,
        ..Request::default()
    };
    let response = infer::<P>(app, call, request).await?;
    let (encoded, permit) = encode::<P>(app, call, decoded.ask, response, permit).await?;
    let answer = match arrival.coding {
        Some(coding) => compress(app, encoded, coding).await?,
        None => encoded,
    };
    let len = answer.len();
    Ok(if len > SMALL { answer.holding(permit.keep(len)) } else { answer })
}

/// The permit goes along to where the work is done, since tensors may take more than their bytes did.
async fn decode<P: Protocol>(
    app: &App,
    call: &Call,
    headers: &HeaderMap,
    mut permit: Permit,
    bytes: Bytes,
) -> Result<(Decoded<P::Ask>, Permit), ServerError> {
    let limits = app.options.limits;
    if bytes.len() <= IN_PLACE {
        let mut budget = Reserving { permit: &mut permit, what: TENSORS, beside: 0 };
        let (decoded, took) = timed(|| P::decode(call.signature(), headers, &bytes, &limits, &mut budget));
        call.record(Stage::Decode, took);
        return Ok((decoded?, permit));
    }
    let (signature, headers) = (call.signature().clone(), headers.clone());
    let work = move || {
        let mut budget = Reserving { permit: &mut permit, what: TENSORS, beside: 0 };
        let decoded = P::decode(&signature, &headers, &bytes, &limits, &mut budget);
        decoded.map(|decoded| (decoded, permit))
    };
    Ok(pooled(app, call, Stage::Decode, work).await??)
}

async fn encode<P: Protocol>(
    app: &App,
    call: &Call,
    ask: P::Ask,
    response: Response,
    mut permit: Permit,
) -> Result<(P::Answer, Permit), ServerError> {
    let beside = response.outputs.byte_len() as u64;
    if P::copied(&response.outputs) <= IN_PLACE {
        let mut budget = Reserving { permit: &mut permit, what: ANSWER, beside };
        let (encoded, took) = timed(|| P::encode(call.signature(), ask, response, &mut budget));
        call.record(Stage::Encode, took);
        return Ok((encoded?, permit));
    }
    let signature = call.signature().clone();
    let work = move || {
        let mut budget = Reserving { permit: &mut permit, what: ANSWER, beside };
        let encoded = P::encode(&signature, ask, response, &mut budget);
        encoded.map(|encoded| (encoded, permit))
    };
    Ok(pooled(app, call, Stage::Encode, work).await??)
}

async fn compress<A: Answer>(app: &App, answer: A, coding: Coding) -> Result<A, ServerError> {
    if answer.len() <= COMPRESS_IN_PLACE {
        return Ok(answer.compressed(coding)?);
    }
    Ok(app.engine.compute(Stage::Encode, move || answer.compressed(coding)).await??)
}

/// Does a stage's work on the compute pool, and records how long it waited for a worker and how long it took.
async fn pooled<T: Send + 'static>(
    app: &App,
    call: &Call,
    stage: Stage,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServerError> {
    let handed = Instant::now();
    let work = move || (handed.elapsed(), timed(work));
    let (waited, (result, took)) = app.engine.compute(stage, work).await?;
    call.record(Stage::Queue, waited);
    call.record(stage, took);
    Ok(result)
}

/// Runs the model, in sight of the tap where there is one.
async fn infer<P: Protocol>(app: &App, call: &Call, request: Request) -> Result<Response, ServerError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let Some(tap) = &app.options.tap else { return Ok(call.infer(request).await?) };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    tap.request(number, P::NAME, &request);
    let answered = call.infer(request).await.map_err(Error::from);
    tap.answer(number, answered.as_ref());
    Ok(answered?)
}

/// The permit as what decoders and encoders ask for memory.
struct Reserving<'a> {
    permit: &'a mut Permit,
    what: &'static str,
    /// Bytes that the request holds otherwise.
    beside: u64,
}

impl Budget for Reserving<'_> {
    fn reserve(&mut self, bytes: usize) -> Result<(), Error> {
        let reserved = self.permit.reserve(self.what, bytes).map_err(|error| match error {
            // What it holds itself it would not have later either.
            EngineError::Memory { what, shortage: Shortage::Now { bytes, limit } } if bytes + self.beside > limit => {
                EngineError::Memory { what, shortage: Shortage::Never { bytes: bytes + self.beside, limit } }
            }
            error => error,
        });
        Ok(reserved?)
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}

/// The earlier of a deadline and the end of `timeout`, which counts from `begin`.
fn earlier(deadline: Option<Instant>, begin: Instant, timeout: Option<Duration>) -> Option<Instant> {
    match (deadline, self::deadline(begin, timeout)) {
        (Some(deadline), Some(other)) => Some(deadline.min(other)),
        (deadline, other) => deadline.or(other),
    }
}

/// Adds the headers that the model may see. What a body says under such a name does not count, whether the header is
/// there or not: whoever sets these headers may not be whoever writes the body.
fn with_headers(given: Parameters, names: &[String], headers: &HeaderMap) -> Parameters {
    if names.is_empty() {
        return given;
    }
    let kept = given.iter().filter(|(name, _)| !names.iter().any(|header| header == name));
    let mut parameters: Parameters = kept.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    for name in names {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        if !values.is_empty() {
            parameters.set(name, Value::Text(values.join(", ")));
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use corymb_core::MemoryPool;
    use corymb_engine::EngineOptions;
    use http::HeaderValue;

    use super::*;
    use crate::fake;

    #[tokio::test]
    async fn what_a_request_holds_itself_is_not_there_for_it_later() {
        let engine = fake::engine(EngineOptions { pool: MemoryPool::fixed(160), ..EngineOptions::default() }).await;
        let (mut other, mut own) = (engine.admit().expect("room"), engine.admit().expect("room"));
        other.reserve("the body", 100).expect("room");
        let mut code = |beside: u64| {
            let mut budget = Reserving { permit: &mut own, what: ANSWER, beside };
            budget.reserve(60).expect_err("no room").code
        };
        assert_eq!((code(0), code(80), code(81)), (Code::Overloaded, Code::Overloaded, Code::TooLarge));
    }

    #[test]
    fn headers_replace_what_the_body_says_under_their_names() {
        let mut given = Parameters::new();
        given.set("x-tenant", Value::Text("forged".into()));
        given.set("x-user", Value::Text("forged".into()));
        given.set("threshold", Value::Double(0.5));
        let mut headers = HeaderMap::new();
        headers.append("x-tenant", HeaderValue::from_static("a"));
        headers.append("x-tenant", HeaderValue::from_static("b"));
        let names = ["x-tenant".to_owned(), "x-user".to_owned()];
        let parameters = with_headers(given.clone(), &names, &headers);
        assert_eq!(parameters.get("x-tenant"), Some(&Value::Text("a, b".into())));
        assert_eq!(parameters.get("x-user"), None);
        assert_eq!(parameters.get("threshold"), Some(&Value::Double(0.5)));
        assert_eq!(with_headers(given.clone(), &[], &headers), given);
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let begin = Instant::now();
        let header = Some(begin + Duration::from_secs(2));
        assert_eq!(earlier(None, begin, None), None);
        assert_eq!(earlier(header, begin, None), header);
        assert_eq!(earlier(header, begin, Some(Duration::from_secs(3))), header);
        let second = Duration::from_secs(1);
        assert_eq!(earlier(header, begin, Some(second)), Some(begin + second));
        assert_eq!(earlier(None, begin, Some(second)), Some(begin + second));
        assert_eq!(earlier(None, begin, Some(Duration::MAX)), None, "beyond the clock's end");
    }
}
