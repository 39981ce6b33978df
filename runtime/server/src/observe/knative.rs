//! Knative's statistics of a pod: counted, averaged and answered as its queue-proxy does, for pods without one.

use std::fmt;
use std::future::{Ready, pending, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corymb_engine::RequestStats;
use corymb_listener::{Connection, Drain, Listener, ListenerOptions, RequestBody, Service};
use corymb_proto::Message as _;
use corymb_proto::knative::Stat;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

/// How often the averages are made: Knative's own period, by which its autoscaler reads them too.
const PERIOD: Duration = Duration::from_secs(1);

/// Scrapers that are connected at once; an autoscaler is one, or a few while it moves.
const MAX_CONNECTIONS: usize = 64;

/// Without a request for this long a connection is closed. Go's pools give up after 90 s.
const IDLE: Duration = Duration::from_secs(120);

/// A connection is ended after about this long, so that an autoscaler that moved does not hold its place for ever.
const LIFE: Duration = Duration::from_secs(600);

/// Marks a request that Knative's activator forwards: it reports such requests itself.
const PROXY_HEADER: &str = "k-proxy-request";

/// The requests of this pod for Knative's autoscaler; cheap to clone.
///
/// Give it to [`crate::ObserveOptions::knative_stats`], which counts, and call [`KnativeStats::serve`], which averages
/// and answers.
#[derive(Clone, Debug)]
pub struct KnativeStats(Arc<Counting>);

#[derive(Debug)]
struct Counting {
    pod_name: String,
    start: Instant,
    // Nothing is awaited while it is held.
    stats: Mutex<RequestStats>,
    /// The last report, encoded; the pod's name alone before the first.
    latest: Mutex<Bytes>,
}

/// A pod's name that is longer than a pod's name can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodNameTooLong {
    /// Bytes of the name.
    pub given: usize,
}

impl fmt::Display for PodNameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given } = self;
        write!(f, "the pod's name has {given} bytes; expected at most {}", KnativeStats::MAX_POD_NAME)
    }
}

impl std::error::Error for PodNameTooLong {}

impl KnativeStats {
    /// Bytes of the longest name that a pod can have. The autoscaler reads 336 bytes of an answer, of which 60 are for
    /// numbers: it would misread a longer one.
    pub const MAX_POD_NAME: usize = 253;

    /// The first window begins here. The autoscaler tells pods apart by `pod_name`.
    ///
    /// # Errors
    ///
    /// When the name is longer than [`KnativeStats::MAX_POD_NAME`].
    pub fn new(pod_name: String) -> Result<Self, PodNameTooLong> {
        if pod_name.len() > Self::MAX_POD_NAME {
            return Err(PodNameTooLong { given: pod_name.len() });
        }
        let start = Instant::now();
        let latest = Stat { pod_name: pod_name.clone(), ..Stat::default() }.encode_to_vec().into();
        let stats = Mutex::new(RequestStats::new(start));
        Ok(Self(Arc::new(Counting { pod_name, start, stats, latest: Mutex::new(latest) })))
    }

    /// Averages once a second, and answers `GET /metrics` on `listener`, until the future is dropped. A server that
    /// drains is still read, so this should outlive it.
    pub async fn serve(self, listener: TcpListener) {
        let options = ListenerOptions {
            max_connections: MAX_CONNECTIONS,
            idle_timeout: IDLE,
            max_connection_age: Some(LIFE),
            ..ListenerOptions::default()
        };
        let page = Listener::new(options, Drain::new(), Page(self.clone()));
        tokio::select! {
            () = self.report_for_ever() => {}
            _ = page.serve(vec![listener], pending(), pending()) => {}
        }
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn enter(&self, headers: &HeaderMap) -> Counted {
        let proxied = headers.get(PROXY_HEADER).is_some_and(|by| by == "activator");
        self.stats(|stats, now| stats.enter(now, proxied));
        Counted { stats: self.clone(), proxied }
    }

    /// The clock is read inside the lock, so that no event is older than the one before it.
    fn stats<T>(&self, act: impl FnOnce(&mut RequestStats, Instant) -> T) -> T {
        let mut stats = self.0.stats.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut stats, Instant::now())
    }

    async fn report_for_ever(&self) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + PERIOD, PERIOD);
        // As Go's ticker: what was missed is not made up for, and the next tick is where it would have been.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.report();
        }
    }

    fn report(&self) {
        let report = self.stats(RequestStats::report);
        // Counts are rates, by the period as it should be; averages are averages already.
        let rate = |count: u64| count as f64 / PERIOD.as_secs_f64();
        let stat = Stat {
            pod_name: self.0.pod_name.clone(),
            average_concurrent_requests: report.average_concurrency,
            average_proxied_concurrent_requests: report.average_proxied_concurrency,
            request_count: rate(report.request_count),
            proxied_request_count: rate(report.proxied_request_count),
            process_uptime: self.0.start.elapsed().as_secs_f64(),
            timestamp: 0,
        };
        *self.0.latest.lock().unwrap_or_else(PoisonError::into_inner) = stat.encode_to_vec().into();
    }

    fn latest(&self) -> Bytes {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the autoscaler reads.
#[derive(Debug)]
struct Page(KnativeStats);

impl Service for Page {
    type Body = Full<Bytes>;
    type Answer = Ready<Response<Full<Bytes>>>;

    /// The type is exact: with any other, or with a parameter, the autoscaler refuses the answer.
    fn call(&self, request: Request<RequestBody>, _: &Connection) -> Self::Answer {
        let text = |status, text: &'static str| {
            let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        };
        if request.uri().path() != "/metrics" {
            return ready(text(StatusCode::NOT_FOUND, "there is nothing but /metrics\n"));
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "/metrics is only read\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return ready(response);
        }
        let mut response = Response::new(Full::new(self.0.latest()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/protobuf"));
        ready(response)
    }
}

/// A request that is counted.
#[derive(Debug)]
pub(crate) struct Counted {
    stats: KnativeStats,
    proxied: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.stats.stats(|stats, now| stats.leave(now, self.proxied));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stats: &KnativeStats) -> Stat {
        Stat::decode(stats.latest()).expect("a Stat")
    }

    fn headers(proxy: Option<&'static str>) -> HeaderMap {
        proxy
            .map(|value| (http::HeaderName::from_static(PROXY_HEADER), HeaderValue::from_static(value)))
            .into_iter()
            .collect()
    }

    #[test]
    fn before_the_first_report_there_is_the_name_alone() {
        let stats = KnativeStats::new("pod-1".to_owned()).expect("short");
        let _request = stats.enter(&headers(None));
        assert_eq!(read(&stats), Stat { pod_name: "pod-1".to_owned(), ..Stat::default() });
    }

    #[test]
    fn proxied_requests_are_told_by_their_header() {
        let stats = KnativeStats::new("pod-1".to_owned()).expect("short");
        // The header may name somebody else: only the activator reports its requests itself.
        let requests = [None, Some("activator"), Some("queue")].map(|proxy| stats.enter(&headers(proxy)));
        stats.report();
        let first = read(&stats);
        assert_eq!((first.request_count, first.proxied_request_count), (3.0, 1.0));
        drop(requests);
        stats.report();
        stats.report();
        let last = read(&stats);
        assert_eq!((last.average_concurrent_requests, last.average_proxied_concurrent_requests), (0.0, 0.0));
        assert_eq!((last.request_count, last.timestamp), (0.0, 0));
        assert!(last.process_uptime > 0.0);
    }

    #[test]
    fn the_longest_name_leaves_room_for_the_numbers() {
        let name = "p".repeat(KnativeStats::MAX_POD_NAME);
        let stats = KnativeStats::new(name.clone()).expect("short enough");
        let _request = stats.enter(&headers(Some("activator")));
        stats.report();
        assert!(stats.latest().len() <= 336, "the autoscaler reads no more");
        assert_eq!(KnativeStats::new(name + "p").expect_err("too long").given, 254);
    }
}
