//! Callers without the token at the ports of executors.

use serde_json::Value;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::http::Request;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::{Cluster, times};
use crate::trial::{LIMIT, Trial, eventide};

/// What a server answers to a caller without the token.
const UNAUTHENTICATED: &str = "16";

/// What it answers where it has no such method.
const UNKNOWN_METHOD: &str = "12";

/// The status of a refusal, `None` where the call is taken, of a method that any client of Ballista may call. `message`
/// is its protobuf text.
async fn refusal(address: &str, method: &str, message: &str) -> Option<String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut channel: Channel = endpoint.connect().await.unwrap();
    let length = char::from(u8::try_from(message.len()).unwrap());
    assert!(length.is_ascii(), "one byte");
    let request = Request::post(format!("/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(format!("\0\0\0\0{length}{message}")));
    std::future::poll_fn(|context| GrpcService::<Body>::poll_ready(&mut channel, context))
        .await
        .unwrap();
    let answer = channel.call(request.unwrap()).await.unwrap();
    answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
}

/// A protobuf text of one field, the first.
fn field(text: &str) -> String {
    format!("\n{}{text}", char::from(u8::try_from(text.len()).unwrap()))
}

/// Where an executor takes orders, and gives data.
fn ports(cluster: &Cluster, executor: usize) -> (String, String) {
    let line = cluster.executors[executor].await_line("executor listens at ", LIMIT).unwrap();
    let words: Vec<_> = line.split([' ', '(', ')']).filter(|word| word.contains(':')).collect();
    (words[0].to_owned(), words[1].to_owned())
}

/// What the scheduler calls its executors, and where it takes them to be.
fn known(cluster: &Cluster) -> (Vec<String>, Vec<String>) {
    let asked = ["status", "--cluster", &*cluster.url, "--format", "json"];
    let finished = eventide().arguments(asked).environment(cluster.environment.clone()).run(LIMIT);
    let finished = finished.unwrap();
    finished.assert_code(0);
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    let executors = told["cluster"]["executors"].as_array().unwrap();
    let each = |name: &str| {
        let text = executors.iter().map(|executor| executor[name].as_str().unwrap().to_owned());
        text.collect()
    };
    (each("id"), each("address"))
}

/// What strangers try at an executor: where, the method, what they send.
fn tries(cluster: &Cluster, executor: usize, id: &str) -> Vec<(String, String, String)> {
    let (orders, data) = ports(cluster, executor);
    let order = |method: &str, message: String| {
        (orders.clone(), format!("ballista.protobuf.ExecutorGrpc/{method}"), message)
    };
    let fetch = |method: &str, message: String| {
        (data.clone(), format!("arrow.flight.protocol.FlightService/{method}"), message)
    };
    vec![
        order("CancelTasks", String::new()),
        order("RemoveJobData", field("job")),
        order("LaunchMultiTask", String::new()),
        fetch("DoGet", field("ticket")),
        fetch("DoAction", field("IO_BLOCK_TRANSPORT")),
        order("StopExecutor", field(id)),
    ]
}

#[tokio::test]
async fn strangers_can_do_nothing_at_the_ports_of_executors() {
    let trial = Trial::of_speech();
    for number in 1..=4 {
        trial.add_narrated(number);
    }
    let token = ("EVENTIDE_CLUSTER_TOKEN", "correct horse battery staple".to_owned());
    let mut cluster = Cluster::with(2, vec![token]);
    let mut tried = 0;
    for id in known(&cluster).0 {
        for executor in 0..2 {
            for (address, method, message) in tries(&cluster, executor, &id) {
                let refused = refusal(&address, &method, &message).await;
                assert_eq!(refused.as_deref(), Some(UNAUTHENTICATED), "{method}");
                tried += 1;
            }
        }
    }
    assert_eq!(cluster.indexed(&trial)["captioned"], 4, "both work on");
    let mut orders = [ports(&cluster, 0).0, ports(&cluster, 1).0];
    orders.sort();
    assert_eq!(known(&cluster).1, orders, "and are there");

    // A scheduler that has forgotten them learns from their heartbeats where they are.
    cluster.restart_scheduler();
    trial.add_narrated(5);
    trial.add_narrated(6);
    assert_eq!(cluster.indexed(&trial)["captioned"], 2);
    assert!(known(&cluster).1.iter().all(|address| orders.contains(address)));
    let said = cluster.said();
    assert_eq!(times(&said, "turned away a caller"), tried);
}

/// The other half of the test: these are methods that an executor has, and does what they say.
#[tokio::test]
async fn without_a_token_an_executor_does_what_anybody_says() {
    let mut cluster = Cluster::of(1);
    let id = known(&cluster).0.remove(0);
    for (address, method, message) in tries(&cluster, 0, &id) {
        let refused = refusal(&address, &method, &message).await;
        let not_let_in = [Some(UNAUTHENTICATED), Some(UNKNOWN_METHOD)];
        assert!(!not_let_in.contains(&refused.as_deref()), "{method}: {refused:?}");
    }
    cluster.executors.remove(0).wait(LIMIT).unwrap().assert_code(0);
}
