//! Spans of ours as those of OpenTelemetry. All spans of a run are one trace, whichever process they are of: its id
//! is that of the run.
//!
//! Written here, and not by the libraries for it: of the protocol a single message is needed, and they ask for other
//! features of what all the rest is built on.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::collector::Collector;

/// Spans that wait to be sent; more are left out.
const WAITING: usize = 4096;
/// Spans that are sent at once.
const BATCH: usize = 512;
/// How long a span waits for others.
const PAUSE: Duration = Duration::from_secs(2);
/// What a span says of those that it is in, so that it is found by it.
const INHERITED: [&str; 4] = ["run", "shard", "video", "attempt"];

type Fields = BTreeMap<&'static str, Value>;

/// Passes spans on when they end.
#[derive(Debug)]
pub(super) struct Traces(SyncSender<Message>);

/// Sends what waits when it is dropped.
#[derive(Debug)]
pub(crate) struct Flush {
    sender: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Ended(Value),
    Last,
}

/// A span that is open.
#[derive(Debug, Clone)]
struct Open {
    trace: u128,
    span: u64,
    parent: Option<u64>,
    began: SystemTime,
    fields: Fields,
}

impl Traces {
    /// Starts the thread that sends.
    pub(super) fn start(collector: Collector, service: &str, instance: &str) -> (Self, Flush) {
        let (sender, waiting) = sync_channel(WAITING);
        let resource = attributes(&BTreeMap::from([
            ("service.name", Value::from(service)),
            ("service.version", env!("CARGO_PKG_VERSION").into()),
            ("service.instance.id", instance.into()),
        ]));
        let send = move || send(&collector, &waiting, &resource);
        let thread = Builder::new().name("traces".to_owned()).spawn(send).ok();
        (Self(sender.clone()), Flush { sender, thread })
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let told = self.sender.send(Message::Last); // fails only where the thread has ended
        if let (Ok(()), Some(thread)) = (told, self.thread.take()) {
            let _ = thread.join(); // every request of it has a time limit
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Traces {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let around = span.parent().and_then(|parent| parent.extensions().get::<Open>().cloned());
        let mut fields = Fields::new();
        if let Some(around) = &around {
            let inherited = around.fields.iter().filter(|(name, _)| INHERITED.contains(*name));
            fields.extend(inherited.map(|(name, value)| (*name, value.clone())));
        }
        attributes.record(&mut Taken(&mut fields));
        let of_run = || trace_of_run(fields.get("run")?.as_str()?);
        let trace = around.as_ref().map(|around| around.trace).or_else(of_run);
        let open = Open {
            trace: trace.unwrap_or_else(|| u128::from(random()) << 64 | u128::from(random())),
            span: random(),
            parent: around.map(|around| around.span),
            began: SystemTime::now(),
            fields,
        };
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut Taken(&mut open.fields));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let ended = open.ended(span.name(), SystemTime::now());
        let _ = self.0.try_send(Message::Ended(ended)); // work does not wait for a slow collector
    }
}

impl Open {
    /// The span as it is sent.
    fn ended(&self, name: &str, at: SystemTime) -> Value {
        json!({
            "traceId": format!("{:032x}", self.trace),
            "spanId": format!("{:016x}", self.span),
            "parentSpanId": self.parent.map_or_else(String::new, |parent| format!("{parent:016x}")),
            "name": name,
            "kind": 1,
            "startTimeUnixNano": nanoseconds(self.began),
            "endTimeUnixNano": nanoseconds(at),
            "attributes": attributes(&self.fields),
        })
    }
}

/// Takes fields of a span in.
struct Taken<'a>(&'a mut Fields);

impl Visit for Taken<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").into());
    }
}

/// Sends what comes until the last, in batches.
fn send(collector: &Collector, waiting: &Receiver<Message>, resource: &Value) {
    let (mut last, mut silent) = (false, false);
    while !last {
        let spans;
        (spans, last) = batch(waiting);
        if spans.is_empty() {
            continue;
        }
        let sent = collector.post(&document(resource, &spans));
        match (&sent, silent) {
            (Err(error), false) => tracing::warn!(%error, "the collector takes no traces now"),
            (Ok(()), true) => tracing::warn!("the collector takes traces again"),
            _ => {}
        }
        silent = sent.is_err();
    }
}

/// The spans that end within a pause of the first, and whether they are the last.
fn batch(waiting: &Receiver<Message>) -> (Vec<Value>, bool) {
    let (mut spans, mut until) = (Vec::new(), None);
    while spans.len() < BATCH {
        let message = match until {
            None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => {
                waiting.recv_timeout(Instant::saturating_duration_since(&until, Instant::now()))
            }
        };
        match message {
            Ok(Message::Ended(span)) => spans.push(span),
            Ok(Message::Last) | Err(RecvTimeoutError::Disconnected) => return (spans, true),
            Err(RecvTimeoutError::Timeout) => return (spans, false),
        }
        until.get_or_insert_with(|| Instant::now() + PAUSE);
    }
    (spans, false)
}

fn document(resource: &Value, spans: &[Value]) -> Vec<u8> {
    let scope = json!({ "name": "eventide" });
    let document = json!({
        "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{ "scope": scope, "spans": spans }],
        }],
    });
    document.to_string().into_bytes()
}

fn attributes(fields: &Fields) -> Value {
    let attribute = |(name, value): (&&str, &Value)| {
        let value = match value {
            Value::Number(number) if !number.is_f64() => json!({ "intValue": number.to_string() }),
            Value::Number(number) => json!({ "doubleValue": number }),
            Value::Bool(bool) => json!({ "boolValue": bool }),
            Value::String(text) => json!({ "stringValue": text }),
            other => json!({ "stringValue": other.to_string() }),
        };
        json!({ "key": name, "value": value })
    };
    fields.iter().map(attribute).collect()
}

/// The id of a run, a UUID, as the id of a trace.
fn trace_of_run(run_id: &str) -> Option<u128> {
    let digits = run_id.replace('-', "");
    u128::from_str_radix(&digits, 16).ok().filter(|id| digits.len() == 32 && *id != 0)
}

/// A number that no other span has, as far as chance allows. Not 0.
fn random() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

fn nanoseconds(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "01a209be-2cff-77d3-8bb1-3368b28625b6";

    #[test]
    fn the_trace_of_a_run_has_its_id() {
        let trace = trace_of_run(RUN).unwrap();
        assert_eq!(format!("{trace:032x}"), RUN.replace('-', ""));
        for other in ["", "r", "00000000-0000-0000-0000-000000000000", "01a209be-2cff"] {
            assert_eq!(trace_of_run(other), None, "{other}");
        }
    }

    #[test]
    fn fields_are_attributes_of_their_type() {
        let fields =
            Fields::from([("video", "v".into()), ("attempt", 2.into()), ("rate", 0.5.into())]);
        let expected = json!([
            { "key": "attempt", "value": { "intValue": "2" } },
            { "key": "rate", "value": { "doubleValue": 0.5 } },
            { "key": "video", "value": { "stringValue": "v" } },
        ]);
        assert_eq!(attributes(&fields), expected);
    }
}
