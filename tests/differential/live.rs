//! The corpus over real sockets: the lanes of every engine read it alike, however they wait for it.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;

use duel::codec::Conn;
use duel::codec::socket::Route;
use duel::plan::endpoint::Endpoint;
use duel::plan::request::render;
use duel::plan::{Codec, RequestTemplate};

use crate::common::{ALL, Sweep, assert_books};
use crate::corpus::{Case, corpus};
use crate::wire::plan;

/// Answers the request for `/N` with the case of that number, in two pieces, and closes.
fn serve(cases: Arc<Vec<Case>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let cases = cases.clone();
            // A client that has seen enough may leave before the end.
            std::thread::spawn(move || drop(play(stream, &cases)));
        }
    });
    address
}

fn play(mut stream: TcpStream, cases: &[Case]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&piece[..count]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let number = head.split(' ').nth(1).and_then(|path| path[1..].parse::<usize>().ok());
    let bytes = &cases[number.expect("a number")].bytes;
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    stream.write_all(first)?;
    stream.write_all(rest)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the client has gone: closing with something unread would be a reset.
    while stream.read(&mut piece)? > 0 {}
    Ok(())
}

#[test]
fn every_engine_reads_the_corpus_alike() {
    let cases = Arc::new(corpus());
    let address = serve(cases.clone());
    let request = |(number, case): (usize, &Case)| {
        format!("[[plan.request]]\nmethod = '{}'\npath = '/{number}'\n", case.method)
    };
    let mix: String = cases.iter().enumerate().map(request).collect();
    let sweep = Sweep::new(&format!(
        "[target]\nurl = 'http://{address}'\n[plan]\nrequests = {}\nkeep_alive = false\n\
         timeout = '30s'\n{mix}[sweep]\nlanes = [1]{ALL}",
        2 * cases.len()
    ));
    let done = sweep.run();
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    for codec in Codec::ALL {
        let rows: Vec<_> = done.records.iter().filter(|r| r.cell.codec == codec).collect();
        // hyper calls a head that is both malformed and cut one or the other, by how it came.
        let exact = codec == Codec::Lean;
        let errors = |at: usize| exact.then_some(rows[at].errors);
        let read = |at: usize| (rows[at].ledger, errors(at), &rows[at].statuses);
        for at in 0..rows.len() {
            let (id, first) = (&rows[at].cell.id, &rows[0].cell.id);
            assert_books(rows[at]);
            assert_eq!(rows[at].ledger.timed_out, 0, "{id}: {:?}", rows[at].error);
            assert_eq!(read(at), read(0), "{id} and {first}: {:?}", rows[at].error);
        }
    }
}

/// Answers each request of a connection in one write.
fn answer(listener: TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&piece[..count]),
        }
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
    }
}

/// What a codec completes by itself wakes nobody: a task is polled once to send, and once more when
/// its answer is there.
#[test]
fn a_request_takes_two_polls_of_its_task() {
    const REQUESTS: usize = 60;
    for codec in Codec::ALL {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let target = Endpoint::Tcp(listener.local_addr().expect("bound"));
        std::thread::spawn(move || drop(answer(listener)));
        let request = render(&plan(vec![RequestTemplate::default()])).expect("a request");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let polls = runtime.block_on(async {
            let route = Route::new(&target, 0, 0, 1);
            let made = Conn::<tokio::net::TcpStream>::connect_async(codec, route, None).await;
            let mut connection = made.expect("connected").connection;
            let mut polls = 0;
            for _ in 0..REQUESTS {
                connection.prepare(&request[0]);
                let mut exchange = pin!(connection.exchange_async(&request[0]));
                let reply = poll_fn(|cx| {
                    polls += 1;
                    exchange.as_mut().poll(cx)
                });
                assert!(reply.await.expect("an answer").keep);
            }
            polls
        });
        // A wake-up may find nothing, but not with every request.
        assert!(polls < REQUESTS * 5 / 2, "{codec:?}: {polls} polls of {REQUESTS} requests");
    }
}
