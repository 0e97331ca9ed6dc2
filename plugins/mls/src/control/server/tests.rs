//! Real sockets, friendly and hostile.

use super::*;
use crate::control::{Codes, ControlError, PairCode, Query, ask};
use crate::room::Command;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Short enough to be waited for, long enough for a machine with other work.
const SHORT: Limits = Limits {
    clients: 4,
    silence: Duration::from_secs(30),
    line: Duration::from_millis(500),
};

struct Room {
    folder: tempfile::TempDir,
    server: ControlServer,
}

impl Room {
    fn new(limits: Limits, handler: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("room.sock");
        let server = ControlServer::start_within(&path, Arc::new(handler), limits).unwrap();
        Self { folder, server }
    }

    /// A room that answers each request with what it understood.
    fn echo(limits: Limits) -> Self {
        Self::new(limits, |request| Reply::answer(&request))
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("room.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        // A test that would wait for ever fails instead.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn assert_answers(&self) {
        let reply = ask(&self.path(), &Request::Ask(Query::Status)).unwrap();
        assert_eq!(reply, Reply::Ok(json!({"command": "status"})));
    }
}

/// What comes until the connection ends.
fn rest(stream: &UnixStream) -> String {
    let mut all = String::new();
    match (&mut &*stream).read_to_string(&mut all) {
        Ok(_) => {}
        // Closed by the server before it had read everything.
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
        Err(e) => panic!("{e}"),
    }
    all
}

#[test]
fn every_request_reaches_the_handler_and_its_reply_the_client() {
    let room = Room::echo(LIMITS);
    for request in [
        Request::Ask(Query::Status),
        Request::Ask(Query::Codes {
            member: Some("p-7f3a".to_string()),
        }),
        Request::Room(Command::SetRecording { on: true }),
        Request::Room(Command::Rekey),
    ] {
        assert_eq!(
            ask(&room.path(), &request).unwrap(),
            Reply::Ok(serde_json::to_value(&request).unwrap())
        );
    }
}

#[test]
fn a_refusal_of_the_room_is_a_reply() {
    let room = Room::new(LIMITS, |_| Reply::error("there is no member p-7f3a"));
    let reply = ask(&room.path(), &Request::Room(Command::Rekey)).unwrap();
    assert_eq!(reply, Reply::Error("there is no member p-7f3a".to_string()));
}

#[test]
fn typed_answers_come_back_as_they_were() {
    let codes = Codes {
        epoch: 12,
        epoch_code: "00001 ".repeat(6).trim_end().to_string(),
        pair: Some(PairCode {
            member: "p".to_string(),
            fingerprint: "ab".repeat(32),
            code: "1".to_string(),
        }),
    };
    let sent = codes.clone();
    let room = Room::new(LIMITS, move |_| Reply::answer(&sent));
    let Reply::Ok(answer) = ask(&room.path(), &Request::Ask(Query::Codes { member: None })).unwrap() else {
        panic!("it is an answer");
    };
    assert_eq!(serde_json::from_value::<Codes>(answer).unwrap(), codes);
}

#[test]
fn one_connection_serves_many_requests_and_bad_ones_in_between() {
    let room = Room::echo(LIMITS);
    let mut stream = room.connect();
    // The last one has no newline: its end is the end of what the client sends.
    stream
        .write_all(b"{\"command\":\"status\"}\nnonsense\n\n{\"command\":\"rekey\"}\n{\"command\":\"resync\"}")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let replies: Vec<Reply> = BufReader::new(&stream)
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(replies.len(), 5);
    assert_eq!(replies[0], Reply::Ok(json!({"command": "status"})));
    assert!(matches!(replies[1], Reply::Error(_)));
    assert!(matches!(replies[2], Reply::Error(_)));
    assert_eq!(replies[3], Reply::Ok(json!({"command": "rekey"})));
    assert_eq!(replies[4], Reply::Ok(json!({"command": "resync"})));
}

#[test]
fn a_large_answer_arrives_whole() {
    let text = "x".repeat(3 << 20);
    let sent = text.clone();
    let room = Room::new(LIMITS, move |_| Reply::answer(&sent));
    let reply = ask(&room.path(), &Request::Ask(Query::Status)).unwrap();
    assert_eq!(reply, Reply::Ok(json!(text)));
}

#[test]
fn who_writes_byte_by_byte_is_cut_off_and_holds_nobody_up() {
    let room = Room::echo(SHORT);
    let mut slow = room.connect();
    let begun = Instant::now();
    let mut written = 0;
    while slow.write_all(b"[").is_ok() {
        written += 1;
        assert!(begun.elapsed() < Duration::from_secs(20), "never cut off");
        if written % 8 == 0 {
            room.assert_answers();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(rest(&slow).contains("too slowly"));
    assert!(begun.elapsed() >= SHORT.line);
    room.assert_answers();
}

#[test]
fn a_request_in_single_bytes_that_comes_in_time_is_answered() {
    let room = Room::echo(LIMITS);
    let mut stream = room.connect();
    for byte in b"{\"command\":\"status\"}\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&stream), "{\"ok\":{\"command\":\"status\"}}\n");
}

#[test]
fn a_line_without_end_is_cut_off_at_the_limit() {
    let room = Room::echo(LIMITS);
    let mut stream = room.connect();
    let sent = stream.write_all(&vec![b'x'; 10 << 20]);
    assert!(sent.is_err(), "10 MB were taken");
    let reply = rest(&stream);
    assert!(reply.contains("at most 65536 bytes"), "{reply}");
    room.assert_answers();
}

#[test]
fn the_longest_request_is_taken_and_one_byte_more_is_not() {
    let room = Room::echo(LIMITS);
    let member = |length: usize| {
        let empty = Request::Room(Command::Remove {
            member: String::new(),
        });
        let request = Request::Room(Command::Remove {
            member: "x".repeat(length - empty.line().len()),
        });
        assert_eq!(request.line().len(), length);
        request
    };
    assert!(matches!(
        ask(&room.path(), &member(MAX_REQUEST)),
        Ok(Reply::Ok(_))
    ));
    let longer = member(MAX_REQUEST + 1);
    assert!(matches!(ask(&room.path(), &longer), Err(ControlError::TooLong)));
    // The server does not rely on the client for it.
    let mut stream = room.connect();
    let _ = stream.write_all(&longer.line());
    assert!(rest(&stream).contains("at most 65536 bytes"));
}

#[test]
fn who_does_not_take_the_reply_is_cut_off() {
    let room = Room::new(SHORT, |_| Reply::answer(&"x".repeat(4 << 20)));
    let mut stream = room.connect();
    stream.write_all(b"{\"command\":\"status\"}\n").unwrap();
    // Nothing is read until the server has given up, which shows in the number of its threads.
    let (clients, late) = room
        .server
        .shared
        .gone
        .wait_timeout_while(room.server.shared.clients(), Duration::from_secs(20), |c| {
            c.arrived == 0 || c.threads > 0
        })
        .unwrap();
    assert!(!late.timed_out());
    drop(clients);
    assert!(rest(&stream).len() < 4 << 20);
}

#[test]
fn a_silent_connection_ends() {
    let limits = Limits {
        silence: Duration::from_millis(50),
        ..SHORT
    };
    let room = Room::echo(limits);
    assert_eq!(rest(&room.connect()), "");
    room.assert_answers();
}

#[test]
fn a_thousand_connections_leave_room_for_one_that_asks() {
    let room = Room::echo(LIMITS);
    let held: Vec<_> = (0..1000).map(|_| room.connect()).collect();
    room.assert_answers();
    let clients = room.server.shared.clients();
    assert!(clients.open.len() <= LIMITS.clients);
    drop(clients);
    drop(held);
    room.assert_answers();
}

#[test]
fn who_asks_is_answered_while_others_flood() {
    let room = Room::echo(LIMITS);
    let stop = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for kind in 0..4 {
            let (path, stop) = (room.path(), &stop);
            scope.spawn(move || {
                while stop.load(Ordering::Relaxed) == 0 {
                    let Ok(mut stream) = UnixStream::connect(&path) else {
                        continue;
                    };
                    let junk: &[u8] = [&[][..], b"{", b"\n\n\n\n", &[0xff; 5000]][kind];
                    let _ = stream.write_all(junk);
                }
            });
        }
        let answered = (0..50)
            .filter(|_| {
                // Cut off by the flood before it was read: it comes again, as a person would.
                (0..20).any(|_| ask(&room.path(), &Request::Ask(Query::Status)).is_ok())
            })
            .count();
        stop.store(1, Ordering::Relaxed);
        assert_eq!(answered, 50);
    });
}

#[test]
fn a_request_at_work_keeps_its_place_and_others_are_told_that_all_are_busy() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (started, begun) = mpsc::channel();
    let room = Room::new(SHORT, move |_| {
        started.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
        Reply::done()
    });
    let working: Vec<_> = (0..SHORT.clients)
        .map(|_| {
            let mut stream = room.connect();
            stream.write_all(b"{\"command\":\"rekey\"}\n").unwrap();
            begun.recv_timeout(Duration::from_secs(20)).unwrap();
            stream
        })
        .collect();
    assert!(rest(&room.connect()).contains("busy"));
    for stream in &working {
        release.send(()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    for stream in &working {
        assert_eq!(rest(stream), "{\"ok\":null}\n");
    }
}

#[test]
fn a_handler_that_panics_costs_one_connection() {
    let calls = AtomicUsize::new(0);
    let room = Room::new(SHORT, move |request| {
        assert!(
            calls.fetch_add(1, Ordering::Relaxed) >= 2 * SHORT.clients,
            "on purpose"
        );
        Reply::answer(&request)
    });
    for _ in 0..2 * SHORT.clients {
        let asked = ask(&room.path(), &Request::Ask(Query::Status));
        assert!(matches!(asked, Err(ControlError::Closed(_))), "{asked:?}");
    }
    room.assert_answers();
}

#[test]
fn stopping_ends_connections_and_removes_the_socket() {
    let room = Room::echo(LIMITS);
    let path = room.path();
    let idle = room.connect();
    let mut half = room.connect();
    half.write_all(b"{\"comm").unwrap();
    let begun = Instant::now();
    drop(room.server);
    assert!(begun.elapsed() < FAREWELL, "{:?}", begun.elapsed());
    assert!(!path.exists());
    assert_eq!(rest(&idle), "");
    assert_eq!(rest(&half), "");
    assert!(matches!(
        ask(&path, &Request::Ask(Query::Status)),
        Err(ControlError::NoServer(_))
    ));
    // The next one may start at once.
    drop(ControlServer::start(&path, Arc::new(|_| Reply::done())).unwrap());
}

#[test]
fn stopping_does_not_wait_for_ever_for_a_handler() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (started, begun) = mpsc::channel();
    let room = Room::new(LIMITS, move |_| {
        started.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
        Reply::done()
    });
    let mut stream = room.connect();
    stream.write_all(b"{\"command\":\"rekey\"}\n").unwrap();
    begun.recv_timeout(Duration::from_secs(20)).unwrap();
    let stopping = Instant::now();
    drop(room.server);
    assert!(stopping.elapsed() < Duration::from_secs(10));
    assert_eq!(rest(&stream), "");
    drop(release);
}

#[test]
fn a_handler_may_be_what_holds_the_server() {
    // The last reference to the server goes away inside a handler: stopping must not wait for itself for ever.
    let held: Arc<Mutex<Option<ControlServer>>> = Arc::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("room.sock");
    let holder = held.clone();
    let server = ControlServer::start(
        &path,
        Arc::new(move |_| {
            drop(holder.lock().unwrap().take());
            Reply::done()
        }),
    )
    .unwrap();
    *held.lock().unwrap() = Some(server);
    let asked = ask(&path, &Request::Room(Command::Rekey));
    assert!(matches!(asked, Err(ControlError::Closed(_))), "{asked:?}");
    assert!(!path.exists());
}

#[test]
fn a_client_does_not_believe_a_server_that_talks_nonsense_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("room.sock");
    let listener = UnixListener::bind(&path).unwrap();
    for (answer, expected) in [
        (&b""[..], "closed"),
        (b"{\"ok\":", "closed"),
        (b"hello\n", "not a keyring's answer"),
        (b"{\"ok\":1,\"error\":\"\"}\n", "not a keyring's answer"),
    ] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                BufReader::new(stream.try_clone().unwrap())
                    .read_line(&mut String::new())
                    .unwrap();
                stream.write_all(answer).unwrap();
            });
            let error = ask(&path, &Request::Ask(Query::Status)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        });
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        });
        let error = ask(&path, &Request::Ask(Query::Status)).unwrap_err().to_string();
        assert!(error.contains("does not end"), "{error}");
    });
}
