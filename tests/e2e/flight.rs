//! The tables over Flight SQL, asked by clients that others wrote: ADBC's driver (Go) and `pyarrow.flight` (C++).

use std::path::{Path, PathBuf};

use eventide_testkit::{Running, tools};
use serde_json::{Value, json};

use crate::{
    search::{SENTENCES, talk_and_encoder},
    trial::{LIMIT, Trial},
};

const TOKEN: &str = "a-token-of-a-test-0123456789";

/// What the scripts have in common. `connect` is ADBC's, `info` and `rows` are what a client does by itself.
const COMMON: &str = "
import json, sys, time, pyarrow, pyarrow.flight as flight, adbc_driver_flightsql.dbapi as dbapi
from adbc_driver_manager import Error
uri, token = sys.argv[1], sys.argv[2]
AS_OF = 'adbc.flight.sql.rpc.call_header.eventide-as-of'
def connect(**options):
    held = {'adbc.flight.sql.authorization_header': 'Bearer ' + token} if token else {}
    return dbapi.connect(uri, db_kwargs=held | options, autocommit=True)
def ask(connection, statement, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [list(row) for row in cursor.fetchall()]
def refused(call):
    try:
        call()
    except (Error, pyarrow.ArrowException) as error:
        return str(error)
    return 'nothing'
def field(number, value):
    value, length = value.encode() if isinstance(value, str) else value, b''
    size = len(value)
    while size > 127:
        length, size = length + bytes([size % 128 + 128]), size // 128
    return bytes([number * 8 + 2]) + length + bytes([size]) + value
def called(client, command, body, options=None):
    name = 'type.googleapis.com/arrow.flight.protocol.sql.Command' + command
    descriptor = flight.FlightDescriptor.for_command(field(1, name) + field(2, body))
    return client.get_flight_info(descriptor, options)
def info(client, statement, options=None):
    return called(client, 'StatementQuery', field(1, statement), options)
def rows(client, statement, options=None):
    ticket = info(client, statement, options).endpoints[0].ticket
    table = client.do_get(ticket, options).read_all()
    return [list(row.values()) for row in table.to_pylist()]
";

/// A server of a trial's tables.
struct Served {
    process: Running,
    uri: String,
    token: &'static str,
}

impl Served {
    fn of(trial: &Trial, token: &'static str, arguments: &[&str]) -> Self {
        let process = trial
            .program(["flight", "--tables", "lake", "--listen", "127.0.0.1:0", "--refresh", "1s"])
            .arguments(arguments)
            .environment([("EVENTIDE_SERVE_TOKEN", token)])
            .environment([("XDG_CACHE_HOME", trial.folder().join("cache"))])
            .start()
            .unwrap();
        let line = process.await_line("flight sql listens at ", LIMIT).unwrap();
        Self { process, uri: line.rsplit(' ').next().unwrap().to_owned(), token }
    }

    /// What a script prints, as JSON.
    fn asked(&self, script: &str, more: &[&str]) -> Value {
        let arguments = [&[&*self.uri, self.token], more].concat();
        let answer = tools().unwrap().run_python(&format!("{COMMON}{script}"), arguments).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    fn stopped(self) {
        self.process.terminate().unwrap();
        self.process.wait(LIMIT).unwrap().assert_code(0);
    }
}

/// Two talks, indexed.
fn night() -> Trial {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.add_narrated(2);
    trial.indexed();
    trial
}

const QUESTION: &str = "SELECT caption, start_ms, score FROM events ORDER BY uri, start_ms";

#[test]
fn two_clients_see_what_our_own_sql_sees() {
    let trial = night();
    let finished =
        trial.program(["sql", "--tables", "lake", "--format", "json", QUESTION]).run(LIMIT);
    let ours: Vec<Value> = serde_json::from_str(&finished.unwrap().stdout).unwrap();
    let ours: Vec<Value> =
        ours.iter().map(|row| json!([row["caption"], row["start_ms"], row["score"]])).collect();
    assert_eq!(ours.len(), 4);

    let served = Served::of(&trial, "", &[]);
    let script = "
statement = sys.argv[3]
with connect() as connection:
    print(json.dumps([ask(connection, statement), rows(flight.connect(uri), statement)]))
";
    let theirs = served.asked(script, &[QUESTION]);
    assert_eq!(theirs, json!([ours, ours]));
    served.stopped();
}

#[test]
fn a_client_finds_its_way() {
    let trial = night();
    let served = Served::of(&trial, "", &[]);
    let script = "
with connect() as connection:
    tables = connection.adbc_get_objects(depth='tables').read_all().to_pylist()
    names = [(c['catalog_name'], s['db_schema_name'], sorted(t['table_name'] for t in s['db_schema_tables']))
        for c in tables for s in c['catalog_db_schemas']]
    about = connection.adbc_get_info()
    columns = connection.adbc_get_table_schema('events').names
    bound = ask(connection, 'SELECT caption FROM events WHERE start_ms = $1 AND caption LIKE $2', (0, 'talk-2%'))
    none = ask(connection, 'SELECT caption FROM events WHERE start_ms < $1', (0,))
    shown = ask(connection, 'SELECT timecode(max(start_ms)), count(*) FROM events')
    client = flight.connect(uri)
    keys = [called(client, command, field(3, 'events')) for command in ('GetPrimaryKeys', 'GetImportedKeys')]
    keys = [client.do_get(key.endpoints[0].ticket).read_all() for key in keys]
    keys = [keys[0]['column_name'].to_pylist(), keys[1].num_rows]
    print(json.dumps([names, about['vendor_name'], connection.adbc_get_table_types(), columns[:2], bound, none, shown, keys]))
";
    let expected = json!([
        [["eventide", "published", ["events", "feedback", "runs", "transcripts", "videos"]]],
        "Eventide",
        ["TABLE"],
        ["event_id", "video_id"],
        [["talk-2 begins."]],
        [],
        [["00:00:03.000", 4]],
        [["event_id"], 0],
    ]);
    assert_eq!(served.asked(script, &[]), expected);
    served.stopped();
}

#[test]
fn words_are_searched_for() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    let first = trial.indexed()["run_id"].as_str().unwrap().to_owned();
    trial.add_narrated(2);
    trial.indexed();
    let served = Served::of(&trial, "", &[]);
    let script = "
search = \"SELECT caption FROM search('begin') ORDER BY caption\"
matches = \"SELECT caption FROM events WHERE matches(caption, 'begin') ORDER BY caption\"
bound = 'SELECT caption FROM events WHERE matches(caption, $1) ORDER BY caption'
with connect() as connection, connect(**{AS_OF: sys.argv[3]}) as earlier:
    found = [ask(connection, search), ask(connection, matches), ask(connection, bound, ('begin',))]
    before = [ask(earlier, search), ask(earlier, matches)]
    wrong = [refused(lambda: ask(connection, \"SELECT * FROM search('(begin')\")),
        refused(lambda: ask(connection, \"SELECT caption FROM events WHERE matches(caption, '(begin')\"))]
    print(json.dumps([found, before, ['INVALID_ARGUMENT' in text and 'not closed' in text for text in wrong]]))
";
    let both = json!([["talk-1 begins."], ["talk-2 begins."]]);
    let one = json!([["talk-1 begins."]]);
    let expected = json!([[both, both, both], [one, one], [true, true]]);
    assert_eq!(served.asked(script, &[&first]), expected);
    served.stopped();
}

#[test]
fn captions_are_searched_for_by_meaning() {
    let trial = talk_and_encoder();
    let script = "
search = \"SELECT caption, similarity > 0.2 FROM search('a hot drink') ORDER BY rrf DESC LIMIT 1\"
with connect() as connection, flight.connect(uri) as client:
    print(json.dumps([ask(connection, search), rows(client, search)]))
";
    let served = Served::of(&trial, "", &["--embeddings", "minilm"]);
    let nearest = json!([[SENTENCES[3], true]]);
    assert_eq!(served.asked(script, &[]), json!([nearest, nearest]));
    served.stopped();

    let of_words = Served::of(&trial, "", &[]);
    assert_eq!(of_words.asked(script, &[]), json!([[], []]), "nobody says `hot` or `drink`");
    of_words.stopped();
}

#[test]
fn what_is_wrong_is_said() {
    let trial = night();
    let served = Served::of(&trial, "", &[]);
    let script = "
with connect() as connection:
    asked = lambda statement: refused(lambda: ask(connection, statement))
    print(json.dumps([
        asked('SELECT captoin FROM events'),
        asked('DROP TABLE events'),
        asked('CREATE VIEW mine AS SELECT 1'),
        asked(\"COPY events TO '/tmp/elsewhere.csv' STORED AS CSV\"),
        asked('INSERT INTO runs SELECT * FROM runs'),
        asked(\"SELECT parse_timecode(caption) FROM events\"),
        refused(lambda: ask(connect(**{AS_OF: 'run-9'}), 'SELECT 1')),
        refused(lambda: rows(flight.connect(uri), 'SELEC 1')),
        refused(lambda: flight.connect(uri).do_get(flight.Ticket(b'mine')).read_all()),
    ]))
";
    let said = served.asked(script, &[]);
    let expected = [
        ["INVALID_ARGUMENT", "caption"],
        ["only reads", "DropTable"],
        ["only reads", "CreateView"],
        ["only reads", "elsewhere.csv"],
        ["only reads", "writes"],
        ["INVALID_ARGUMENT", "is not a time code"],
        ["NOT_FOUND", "no run `run-9`"],
        ["cannot plan", "SELEC"],
        ["", ""],
    ];
    for (said, parts) in said.as_array().unwrap().iter().zip(expected) {
        for part in parts {
            assert!(said.as_str().unwrap().contains(part), "{said} has no `{part}`");
        }
        assert_ne!(said, "nothing");
    }
    served.stopped();
}

#[test]
fn a_new_night_is_seen_and_an_old_one_stays() {
    let trial = Trial::of_speech();
    let served = Served::of(&trial, "", &[]);
    let none = "with connect() as c: print(json.dumps(refused(lambda: ask(c, 'SELECT 1'))))\n";
    let said = served.asked(none, &[]);
    assert!(said.as_str().unwrap().contains("no tables at"), "{said}");
    trial.add_narrated(1);
    let first = trial.indexed()["run_id"].as_str().unwrap().to_owned();
    let script = "
count = 'SELECT count(*) FROM events'
def awaited(connection, expected):
    for _ in range(600):
        if ask(connection, count) == [[expected]]:
            return expected
        time.sleep(0.1)
with connect() as connection:
    seen = awaited(connection, int(sys.argv[3]))
    earlier = ask(connect(**{AS_OF: sys.argv[4]}), count)
    within = ask(connection, f\"SELECT count(*) FROM events_at('{sys.argv[4]}')\")
    options = flight.FlightCallOptions(headers=[(b'eventide-as-of', sys.argv[4].encode())])
    print(json.dumps([seen, earlier, within, rows(flight.connect(uri), count, options)]))
";
    assert_eq!(served.asked(script, &["2", &first]), json!([2, [[2]], [[2]], [[2]]]));
    trial.add_narrated(2);
    trial.indexed();
    assert_eq!(served.asked(script, &["4", &first]), json!([4, [[2]], [[2]], [[2]]]));
    let as_of = ["sql", "--tables", "lake", "--format", "csv", "--as-of", &first];
    let told = trial.program(as_of).arguments(["SELECT count(*) FROM events"]).run(LIMIT).unwrap();
    told.assert_code(0);
    assert!(told.stdout.ends_with("\n2\n"), "{}", told.stdout);
    let unknown = ["sql", "--tables", "lake", "--as-of", "2001-01-01", "SELECT 1"];
    let refused = trial.program(unknown).run(LIMIT).unwrap();
    refused.assert_code(2);
    assert!(refused.stderr.contains("nothing was published"), "{}", refused.stderr);
    served.stopped();
}

#[test]
fn a_ticket_is_of_the_night_that_it_was_made_in() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let served = Served::of(&trial, "", &[]);
    let plan = "
ticket = info(flight.connect(uri), 'SELECT count(*) FROM events').endpoints[0].ticket
print(json.dumps(ticket.ticket.hex()))
";
    let ticket = served.asked(plan, &[]);
    trial.add_narrated(2);
    trial.indexed();
    // Whatever it holds open is gone with it: the ticket alone says which night.
    served.stopped();
    let served = Served::of(&trial, "", &[]);
    let fetch = "
ticket = flight.Ticket(bytes.fromhex(sys.argv[3]))
client = flight.connect(uri)
print(json.dumps([client.do_get(ticket).read_all().to_pylist()[0], rows(client, 'SELECT count(*) FROM events')]))
";
    let answer = served.asked(fetch, &[ticket.as_str().unwrap()]);
    assert_eq!(answer, json!([{ "count(*)": 2 }, [[4]]]));
    served.stopped();
}

#[test]
fn only_who_has_the_token_is_let_in() {
    let trial = night();
    let served = Served::of(&trial, TOKEN, &[]);
    let script = "
count = 'SELECT count(*) FROM events'
with connect() as connection:
    bearer = ask(connection, count)
named = {'username': 'anybody', 'password': token}
with dbapi.connect(uri, db_kwargs=named, autocommit=True) as connection:
    basic = ask(connection, count)
client = flight.connect(uri)
options = flight.FlightCallOptions(headers=[client.authenticate_basic_token('anybody', token)])
shaken = rows(client, count, options)
wrong = refused(lambda: client.authenticate_basic_token('anybody', token + 'x'))
none = refused(lambda: rows(client, count))
other = refused(lambda: ask(dbapi.connect(uri, db_kwargs=named | {'password': 'x'}, autocommit=True), count))
tables = refused(lambda: list(client.list_actions()))
print(json.dumps([bearer, basic, shaken, wrong, none, other, tables]))
";
    let said = served.asked(script, &[]);
    let [bearer, basic, shaken, refused @ ..] = said.as_array().unwrap().as_slice() else {
        panic!("{said}")
    };
    assert_eq!([bearer, basic, shaken], [&json!([[4]]); 3]);
    for refused in refused {
        let text = refused.as_str().unwrap().to_lowercase();
        assert!(text.contains("unauthenticated") || text.contains("token"), "{said}");
        assert!(!text.contains(TOKEN), "{said}");
    }
    served.stopped();
    let weak = trial
        .program(["flight", "--tables", "lake", "--listen", "127.0.0.1:0"])
        .environment([("EVENTIDE_SERVE_TOKEN", "short")])
        .run(LIMIT)
        .unwrap();
    weak.assert_code(2);
    assert!(weak.stderr.contains("openssl rand"), "{}", weak.stderr);
}

#[test]
fn a_certificate_is_shown() {
    let trial = night();
    let file = |name: &str| -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tls").join(name)
    };
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().unwrap());
    let arguments = ["--tls-cert", certificate, "--tls-key", key];
    let served = Served::of(&trial, TOKEN, &arguments);
    assert!(served.uri.starts_with("grpc+tls://"), "{}", served.uri);
    let script = "
roots = open(sys.argv[3]).read()
with connect(**{'adbc.flight.sql.client_option.tls_root_certs': roots}) as connection:
    seen = ask(connection, 'SELECT count(*) FROM events')
unknown = refused(lambda: ask(connect(), 'SELECT 1'))
clear = refused(lambda: rows(flight.connect(uri.replace('+tls', '')), 'SELECT 1'))
print(json.dumps([seen, unknown == 'nothing', clear == 'nothing']))
";
    assert_eq!(served.asked(script, &[certificate]), json!([[[4]], false, false]));
    served.stopped();
}

/// Rows for hours, of which a client sees the first at once.
const ENDLESS: &str =
    "SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

#[test]
fn a_statement_that_nobody_reads_gives_its_turn_back() {
    let trial = night();
    let served = Served::of(&trial, "", &["--statements", "1", "--queue", "2s"]);
    let script = "
client = flight.connect(uri)
reader = client.do_get(info(client, sys.argv[3]).endpoints[0].ticket)
reader.read_chunk()
full = refused(lambda: rows(client, 'SELECT 1'))
reader.cancel()
def awaited():
    for _ in range(30):
        if refused(lambda: rows(client, 'SELECT 1')) == 'nothing':
            return 'went on'
after_cancel = awaited()
import threading
with connect() as connection, connection.cursor() as cursor:
    cursor.execute(sys.argv[3])
    cursor.fetchone()
    cursor.adbc_cancel()
    said = refused(lambda: cursor.fetchall())
after_adbc = awaited()
print(json.dumps([full, after_cancel, said != 'nothing', after_adbc]))
";
    let said = served.asked(script, &[ENDLESS]);
    assert!(said[0].as_str().unwrap().contains("run already"), "{said}");
    assert_eq!([&said[1], &said[3]], ["went on"; 2], "{said}");
    assert_eq!(said[2], true);
    served.stopped();
}

#[test]
fn a_statement_has_its_time() {
    let trial = night();
    let served = Served::of(&trial, "", &["--statement-time", "1s"]);
    let script = "print(json.dumps(refused(lambda: rows(flight.connect(uri), sys.argv[3]))))";
    let long = format!("SELECT count(*) FROM ({ENDLESS}) WHERE value % 7 = 3");
    let said = served.asked(script, &[&long]);
    assert!(said.as_str().unwrap().contains("not done within 1 s"), "{said}");
    served.stopped();
}
